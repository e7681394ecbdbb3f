"""Writing a file that others read, into a directory that may be others', such as that of
node_exporter's textfile collector.

Whoever may write to a directory can put a link into it at any time. So links are followed only in
directories of root's, or of our own, that nobody else may write to; and the file is made, and put
into its place, by the directory that is held open.
"""

from __future__ import annotations

import errno
import os
import secrets
import shlex
import stat
from contextlib import suppress
from pathlib import Path

from orchestrator.model.errors import ErrorClass, MkupgradeError

_MOST_LINKS = 40
"""As in the kernel (include/linux/namei.h, MAXSYMLINKS)."""
_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def place(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Replace the file at `path` in one step; a link in its place is replaced, not followed.

    Raises:
        MkupgradeError: it cannot be written, or a link that others can make leads there.
    """
    try:
        directory = _open(path.parent.absolute())
        try:
            _place(directory, path.name, content, mode)
        finally:
            os.close(directory)
    except OSError as error:
        raise MkupgradeError(
            f"cannot be written: {error.strerror}",
            where=str(path),
            state="what was there before is there still",
            next_command=f"ls -ld {shlex.quote(str(path.parent))}",
            error_class=ErrorClass.IO,
        ) from error


def _place(directory: int, name: str, content: bytes, mode: int) -> None:
    with suppress(FileNotFoundError):
        if stat.S_ISDIR(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), name)
    # Not *.prom: the collector must not read a file that is half written.
    temporary = f".{name}.{secrets.token_hex(8)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    handle = os.open(temporary, flags, 0o600, dir_fd=directory)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            os.fchmod(stream.fileno(), mode)
        os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary, dir_fd=directory)
        raise


def _open(path: Path) -> int:
    """A directory, walked to from the root; the caller closes it."""
    names, links = list(path.parts[1:]), 0
    here = os.open("/", _DIRECTORY)
    try:
        while names:
            name = names.pop(0)
            found = os.stat(name, dir_fd=here, follow_symlinks=False)
            if stat.S_ISLNK(found.st_mode):
                links += 1
                if links > _MOST_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
                _require_ours(here, name, path)
                target = Path(os.readlink(name, dir_fd=here))
                names = [*target.parts[target.is_absolute() :], *names]
                further = os.open("/", _DIRECTORY) if target.is_absolute() else os.dup(here)
            else:
                further = os.open(name, _DIRECTORY, dir_fd=here)
            os.close(here)
            here = further
    except BaseException:
        os.close(here)
        raise
    return here


def _require_ours(directory: int, name: str, path: Path) -> None:
    found = os.fstat(directory)
    if found.st_uid in {0, os.geteuid()} and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return
    raise MkupgradeError(
        f"{name} on the way to it is a link, in a directory that others can write to",
        where=str(path),
        state="nothing was written",
        next_command=f"realpath {shlex.quote(str(path))}",
        error_class=ErrorClass.REFUSED,
    )
