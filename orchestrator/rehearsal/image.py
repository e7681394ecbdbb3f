"""The guest's disk: a Debian tree (dear, kept) with our files laid over it (cheap).

No loop device, no mount and no network at boot: mmdebstrap makes a tree, mke2fs fills an ext4
image from it, debugfs adds files to a copy.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath

from orchestrator.model.errors import RehearsalError
from orchestrator.rehearsal.apt import AptHost, read_apt
from orchestrator.rehearsal.cache import drop_old, kept
from orchestrator.rehearsal.tools import Progress, quiet, run_tool

_FORMAT = 7
"""Raised when the way an image is made changes."""

_IMAGE_SIZE = "2G"
"""Sparse: only what is used takes room on the host."""

PACKAGES = (
    "systemd",
    "systemd-sysv",
    "dbus",
    "udev",
    "kmod",
    "python3",
    "criu",
    "nftables",
    "iproute2",
    "procps",
    "netbase",
    "login",
    "python3-pydantic",
    "python3-networkx",
    "python3-tenacity",
    "python3-structlog",
    "python3-cffi-backend",
    "python3-click",
    "python3-rich",
    "python3-yaml",
)

LEFT_OUT = (
    "/usr/share/doc/*",
    "/usr/share/man/*",
    "/usr/share/info/*",
    "/usr/share/locale/*",
    "/usr/share/i18n/*",
)


@dataclass(frozen=True)
class Recipe:
    """What a Debian tree is made of. Its digest is the tree's identity."""

    suite: str = "forky"
    packages: tuple[str, ...] = PACKAGES
    extra_suites: tuple[str, ...] = ()
    """Suites to take packages from besides `suite`."""
    left_out: tuple[str, ...] = LEFT_OUT
    files: Mapping[str, str] = field(default_factory=dict)
    """Configuration that must be there before packages are configured: path -> text."""

    def digest(self, apt: AptHost) -> str:
        """SHA-256 over the recipe and where its packages come from."""
        parts = {"format": _FORMAT, "size": _IMAGE_SIZE, "mirror": apt.mirror, **asdict(self)}
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class LayerFile:
    """A file to lay over the tree: its bytes, or a file of this host, and its mode."""

    content: bytes | Path
    mode: int = 0o644

    def digest(self) -> str:
        data = self.content if isinstance(self.content, bytes) else self.content.read_bytes()
        return f"{self.mode:o}:{hashlib.sha256(data).hexdigest()}"


Layer = Mapping[str, "LayerFile | str"]
"""Guest path -> file, or the target of a symbolic link."""


def base_image(recipe: Recipe, progress: Progress = quiet) -> Path:
    """The ext4 image of a recipe's Debian tree, from the cache or made now (about 30 s).

    Raises:
        RehearsalError: a tool is missing or failed.
    """
    apt = read_apt()

    def make(product: Path, work: Path) -> None:
        root = os.geteuid() == 0
        made = work / ("tree" if root else "tree.tar")
        progress(f"guest image: Debian {recipe.suite} by mmdebstrap (once, about half a minute)")
        run_tool(_mmdebstrap(recipe, apt, made, work), timeout=1200, what="make the guest tree")
        progress("guest image: ext4 file system")
        if root:
            run_tool(_mke2fs(made, product), timeout=300, what=_FILL)
        else:
            _tar_to_ext4(made, product, work)

    image = kept("debian", recipe.digest(apt), ".ext4", make)
    drop_old("debian", keep=4)
    return image


def _mmdebstrap(recipe: Recipe, apt: AptHost, target: Path, work: Path) -> list[str | Path]:
    form = "tar" if target.suffix == ".tar" else "directory"
    command: list[str | Path] = ["mmdebstrap", "--variant=minbase", f"--format={form}"]
    command += [f"--aptopt={line}" for line in apt.options]
    # The tree is packed and removed at once: to sync its files one by one buys nothing.
    command.append("--dpkgopt=force-unsafe-io")
    command += [f"--dpkgopt=path-exclude={pattern}" for pattern in recipe.left_out]
    command.append(f"--include={','.join(recipe.packages)}")
    if recipe.files:
        command.append(f"--essential-hook=tar-in {_files_tar(recipe, work)} /")
    suites = (recipe.suite, *recipe.extra_suites)
    return [*command, recipe.suite, target, *(apt.source(suite) for suite in suites)]


def _files_tar(recipe: Recipe, work: Path) -> Path:
    target = work / "files.tar"
    with tarfile.open(target, "w") as archive:
        for path, text in sorted(recipe.files.items()):
            data = text.encode()
            member = tarfile.TarInfo(path.lstrip("/"))
            member.size = len(data)
            member.mode = 0o755 if text.startswith("#!") else 0o644
            archive.addfile(member, io.BytesIO(data))
    return target


_FILL = "make the guest's file system"


