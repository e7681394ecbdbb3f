"""The guest's build follows the host's apt, and invents nothing."""

from __future__ import annotations

from orchestrator.rehearsal.apt import AptHost, first_mirror, passed_on
from orchestrator.rehearsal.debian import version_key

DUMP = """APT "";
APT::Architecture "amd64";
Acquire::Check-Valid-Until "false";
Acquire::http::Proxy "http://proxy.example:3128";
Acquire::https::Proxy "";
APT::Update::Post-Invoke:: "rm -rf /";
Dir::Etc::sourcelist "sources.list";
Acquire::Retries "3";
"""


def test_only_settings_about_reaching_the_archive_are_taken_over() -> None:
    assert passed_on(DUMP) == (
        'Acquire::Check-Valid-Until "false"',
        'Acquire::Retries "3"',
        'Acquire::http::Proxy "http://proxy.example:3128"',
    )
    assert passed_on("") == ()


def test_the_security_archive_is_no_mirror() -> None:
    targets = "http://mirror.example/debian-security/\nhttp://mirror.example/debian/\n"
    assert first_mirror(targets) == "http://mirror.example/debian"
    assert first_mirror("http://mirror.example/ubuntu/\n") is None


def test_a_source_line_names_the_keyring_only_if_there_is_one() -> None:
    assert AptHost("m", None, ()).source("forky") == "deb m forky main"


def test_kernels_sort_by_number_not_by_letter() -> None:
    names = ["linux-image-7.2.12+deb13-cloud-amd64", "linux-image-7.2.9+deb13-cloud-amd64"]
    assert sorted(names, key=version_key) == [names[1], names[0]]
