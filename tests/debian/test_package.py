"""The Debian package is built from these sources, and lintian has nothing to say."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.debian_tree import View

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def deb(package: Path) -> str:
    (found,) = package.glob("mkupgrade_*.deb")
    return f"/debs/{found.name}"


def test_lintian_has_nothing_to_say(host: View, package: Path) -> None:
    changes = deb(package).removesuffix(".deb") + ".changes"
    said = host.said("lintian", "--fail-on", "error,warning", "--allow-root", changes)
    print(f"{said}packages: {package}")
    assert "E: " not in said
    assert "W: " not in said


def test_the_package_holds_command_units_hooks_and_manual(host: View, package: Path) -> None:
    listed = host.said("dpkg-deb", "--contents", deb(package))
    for name in (
        "usr/bin/mkupgrade",
        "usr/lib/systemd/system/mkupgrade-resume.service",
        "usr/lib/systemd/system/mkupgrade-offer.timer",
        "usr/lib/kernel/install.d/95-mkupgrade.install",
        "etc/kernel/postinst.d/zz-z-mkupgrade",
        "etc/kernel/postrm.d/zz-z-mkupgrade",
        "etc/apt/apt.conf.d/90mkupgrade",
        "usr/libexec/mkupgrade/apt-post-invoke",
        "usr/share/doc/mkupgrade/distributions.md",
        "usr/share/man/man1/mkupgrade.1.gz",
        "usr/share/bash-completion/completions/mkupgrade",
        "usr/share/zsh/vendor-completions/_mkupgrade",
        "usr/share/fish/vendor_completions.d/mkupgrade.fish",
        "system/_native.abi3.so",
        "system/_libfdt.abi3.so",
    ):
        assert name in listed, name
    assert "__pycache__" not in listed


def test_installing_it_starts_stops_and_enables_nothing(host: View, package: Path) -> None:
    host.run("dpkg-deb", "--control", deb(package), "/scripts")
    scripts = host.path("/scripts").iterdir()
    said = "".join(p.read_text() for p in scripts if p.name in {"postinst", "prerm", "preinst"})
    assert "deb-systemd-invoke" not in said
    assert "deb-systemd-helper --quiet was-enabled" in said


def test_the_manual_page_and_the_completion_are_the_commands_own(host: View, package: Path) -> None:
    host.run("dpkg-deb", "--extract", deb(package), "/unpacked")
    page = host.said("man", "--local-file", "/unpacked/usr/share/man/man1/mkupgrade.1.gz")
    for word in ("mkupgrade - change the Linux kernel", "rollback", "Bring the old kernel back",
                 "/etc/mkupgrade/plan.yaml"):  # fmt: skip
        assert word in page, page
    script = "/unpacked/usr/share/bash-completion/completions/mkupgrade"
    said = host.said("bash", "-c", f". {script} && complete -p mkupgrade")
    assert said.startswith("complete -o nosort -F _mkupgrade_completion mkupgrade")


def test_what_autopkgtest_runs_passes(installed: View) -> None:
    text = (Path(__file__).parents[2] / "debian/tests/simulated").read_text(encoding="utf-8")
    script = installed.path("/simulated")
    script.write_text(text, encoding="utf-8")
    scratch = installed.path("/scratch")
    scratch.mkdir()
    said = installed.said("sh", "/simulated", directory="/scratch", AUTOPKGTEST_TMP="/scratch")
    assert "Committed: Linux 7.2.13 -> 7.3.4" in said
    assert "rolled-back" in said
