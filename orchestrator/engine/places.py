"""Where the journal may live: a directory of our own that survives a reset."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

from orchestrator.model.errors import JournalError

Volatile = Callable[[Path], str | None]
"""Given a directory: the name of its file system if that is lost at a reset, else None."""

_VOLATILE_TYPES = frozenset({"tmpfs", "ramfs", "devtmpfs", "rootfs"})


def own_directory(path: Path) -> None:
    """Make sure that `path` is a directory of ours, mode 0700; make it if it is missing.

    Raises:
        JournalError: it is a link or no directory, belongs to somebody else, or others may
            look into it. Nothing is changed then.
    """
    try:
        if not path.exists() and not path.is_symlink():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.mkdir(mode=0o700)
            sync_directory(path.parent)
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise JournalError(
            f"the state directory cannot be used: {error.strerror}",
            where=str(path),
            state="nothing was changed",
        ) from error
    try:
        _check_ours(os.fstat(handle), path, 0o700)
    finally:
        os.close(handle)


def own_file(path: Path) -> None:
    """Raise JournalError unless `path` is a regular file of ours, mode 0600, with one name."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise JournalError(
            f"cannot be opened: {error.strerror}", where=str(path), state="nothing was changed"
        ) from error
    try:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
            raise JournalError(
                "not a plain file with one name", where=str(path), state="nothing was changed"
            )
        _check_ours(found, path, 0o600)
    finally:
        os.close(handle)


def _check_ours(found: os.stat_result, path: Path, mode: int) -> None:
    if found.st_uid != os.geteuid():
        raise JournalError(
            f"belongs to user {found.st_uid}, not to us (user {os.geteuid()})",
            where=str(path),
            state="nothing was changed",
        )
    if stat.S_IMODE(found.st_mode) & ~mode & 0o7777:
        raise JournalError(
            f"others may use it (mode {stat.S_IMODE(found.st_mode):04o})",
            where=str(path),
            state="nothing was changed",
            next_command=f"chmod {mode:04o} {path}",
        )


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable (fsync(2): a new file's name is not otherwise)."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def volatile_file_system(path: Path) -> str | None:
    """The type of the file system that holds `path` if it lives in memory only, else None.

    Read from /proc/self/mountinfo (proc_pid_mountinfo(5)); an overlay is as volatile as its
    upper directory.
    """
    mount = _mount_of(path.resolve())
    if mount is None:
        return None
    kind, options = mount
    if kind in _VOLATILE_TYPES:
        return kind
    upper = options.get("upperdir")
    if kind == "overlay" and upper:
        below = _mount_of(Path(upper))
        if below and below[0] in _VOLATILE_TYPES:
            return f"overlay on {below[0]}"
    return None


def _mount_of(path: Path) -> tuple[str, dict[str, str]] | None:
    """(type, options of the super block) of the last mount on the longest path."""
    best: tuple[int, str, dict[str, str]] | None = None
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        before, _, after = line.partition(" - ")
        point = Path(_unescape(before.split()[4]))
        if path.is_relative_to(point) and (best is None or len(point.parts) >= best[0]):
            kind, _, options = after.split(" ", 2)
            pairs = (option.partition("=") for option in options.split(","))
            best = (len(point.parts), kind, {k: _unescape(v) for k, _, v in pairs})
    return best[1:] if best else None


def _unescape(text: str) -> str:
    for code, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, char)
    return text
