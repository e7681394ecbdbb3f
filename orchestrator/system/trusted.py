"""Paths that only root can change: what OpenSSH's StrictModes and sudo ask of their files.

A path is walked from the root directory, one name after the other. Every directory on the way,
and what is found at the end, must belong to root and be writable by neither group nor others.
A link is followed only where all of that holds for the directory that it is in, so that only
root can have put it there. Whatever was trusted once cannot be exchanged by others afterwards.

One thing is taken that StrictModes refuses: a directory of root's, with the sticky bit, that a
group may write to (the Nix store is one). Nobody but root can rename or remove root's names there.
"""

from __future__ import annotations

import errno
import os
import shlex
import stat
from dataclasses import dataclass
from pathlib import Path

from orchestrator.model.errors import ErrorClass, MkupgradeError

_MOST_LINKS = 40
"""As in the kernel (include/linux/namei.h, MAXSYMLINKS)."""
_ROOT = Path("/")


class UntrustedPathError(MkupgradeError):
    """Somebody else than root could change what is there."""

    code = "untrusted-path"
    error_class = ErrorClass.REFUSED


@dataclass(frozen=True)
class Trust:
    """Whom to trust; anything but `ROOT_ONLY` is for tests."""

    owner: int = 0
    """User id that must own everything."""
    top: Path = _ROOT
    """Directories above this one are not looked at."""


ROOT_ONLY = Trust()


def resolve(path: Path, trust: Trust = ROOT_ONLY) -> Path:
    """Where a path leads, links followed, if nobody but root could have it lead elsewhere.

    Raises:
        UntrustedPathError: somebody else could; says who, and how to put it right.
        FileNotFoundError, OSError: it leads nowhere.
    """
    names = _names(path)
    here, links = _ROOT, 0
    _check(here, here.lstat(), trust)
    while names:
        name = names.pop(0)
        if name == "..":
            here = here.parent
            continue
        found = here / name
        status = found.lstat()
        _check(found, status, trust)
        if not stat.S_ISLNK(status.st_mode):
            here = found
            continue
        links += 1
        if links > _MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
        target = found.readlink()
        here = _ROOT if target.is_absolute() else here
        names = [*_names(target), *names]
    return here


def read(path: Path, limit: int, trust: Trust = ROOT_ONLY) -> bytes:
    """Content of a regular file that `resolve` trusts, of at most `limit` bytes.

    Raises:
        UntrustedPathError: not trusted, no regular file, or larger.
        FileNotFoundError, OSError: it cannot be read.
    """
    place = resolve(path, trust)
    fd = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(fd, "rb") as file:
        status = os.fstat(fd)
        _check(place, status, trust)
        if not stat.S_ISREG(status.st_mode):
            raise _untrusted(place, "is not a regular file", f"ls -ld {shlex.quote(str(place))}")
        data = file.read(limit + 1)
    if len(data) > limit:
        raise _untrusted(place, f"is larger than {limit} bytes", f"ls -l {shlex.quote(str(place))}")
    return data


def is_inside(path: Path, directory: Path) -> bool:
    """Is it the directory, or below it? Both as `resolve` gives them."""
    return path == directory or directory in path.parents


def _names(path: Path) -> list[str]:
    return [part for part in path.parts if part != "/"]


def _check(path: Path, status: os.stat_result, trust: Trust) -> None:
    if not is_inside(path, trust.top):
        return
    if status.st_uid != trust.owner:
        owner = "root" if trust.owner == 0 else f"user {trust.owner}"
        found = f"belongs to user {status.st_uid}, not to {owner}"
        raise _untrusted(path, found, f"chown {trust.owner} {shlex.quote(str(path))}")
    if stat.S_ISLNK(status.st_mode):
        return  # its mode says nothing: who may exchange it is said by its directory's
    others = stat.S_IWGRP | stat.S_IWOTH
    if stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX:
        others = stat.S_IWOTH
    if status.st_mode & others:
        found = f"can be written by others (mode {stat.S_IMODE(status.st_mode):04o})"
        raise _untrusted(path, found, f"chmod go-w {shlex.quote(str(path))}")


def _untrusted(path: Path, what: str, command: str) -> UntrustedPathError:
    return UntrustedPathError(
        f"{path} {what}", where=str(path), state="nothing was changed", next_command=command
    )
