"""A Debian tree that knows how to build our package, and throw-away views of it."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from orchestrator.rehearsal.apt import read_apt
from orchestrator.rehearsal.cache import drop_old, kept
from orchestrator.rehearsal.tools import run_tool

PROJECT = Path(__file__).parents[2]
SUITE = os.environ.get("SUITE", "trixie")
"""The first Debian whose libraries are new enough."""
_MORE = ("build-essential", "lintian", "systemd")
"""systemd brings kernel-install and its own plugins."""
_VIRTUAL = {"debhelper-compat": "debhelper", "dh-sequence-python3": "dh-python"}
_LEAN = (
    "--variant=minbase",
    "--dpkgopt=force-unsafe-io",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
    "--dpkgopt=path-exclude=/usr/share/man/*",
    '--aptopt=Acquire::Languages "none"',
)
_ENVIRONMENT = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C.UTF-8",
    "HOME": "/nonexistent",
    "DEBIAN_FRONTEND": "noninteractive",
}
# A layer in memory, so that the tree stays as it was made whatever becomes of this process.
_MOUNT = """
set -e
mount -t tmpfs -o mode=0755 none "$2"
mkdir "$2/upper" "$2/work" "$2/root"
mount -t overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" none "$2/root"
mount -t proc none "$2/root/proc"
mount -t devpts -o newinstance,ptmxmode=0666 none "$2/root/dev/pts"
echo mounted
cat >/dev/null
"""


def missing() -> str | None:
    """Why there can be no tree here, as far as a quick look tells."""
    if os.geteuid() != 0:
        return "takes root"
    wanted = ("mmdebstrap", "unshare", "nsenter", "git")
    lacking = [program for program in wanted if shutil.which(program) is None]
    return f"no {', '.join(lacking)}" if lacking else None


def build_needs() -> list[str]:
    """Packages of debian/control's Build-Depends, those in the place of virtual ones."""
    control = (PROJECT / "debian/control").read_text(encoding="utf-8")
    listed = re.search(r"^Build-Depends:\n((?: .*\n)+)", control, re.MULTILINE)
    assert listed is not None
    names = re.findall(r"^ ([a-z0-9+.-]+)", listed[1], re.MULTILINE)
    return sorted({_VIRTUAL.get(name, name) for name in names})


def tree() -> Path:
    """The tree, made the first time: some 250 MB from the archive that this host's apt uses
    ($MKUPGRADE_MIRROR: another one); then kept in the cache.

    Raises:
        RehearsalError: it cannot be made.
    """
    apt = read_apt()
    packages = ",".join([*_MORE, *build_needs()])
    options = [*_LEAN, *(f"--aptopt={option}" for option in apt.options)]
    argv = ["mmdebstrap", *options, f"--include={packages}", SUITE]

    def make(product: Path, work: Path) -> None:
        del work
        run_tool(
            [*argv, product, apt.source(SUITE)], timeout=1500, what="make the package's Debian tree"
        )

    digest = hashlib.sha256("\0".join(argv).encode()).hexdigest()
    made = kept("package-tree", digest, "", make)
    drop_old("package-tree", keep=2)
    return made


class View:
    """A tree, seen by processes of its own, whose changes are gone with them."""

    def __init__(self, place: Path, holder: int) -> None:
        self._root = place / "root"
        self._holder = holder

    def path(self, inside: str) -> Path:
        """A path of the view, as this process reads and writes it."""
        return Path(f"/proc/{self._holder}/root{self._root}{inside}")

    def run(
        self, *argv: str, directory: str = "/", code: int = 0, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a program in the view; it must end with `code`. stderr is a part of stdout."""
        done = subprocess.run(
            ["nsenter", f"--target={self._holder}", "--mount",
             f"--pid=/proc/{self._holder}/ns/pid_for_children",
             "chroot", str(self._root), "env", "-C", directory, *argv],
            text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=500, check=False,
            stdin=subprocess.DEVNULL, env=_ENVIRONMENT | environment,
        )  # fmt: skip
        assert done.returncode == code, (
            f"{argv} ended with {done.returncode}:\n{done.stdout[-2000:]}"
        )
        return done

    def said(self, *argv: str, directory: str = "/", **environment: str) -> str:
        return self.run(*argv, directory=directory, **environment).stdout


@contextmanager
def view(of: Path, place: Path) -> Iterator[View]:
    """A view of a tree.

    Args:
        place: an empty directory, to mount on in a namespace of its own.
    """
    argv = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", _MOUNT, "sh"]
    with subprocess.Popen(
        [*argv, str(of), str(place)], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stdout.readline() == "mounted\n", "a layer cannot be mounted on the tree"
        yield View(place, holder.pid)
        holder.stdin.close()


def sources() -> list[Path]:
    """What the package is built from, relative to the project."""
    listed = subprocess.run(
        ["git", "-C", str(PROJECT), "ls-files", "-z"], capture_output=True, check=True, timeout=60
    )
    names = filter(None, os.fsdecode(listed.stdout).split("\0"))
    found = (Path(n) for n in names if not n.startswith(("tests/", "benchmarks/")))
    return [path for path in found if (PROJECT / path).is_file()]


def built(place: Path) -> Path:
    """The directory with the packages and their .changes, built unless it was from these sources.

    Args:
        place: an empty directory, for a view.

    Raises:
        RehearsalError: there is no tree.
    """
    base, listed = tree(), sources()
    digest = hashlib.sha256(base.name.encode())
    for path in listed:
        digest.update(f"{path}\0{(PROJECT / path).stat().st_mode}\0".encode())
        digest.update(hashlib.sha256((PROJECT / path).read_bytes()).digest())

    def make(product: Path, work: Path) -> None:
        del work
        with view(base, place) as seen:
            for path in listed:
                target = seen.path("/build/source") / path
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(PROJECT / path, target)
            said = seen.said(
                "dpkg-buildpackage", "--build=binary", "--unsigned-changes",
                directory="/build/source",
            )  # fmt: skip
            product.mkdir()
            for file in seen.path("/build").glob("mkupgrade*"):
                shutil.copyfile(file, product / file.name)
            (product / "build.log").write_text(said, encoding="utf-8")

    made = kept("debian-package", digest.hexdigest(), "", make)
    drop_old("debian-package", keep=5)
    return made


def put_packages(seen: View, packages: Sequence[Path]) -> list[str]:
    """Files into /debs of a view, readable to apt's own user; their paths there."""
    directory = seen.path("/debs")
    directory.mkdir(exist_ok=True)
    for package in packages:
        shutil.copyfile(package, directory / package.name)
        (directory / package.name).chmod(0o644)
    return [f"/debs/{package.name}" for package in packages]
