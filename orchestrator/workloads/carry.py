"""Files and directories on volatile file systems that travel with the state.

/run, /tmp and /dev/shm are empty in the next kernel. Contents go into the payload's `carry`
directory; owner, mode and the directories on the way into the meta.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

from orchestrator.model.errors import ErrorClass, WorkloadError
from orchestrator.system import files, open_files
from orchestrator.workloads.meta import Carried, CarriedFile, Directory

_CHUNK = 1 << 20
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_REPLACED_MODE = 0o600


def directories_of(paths: Iterable[str]) -> list[Directory]:
    """The volatile directories that hold these paths, parents first; mount points left out."""
    known = open_files.mounts()
    points = {mount.point for mount in known}
    wanted: set[str] = set()
    for path in paths:
        for parent in PurePosixPath(path).parents:
            if str(parent) in points or not open_files.is_volatile(str(parent), known):
                break
            wanted.add(str(parent))
    found = []
    for path in sorted(wanted):
        status = Path(path).lstat()
        if stat.S_ISDIR(status.st_mode):
            mode = stat.S_IMODE(status.st_mode)
            found.append(Directory(path=path, mode=mode, uid=status.st_uid, gid=status.st_gid))
    return found


def take(paths: Iterable[str], directories: list[Directory], carry_dir: Path) -> Carried:
    """Copy files into `carry_dir`, which is made, 0700.

    Raises:
        WorkloadError: one is not a regular file, or cannot be read.
    """
    carry_dir.mkdir(mode=0o700)
    taken = [_take_one(path, f"{n:06d}", carry_dir) for n, path in enumerate(sorted(set(paths)))]
    return Carried(directories=directories, files=taken)


def verify(carried: Carried, carry_dir: Path) -> None:
    """Is every carried file there, and whole?

    Raises:
        WorkloadError: names the one that is not.
    """
    for file in carried.files:
        with files.open_regular(carry_dir / file.stored) as content:
            found = files.sha256_file(content)
        if found != (file.sha256, file.size):
            raise WorkloadError("a carried file is damaged", where=file.path)


def put_back(carried: Carried, carry_dir: Path, replace: bool = True) -> list[str]:
    """Make directories and files again, with owner and mode.

    No link is followed on the way: others may write to /tmp. Only volatile places are written
    to: a handover that names another is refused, so that it cannot replace /etc/shadow.

    Args:
        replace: also files that are there (in a new kernel, something else may have made them).

    Returns:
        The paths of the files.

    Raises:
        WorkloadError
    """
    known = open_files.mounts()
    for directory in carried.directories:
        _refuse_durable(directory.path, known)
        _make_directory(directory)
    for file in carried.files:
        _refuse_durable(file.path, known)
        if replace or not os.path.lexists(file.path):
            _put_one(file, carry_dir)
    return [file.path for file in carried.files]


def _take_one(path: str, stored: str, carry_dir: Path) -> CarriedFile:
    digest, size = hashlib.sha256(), 0
    with files.open_regular(Path(path)) as source:
        status = os.fstat(source.fileno())
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        with os.fdopen(os.open(carry_dir / stored, flags, 0o600), "wb") as target:
            while chunk := source.read(_CHUNK):
                digest.update(chunk)
                size += target.write(chunk)
    return CarriedFile(
        path=path,
        mode=stat.S_IMODE(status.st_mode),
        uid=status.st_uid,
        gid=status.st_gid,
        stored=stored,
        size=size,
        sha256=digest.hexdigest(),
    )


def _refuse_durable(path: str, known: list[open_files.Mount]) -> None:
    mount = open_files.mount_of(path, known)
    if mount is None or not mount.volatile:
        raise WorkloadError(
            "the handover carries a file to a place that is not volatile: refused",
            where=path,
            error_class=ErrorClass.REFUSED,
        )


@contextmanager
def _parent(path: str) -> Iterator[tuple[int, str]]:
    """The open parent directory, reached without following a link, and the last name."""
    parts = PurePosixPath(path).parts
    fd = os.open("/", _DIRECTORY)
    try:
        for part in parts[1:-1]:
            child = os.open(part, _DIRECTORY, dir_fd=fd)
            os.close(fd)
            fd = child
        yield fd, parts[-1]
    except OSError as error:
        raise WorkloadError(
            f"a carried file cannot be put back: {error.strerror}", where=path
        ) from error
    finally:
        os.close(fd)


def _make_directory(directory: Directory) -> None:
    with _parent(directory.path) as (parent, name):
        try:
            os.mkdir(name, 0o700, dir_fd=parent)
        except FileExistsError:
            os.close(os.open(name, _DIRECTORY, dir_fd=parent))
            return
        fd = os.open(name, _DIRECTORY, dir_fd=parent)
        try:
            _own(fd, directory)
        finally:
            os.close(fd)


def _put_one(file: CarriedFile, carry_dir: Path) -> None:
    with (
        files.open_regular(carry_dir / file.stored) as source,
        _parent(file.path) as (parent, name),
    ):
        temporary = f".{name}.mkupgrade"
        with suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=parent)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(temporary, flags, _REPLACED_MODE, dir_fd=parent)
        with os.fdopen(fd, "wb") as target:
            while chunk := source.read(_CHUNK):
                target.write(chunk)
            target.flush()
            _own(target.fileno(), file)
        os.replace(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)


def _own(fd: int, like: Directory) -> None:
    status = os.fstat(fd)
    if (status.st_uid, status.st_gid) != (like.uid, like.gid):
        os.fchown(fd, like.uid, like.gid)
    os.fchmod(fd, like.mode)
