"""Open files, sockets and mounts: what a process holds that lives in memory only.

Sources: proc_pid_fd(5), proc_pid_mountinfo(5).
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from orchestrator.system.proc import PROC

VOLATILE = frozenset({"tmpfs", "ramfs", "rootfs"})
"""File systems in memory: what is there survives neither a reset nor a kexec."""
_LOST = VOLATILE | {"devtmpfs"}
"""devtmpfs holds devices, which the next kernel makes anew, and whatever was put beside them."""
_DELETED = " (deleted)"


@dataclass(frozen=True)
class OpenFile:
    """One descriptor of a process."""

    fd: int
    target: str
    """A path, or what stands for one: "socket:[123]", "pipe:[4]", "anon_inode:[eventpoll]",
    "/memfd:name"."""
    deleted: bool = False
    writable: bool = False

    @property
    def is_path(self) -> bool:
        return self.target.startswith("/") and not self.target.startswith("/memfd:")

    @property
    def socket_inode(self) -> int | None:
        match = re.fullmatch(r"socket:\[(\d+)\]", self.target)
        return int(match[1]) if match else None


@dataclass(frozen=True)
class Mount:
    """One line of mountinfo."""

    point: str
    type: str
    source: str
    device: tuple[int, int]
    root: str
    """Which directory of the file system is mounted; "/" unless a bind mount."""
    options: tuple[str, ...]
    """Of the mount, then of the file system (an overlay's upperdir= is among these)."""

    @property
    def volatile(self) -> bool:
        return self.type in VOLATILE


def open_files(pid: int, proc: Path = PROC) -> list[OpenFile]:
    """The open descriptors of a process, by number; empty where it is gone or not ours to see."""
    found = []
    try:
        entries = sorted((proc / str(pid) / "fd").iterdir(), key=lambda e: int(e.name))
    except OSError:
        return []
    for entry in entries:
        try:
            target = str(entry.readlink())
            writable = bool(entry.lstat().st_mode & stat.S_IWUSR)  # says how it was opened
        except OSError:
            continue
        deleted = target.endswith(_DELETED)
        path = target.removesuffix(_DELETED)
        found.append(OpenFile(int(entry.name), path, deleted, writable))
    return found


def mapped_files(pid: int, proc: Path = PROC) -> list[str]:
    """Paths of the files mapped into a process: program, libraries, shared memory; sorted."""
    paths = set()
    for line in _lines(proc / str(pid) / "maps"):
        fields = line.split(maxsplit=5)
        if len(fields) == 6 and fields[5].startswith("/"):
            paths.add(fields[5].removesuffix(_DELETED))
    return sorted(paths)


def mounts(pid: int | str = "self", proc: Path = PROC) -> list[Mount]:
    """The mounts that a process sees, in mount order (a later one hides an earlier one)."""
    parsed = (_parse_mount(line) for line in _lines(proc / str(pid) / "mountinfo"))
    return [mount for mount in parsed if mount is not None]


def mount_of(path: str | Path, among: list[Mount] | None = None) -> Mount | None:
    """The mount that holds an absolute path; links in it are not resolved.

    Args:
        among: from `mounts`, when many paths are looked up.
    """
    wanted = os.path.normpath(os.fspath(path))
    best: Mount | None = None
    for mount in mounts() if among is None else among:
        inside = wanted == mount.point or wanted.startswith(mount.point.rstrip("/") + "/")
        if inside and (best is None or len(mount.point) >= len(best.point)):
            best = mount
    return best


def is_volatile(path: str | Path, among: list[Mount] | None = None) -> bool:
    """Is it on a file system in memory? The path need not exist yet."""
    mount = mount_of(os.path.realpath(path), among)
    return mount is not None and mount.volatile


def lost_at_reset(path: str | Path, among: list[Mount] | None = None) -> str | None:
    """The type of the file system that holds the path if a reset empties it, else None.

    An overlay is as durable as its upper layer; one that hides it counts as lost. The path need
    not exist yet; what no mount holds counts as lost, too.
    """
    mount = mount_of(os.path.realpath(path), among)
    if mount is None:
        return "an unknown file system"
    if mount.type in _LOST:
        return mount.type
    if mount.type != "overlay":
        return None
    upper = next((o[9:] for o in mount.options if o.startswith("upperdir=")), None)
    below = mount_of(os.path.realpath(upper), among) if upper else None
    if below is None:
        return "an overlay that does not show what is below"
    return f"overlay on {below.type}" if below.type in _LOST else None


def volatile_files(pids: list[int], proc: Path = PROC) -> list[str]:
    """Paths on file systems in memory that these processes have open, mapped or as their
    working directory; sorted. Deleted files and memfds are left out: they have no path, and
    travel with the process's state.
    """
    found: set[str] = set()
    for pid in pids:
        known = mounts(pid, proc)
        paths = {f.target for f in open_files(pid, proc) if f.is_path and not f.deleted}
        paths.update(p for p in mapped_files(pid, proc) if not p.startswith("/memfd:"))
        for name in ("cwd", "root"):
            paths.update(_link(proc / str(pid) / name))
        for path in paths:
            mount = mount_of(path, known)
            if mount is not None and mount.volatile and path != mount.point:
                found.add(path)
    return sorted(found)


def socket_inodes(pids: list[int], proc: Path = PROC) -> set[int]:
    """Inode numbers of the sockets that these processes have open, as /proc/net lists them."""
    inodes = (f.socket_inode for pid in pids for f in open_files(pid, proc))
    return {inode for inode in inodes if inode is not None}


def _parse_mount(line: str) -> Mount | None:
    """`36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw`"""
    left, sep, right = line.partition(" - ")
    head, tail = left.split(" "), right.split(" ")
    if not sep or len(head) < 6 or len(tail) < 2:
        return None
    device = re.fullmatch(r"([0-9]{1,9}):([0-9]{1,9})", head[2])
    if device is None:
        return None
    return Mount(
        point=_unescape(head[4]),
        type=tail[0],
        source=_unescape(tail[1]),
        device=(int(device[1]), int(device[2])),
        root=_unescape(head[3]),
        options=tuple(_unescape(o) for o in [*head[5].split(","), *" ".join(tail[2:]).split(",")]),
    )


def _unescape(text: str) -> str:
    """The kernel writes blank, tab, newline and backslash as octal."""
    return re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), text)


def _link(path: Path) -> list[str]:
    try:
        return [str(path.readlink()).removesuffix(_DELETED)]
    except OSError:
        return []


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return []
