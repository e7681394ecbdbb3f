"""The Debian package is built, held to lintian's errors, and put through the real dpkg.

On a Debian that has what the build needs: here, without installing anything. In a tree that
$MKUPGRADE_DEBIAN_TREE names (`make debian-package` makes one): there, with installing it.
"""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.images import bz_image, kernel

PROJECT = Path(__file__).parents[2]
TREE = os.environ.get("MKUPGRADE_DEBIAN_TREE")
RELEASE = "99.1.0-amd64"
TEMPLATE = """\
api_version: mkupgrade/v1
metadata: {name: packaged}
instances:
  - name: host
    kernel: {image: /boot/vmlinuz-1, initrd: /boot/initrd.img-1, release: "1"}
"""
SCRIPT = """\
#!/bin/sh
set -e
export DEB_MAINT_PARAMS="$*"
exec run-parts --report --exit-on-error --arg={release} --arg=/boot/vmlinuz-{release} \\
    /etc/kernel/{directory}
"""
CONTROL = """\
Package: linux-image-{release}
Version: 1
Architecture: all
Maintainer: Nobody <nobody@example.org>
Description: a kernel of the tests' own
"""


def missing() -> str | None:
    """Why the package cannot be built here."""
    if TREE is not None:
        return None
    for program in ("dpkg-buildpackage", "lintian", "dh"):
        if shutil.which(program) is None:
            return f"no {program}; `make debian-package` has it in a tree of its own"
    asked = subprocess.run(
        ["dpkg-checkbuilddeps", str(PROJECT / "debian/control")],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return asked.stderr.strip() or None


WHY_NOT = missing()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(WHY_NOT is not None, reason=f"the Debian package is not built: {WHY_NOT}"),
]


def run(argv: Sequence[str], directory: str) -> str:
    """Run a program here or in the tree; what it says. It must end with 0."""
    if TREE is not None:
        inside = ["unshare", "--mount", "--pid", "--fork", f"--root={TREE}", "--mount-proc"]
        argv = [*inside, "env", "-C", directory, *argv]
    done = subprocess.run(
        argv, cwd=None if TREE else directory, capture_output=True, text=True, timeout=500,
        check=False, stdin=subprocess.DEVNULL,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "HOME": "/nonexistent"},
    )  # fmt: skip
    said = done.stdout + done.stderr
    assert done.returncode == 0, said[-4000:]
    return said


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The directory with the packages, as a path where `run` runs."""
    place = Path(TREE) / "build" if TREE else tmp_path_factory.mktemp("debian")
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    listed = subprocess.run(
        ["git", "-C", str(PROJECT), "ls-files", "-z"], capture_output=True, check=True, timeout=60
    )
    for name in filter(None, os.fsdecode(listed.stdout).split("\0")):
        if not name.startswith(("tests/", "benchmarks/")):
            target = place / "source" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(PROJECT / name, target)
    inside = "/build" if TREE else str(place)
    run(["dpkg-buildpackage", "--build=binary", "--unsigned-changes"], f"{inside}/source")
    return inside


def deb(built: str) -> Path:
    """The package, as this process sees it."""
    place = Path(TREE) / "build" if TREE else Path(built)
    (found,) = place.glob("mkupgrade_*.deb")
    return found


def test_lintian_has_no_errors(built: str) -> None:
    changes = deb(built).with_suffix(".changes").name
    said = run(["lintian", "--fail-on", "error", "--allow-root", changes], built)
    print(said)
    assert "E: " not in said


def test_the_package_holds_command_units_and_hooks(built: str) -> None:
    listed = run(["dpkg-deb", "--contents", deb(built).name], built)
    for name in (
        "usr/bin/mkupgrade",
        "usr/lib/systemd/system/mkupgrade-resume.service",
        "usr/lib/systemd/system/mkupgrade-offer.timer",
        "usr/lib/kernel/install.d/95-mkupgrade.install",
        "etc/kernel/postinst.d/zz-z-mkupgrade",
        "etc/kernel/postrm.d/zz-z-mkupgrade",
        "usr/share/doc/mkupgrade/distributions.md",
        "system/_native.abi3.so",
        "system/_libfdt.abi3.so",
    ):
        assert name in listed, name


def test_installing_it_starts_stops_and_enables_nothing(built: str) -> None:
    run(["dpkg-deb", "--control", deb(built).name, "scripts"], built)
    scripts = (deb(built).parent / "scripts").iterdir()
    said = "".join(p.read_text() for p in scripts if p.name in {"postinst", "prerm", "preinst"})
    assert "deb-systemd-invoke" not in said
    assert "deb-systemd-helper --quiet was-enabled" in said


@pytest.mark.skipif(TREE is None, reason="it is installed in a tree only: `make debian-package`")
def test_an_installed_package_offers_the_kernels_that_dpkg_brings(built: str) -> None:
    assert TREE is not None
    root = Path(TREE)
    (root / "etc/mkupgrade/plan.yaml").unlink(missing_ok=True)  # of a run that was cut off
    run(["dpkg", "--install", deb(built).name], built)
    try:
        image = _kernel_package(root / "build")
        assert "not offered: there is no template" in run(["dpkg", "--install", image], built)
        run(["dpkg", "--purge", f"linux-image-{RELEASE}"], built)
        (root / "etc/mkupgrade/plan.yaml").write_text(TEMPLATE)
        said = run(["dpkg", "--install", image], built)
        assert f"mkupgrade: Linux {RELEASE}: offered for instance host: mkupgrade apply" in said
        offer = "/var/lib/mkupgrade/offers/host.yaml"
        assert f"mkupgrade apply {offer}" in run(["mkupgrade", "status"], "/")
        assert "packaged" in run(["mkupgrade", "validate", offer], "/")
        said = run(["dpkg", "--remove", f"linux-image-{RELEASE}"], built)
        assert "not offered any more" in said
        assert offer not in run(["mkupgrade", "status"], "/")
    finally:
        run(["dpkg", "--purge", "mkupgrade", f"linux-image-{RELEASE}"], built)
        (root / "etc/mkupgrade/plan.yaml").unlink(missing_ok=True)
    assert not list(root.glob("etc/kernel/*/*mkupgrade"))


def _kernel_package(directory: Path) -> str:
    tree = directory / "kernel"
    (tree / "boot").mkdir(parents=True)
    (tree / "DEBIAN").mkdir()
    inside = gzip.compress(kernel(RELEASE))
    image = bz_image(inside, banner=f"{RELEASE} (who@where) #1 SMP".encode())
    (tree / f"boot/vmlinuz-{RELEASE}").write_bytes(image)
    (tree / f"boot/initrd.img-{RELEASE}").write_bytes(b"070701" + b"0" * 200)
    (tree / "DEBIAN/control").write_text(CONTROL.format(release=RELEASE))
    for name in ("postinst", "postrm"):
        script = tree / "DEBIAN" / name
        script.write_text(SCRIPT.format(release=RELEASE, directory=f"{name}.d"))
        script.chmod(0o755)
    run(["dpkg-deb", "--root-owner-group", "--build", "kernel", "kernel.deb"], "/build")
    return "kernel.deb"
