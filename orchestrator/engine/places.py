"""Where the journal may live: a directory of our own that survives a reset."""

from __future__ import annotations

import errno
import os
import shlex
import stat
from collections.abc import Callable
from pathlib import Path

from orchestrator.model.errors import JournalError

Volatile = Callable[[Path], str | None]
"""Given a directory: the name of its file system if that is lost at a reset, else None."""


_FULL = {errno.ENOSPC, errno.EDQUOT}


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
    except OSError as error:
        raise _unusable(path, error) from error
    require_own_directory(path)


def require_own_directory(path: Path) -> None:
    """As `own_directory`, but nothing is made: a directory that is missing is an error."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise _unusable(path, error) from error
    try:
        _check_ours(os.fstat(handle), path, 0o700)
    finally:
        os.close(handle)


def _unusable(path: Path, error: OSError) -> JournalError:
    return JournalError(
        f"the state directory cannot be used: {error.strerror}",
        where=str(path),
        state="nothing was changed",
        next_command=f"{'df -h' if error.errno in _FULL else 'ls -ld'} {path.parent}",
    )


def own_file(path: Path) -> None:
    """Raise JournalError unless `path` is a regular file of ours, mode 0600, with one name."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise JournalError(
            f"cannot be opened: {error.strerror}", where=str(path), state="nothing was changed"
        ) from error
    try:
        check_own(handle, path)
    finally:
        os.close(handle)


def read_own(path: Path, limit: int) -> bytes | None:
    """The first `limit` bytes of a file that `own_file` would pass; None for anything else: what
    others put there says nothing."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        check_own(handle, path)
        return os.read(handle, limit)
    except (OSError, JournalError):
        return None
    finally:
        os.close(handle)


def check_own(handle: int, path: Path) -> None:
    """Raise JournalError unless what is open is what `own_file` asks for."""
    found = os.fstat(handle)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
        raise JournalError(
            "not a plain file with one name", where=str(path), state="nothing was changed"
        )
    _check_ours(found, path, 0o600)


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


def is_full(path: Path) -> bool:
    """There is hardly any room on the file system of this file. Asked once something went wrong:
    SQLite has several errors for it."""
    try:
        found = os.statvfs(path.parent)
    except OSError:
        return False
    return found.f_bavail * found.f_frsize < _HARDLY_ANY


_HARDLY_ANY = 2**20


def df(path: Path) -> str:
    """The command that shows how much room there is beside this file."""
    return f"df -h {shlex.quote(str(path.parent))}"


def stamp_of(path: Path) -> tuple[tuple[int, ...] | None, ...]:
    """Changes when SQLite writes the file at `path`, or its log."""
    stamps: list[tuple[int, ...] | None] = []
    for name in (path, path.with_name(f"{path.name}-wal")):
        try:
            found = name.stat()
        except OSError:
            stamps.append(None)
        else:
            stamps.append((found.st_ino, found.st_size, found.st_mtime_ns))
    return tuple(stamps)


def inodes_of(*paths: str) -> list[tuple[int, int] | None]:
    """Which files have these names now (device and inode); None: none has.

    SQLite goes on with a file that was removed or replaced, and whatever it commits there is
    gone with the process (https://www.sqlite.org/howtocorrupt.html#unlink)."""
    return [_inode_of(path) for path in paths]


def _inode_of(path: str) -> tuple[int, int] | None:
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable (fsync(2): a new file's name is not otherwise)."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_again(path: Path) -> None:
    """Write a file over with what it holds, and sync it; nothing if it is not there.

    After an fsync that failed, Linux calls the pages clean: they can be read as long as they
    stay in memory, but no later fsync writes them (https://lwn.net/Articles/752063/). Written
    again they are dirty, and the next fsync tells the truth. Only for files that hold still.
    """
    try:
        handle = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        offset = 0
        while piece := os.pread(handle, _PIECE, offset):
            offset += os.pwrite(handle, piece, offset)
        os.fsync(handle)
    finally:
        os.close(handle)


_PIECE = 2**20