def _tar_to_ext4(tree_tar: Path, product: Path, work: Path) -> None:
    """Unpack and fill for who is not root: fakeroot remembers owners and devices in between."""
    tree = work / "tree"
    tree.mkdir()
    state = work / "fakeroot"
    unpack: list[str | Path] = ["tar", "-C", tree, "-xpf", tree_tar, "--numeric-owner"]
    run_tool(["fakeroot", "-s", state, "--", *unpack], timeout=300, what=_FILL)
    run_tool(["fakeroot", "-i", state, "--", *_mke2fs(tree, product)], timeout=300, what=_FILL)


def _mke2fs(tree: Path, product: Path) -> list[str | Path]:
    options = ["-q", "-t", "ext4", "-m", "0", "-E", "lazy_itable_init=0,root_owner=0:0"]
    return ["mke2fs", *options, "-d", tree, product, _IMAGE_SIZE]


def copy_out(image: Path, inside: str, target: Path) -> None:
    """Copy one regular file of an unmounted image to `target`.

    Raises:
        RehearsalError: there is no such file.
    """
    what = f"read {inside} from the guest image"
    request = f"dump {_plain(inside)} {_plain(str(target))}"
    output = run_tool(["debugfs", "-R", request, image], timeout=120, what=what)
    if not target.exists() or target.stat().st_size == 0:
        raise RehearsalError(what, details=tuple(output.splitlines()))


def names_in(image: Path, directory: str) -> list[str]:
    """Names in a directory of an unmounted image."""
    command: list[str | Path] = ["debugfs", "-R", f"ls -p {_plain(directory)}", image]
    lines = run_tool(command, timeout=60, what="list a directory of the guest image").splitlines()
    # /inode/mode/uid/gid/name/size/
    fields = (line.strip().split("/") for line in lines if line.startswith("/"))
    return sorted(f[5] for f in fields if len(f) > 5 and f[5] not in {".", ".."})


def layered_image(base: Path, layer: Layer, progress: Progress = quiet) -> Path:
    """A copy of `base` with `layer` laid over it, from the cache or made now (about 1 s)."""
    parts = {p: f.digest() if isinstance(f, LayerFile) else f"-> {f}" for p, f in layer.items()}
    text = json.dumps([_FORMAT, base.name, parts], sort_keys=True)

    def make(product: Path, work: Path) -> None:
        progress(f"guest image: laying {len(layer)} of our files over it")
        copy: list[str | Path] = ["cp", "--sparse=always", "--reflink=auto", base, product]
        run_tool(copy, timeout=120, what="copy the guest image")
        lay_over(product, layer, work)

    image = kept("guest", hashlib.sha256(text.encode()).hexdigest(), ".ext4", make)
    drop_old("guest", keep=6)
    return image


def lay_over(image: Path, layer: Layer, work: Path) -> None:
    """Write files into an unmounted ext4 image. Existing ones are replaced; owner is root."""
    commands: list[str] = []
    known: set[str] = set()
    for number, (path, entry) in enumerate(sorted(layer.items())):
        target = PurePosixPath(_plain(path))
        for parent in reversed(target.parents):
            if str(parent) not in known and str(parent) != "/":
                known.add(str(parent))
                # Not "mkdir /name": debugfs takes that for a name in its current directory.
                commands += [f"cd {parent.parent}", f"mkdir {parent.name}"]
        commands += [f"cd {target.parent}", f"rm {target.name}"]
        if isinstance(entry, str):
            commands.append(f"symlink {target.name} {_plain(entry)}")
            continue
        source = entry.content if isinstance(entry.content, Path) else work / f"layer{number}"
        if isinstance(entry.content, bytes):
            source.write_bytes(entry.content)
        commands.append(f"write {_plain(str(source))} {target.name}")
        commands.append(f"set_inode_field {target.name} mode 0{0o100000 | entry.mode:o}")
    script = work / "debugfs.script"
    script.write_text("\n".join(commands) + "\n", encoding="utf-8")
    what = "lay files over the guest image"
    output = run_tool(["debugfs", "-w", "-f", script, image], timeout=120, what=what)
    problems = _debugfs_problems(output)
    if problems:
        raise RehearsalError(f"{what}: debugfs complained", details=tuple(problems[-25:]))


def _debugfs_problems(output: str) -> list[str]:
    """debugfs ends with 0 whatever happens: errors are the lines that are no echo of ours.

    That a directory is there already, or a file to be replaced is not, is expected.
    """
    expected = ("debugfs", "Allocated inode", "mkdir: Ext2 directory already exists")
    fine = ("File not found by ext2_lookup", "already exists")
    lines = (line.strip() for line in output.splitlines())
    return [
        line
        for line in lines
        if line and not line.startswith(expected) and not any(f in line for f in fine)
    ]


def _plain(path: str) -> str:
    """debugfs splits its commands at spaces and has no way to say what is meant."""
    if any(c.isspace() or c in "\"'\\" for c in path) or not path:
        raise RehearsalError(f"a path for the guest image may not hold spaces or quotes: {path!r}")
    return path
