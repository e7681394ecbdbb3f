"""A kernel package goes through the real dpkg, in a root of its own, and is offered and withdrawn.

The package is of the tests' own: an image, and maintainer scripts that call the hooks in
/etc/kernel as Debian's do. dpkg runs them without chroot(2), so that the root needs no shell.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from orchestrator.drivers.simulated.images import PretendImage, write_image
from tests.cli.conftest import Command

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        shutil.which("dpkg-deb") is None or shutil.which("run-parts") is None,
        reason="needs dpkg and run-parts: this is no Debian",
    ),
]

PROJECT = Path(__file__).parents[2]
HOOKS = PROJECT / "orchestrator/offers/hooks/kernel"
SCRIPT = """\
#!/bin/sh
set -e
export DEB_MAINT_PARAMS="$*"
exec run-parts --report --exit-on-error --arg={release} \\
    --arg="$DPKG_ROOT/boot/vmlinuz-{release}" "$DPKG_ROOT/etc/kernel/{directory}"
"""
CONTROL = """\
Package: linux-image-{release}
Version: {version}
Architecture: all
Maintainer: Nobody <nobody@example.org>
Description: a kernel of the tests' own
"""


class Root:
    """A tree that dpkg installs into, with our hooks in it, and the command on PATH."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.root = directory / "root"
        for name in ("updates", "info", "triggers"):
            (self.root / "var/lib/dpkg" / name).mkdir(parents=True)
        (self.root / "var/lib/dpkg/status").touch()
        shutil.copytree(HOOKS, self.root / "etc/kernel")
        (self.root / "boot").mkdir()
        self.command = Command(directory)
        self.bin = directory / "bin"
        self.bin.mkdir()
        self.mkupgrade(f'exec {sys.executable} -m orchestrator.cli "$@"')

    def mkupgrade(self, body: str) -> None:
        path = self.bin / "mkupgrade"
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)

    def dpkg(self, *arguments: object) -> str:
        """What dpkg and the scripts say; it must end with 0."""
        root = f"--root={self.root}"
        forced = ["script-chrootless", "not-root", "unsafe-io"]
        done = subprocess.run(
            ["dpkg", root, *(f"--force-{f}" for f in forced), f"--log={self.directory}/log",
             *map(str, arguments)],
            env=self.command.environment | {
                "PATH": f"{self.bin}:{os.environ['PATH']}:/usr/sbin:/sbin",
                "MKUPGRADE_TEMPLATE": str(self.command.spec),
            },
            capture_output=True, text=True, timeout=100, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode == 0, (done.stdout, done.stderr)
        return done.stderr

    def package(self, release: str, version: str = "1") -> Path:
        tree = self.directory / f"build-{release}-{version}"
        write_image(tree / "boot" / f"vmlinuz-{release}", PretendImage(release=release))
        (tree / "DEBIAN").mkdir()
        (tree / "DEBIAN/control").write_text(CONTROL.format(release=release, version=version))
        for name in ("postinst", "postrm"):
            script = tree / "DEBIAN" / name
            script.write_text(SCRIPT.format(release=release, directory=f"{name}.d"))
            script.chmod(0o755)
        built = self.directory / f"{release}_{version}.deb"
        subprocess.run(
            ["dpkg-deb", "--root-owner-group", "--build", str(tree), str(built)],
            check=True, capture_output=True, timeout=60,
        )  # fmt: skip
        return built

    def offered(self) -> list[str]:
        return [o["release"] for o in self.command.json("status")["offers"]]


@pytest.fixture
def root(tmp_path: Path) -> Root:
    return Root(tmp_path)


def test_a_kernel_is_offered_as_it_comes_and_withdrawn_as_it_goes(root: Root) -> None:
    said = root.dpkg("--install", root.package("7.4.1-amd64"))
    plan = root.command.state / "offers/host.yaml"
    line = f"mkupgrade: Linux 7.4.1-amd64: offered for instance host: mkupgrade apply {plan}\n"
    assert line in said
    assert root.offered() == ["7.4.1-amd64"]
    said = root.dpkg("--install", root.package("7.4.2-amd64"))
    assert "instead of Linux 7.4.1-amd64" in said
    assert "not offered any more" in root.dpkg("--remove", "linux-image-7.4.2-amd64")
    assert root.offered() == []
    assert "was not offered" in root.dpkg("--purge", "linux-image-7.4.1-amd64")


def test_two_kernels_in_one_run_leave_the_newest_offered(root: Root) -> None:
    root.dpkg("--install", root.package("7.4.10-amd64"), root.package("7.4.9-amd64"))
    assert root.offered() == ["7.4.10-amd64"]


def test_an_upgrade_of_a_package_keeps_its_offer(root: Root) -> None:
    root.dpkg("--install", root.package("7.4.1-amd64"))
    said = root.dpkg("--install", root.package("7.4.1-amd64", version="2"))
    assert "still offered" in said
    assert "not offered any more" not in said
    assert root.offered() == ["7.4.1-amd64"]


def test_what_dpkg_brought_is_applied_by_the_command_that_is_shown(root: Root) -> None:
    root.dpkg("--install", root.package("7.4.1-amd64"))
    (offer,) = root.command.json("status")["offers"]
    root.command(*offer["next_command"].split()[1:], "--yes")
    assert root.command.json("status")["kernel"] == "7.4.1-amd64"
    assert root.offered() == []
    said = root.dpkg("--install", root.package("7.4.1-amd64", version="2"))
    assert "not offered: it runs already" in said


@pytest.mark.parametrize("body", ["exit 1", "kill -9 $$"])
def test_dpkg_installs_and_removes_where_mkupgrade_is_broken(root: Root, body: str) -> None:
    root.mkupgrade(body)
    said = root.dpkg("--install", root.package("7.4.1-amd64"))
    assert "ended with an error" in said
    root.dpkg("--remove", "linux-image-7.4.1-amd64")


def test_dpkg_installs_where_there_is_no_template(root: Root) -> None:
    root.command.spec.unlink()
    said = root.dpkg("--install", root.package("7.4.1-amd64"))
    assert "not offered: there is no template" in said
    assert f"mkupgrade validate {root.command.spec}" in said


def test_dpkg_installs_where_the_state_directory_cannot_be_written(root: Root) -> None:
    root.command.state.write_text("a file in its place")
    said: Any = root.dpkg("--install", root.package("7.4.1-amd64"))
    assert "nothing was changed" in said
