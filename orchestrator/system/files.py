"""Files that must not be lost or led astray: durable writes, private directories, no links.

"Durable" means: after the call returns, a power cut does not take it back (fsync of the file
and of its directory).
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import get_native_id
from typing import BinaryIO

from orchestrator.model.errors import ErrorClass, MkupgradeError, NotSupportedError, SystemCallError
from orchestrator.system import call_errors

CHUNK = 1 << 20
FILE_MODE = 0o600
DIRECTORY_MODE = 0o700


def sync_directory(path: Path) -> None:
    """Make names in a directory durable (new, renamed, removed)."""
    with _errors("fsync", path):
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def write_durably(path: Path, data: bytes, mode: int = FILE_MODE) -> None:
    """Replace a file in one atomic, durable step: a reader sees the old content or the new.

    Raises:
        SystemCallError: the old content is still there.
    """
    with durable_file(path, mode) as file:
        file.write(data)


@contextmanager
def durable_file(path: Path, mode: int = FILE_MODE) -> Iterator[BinaryIO]:
    """As `write_durably`, for content that is streamed. An exception leaves the old content."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{get_native_id()}.new")
    with _errors("write", path):
        temporary.unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        file = os.fdopen(os.open(temporary, flags, mode), "wb")
        try:
            with file:
                yield file
                file.flush()
                os.fchmod(file.fileno(), mode)
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_directory(path.parent)


def open_regular(path: Path, dir_fd: int | None = None) -> BinaryIO:
    """Open for reading what must be a regular file; the last component may not be a link, and
    a pipe put in its place does not block.

    Raises:
        SystemCallError: e.g. ENOENT, ELOOP (a link), EINVAL (not a regular file).
    """
    with _errors("open", path):
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        return _regular(os.open(path, flags, dir_fd=dir_fd))


def open_followed(path: Path) -> BinaryIO:
    """As `open_regular`, but links are followed: for paths that the operator names.

    Raises:
        SystemCallError
    """
    with _errors("open", path):
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        return _regular(fd)


def _regular(fd: int) -> BinaryIO:
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise SystemCallError(
                "not a regular file", errno=errno.EINVAL, error_class=ErrorClass.INVALID
            )
        return os.fdopen(fd, "rb")
    except BaseException:
        os.close(fd)
        raise


def read_regular(path: Path, limit: int, dir_fd: int | None = None) -> bytes:
    """Content of a regular file, no link, of at most `limit` bytes.

    Raises:
        SystemCallError: as `open_regular`; EFBIG: larger than `limit`.
    """
    with open_regular(path, dir_fd) as file, _errors("read", path):
        data = file.read(limit + 1)
        if len(data) > limit:
            raise OSError(errno.EFBIG, f"larger than {limit} bytes")
        return data


def make_private_directory(path: Path) -> Path:
    """Make a directory of mode 0700 (and those above it, 0755) or check the one that is there.

    Returns:
        `path`.

    Raises:
        MkupgradeError: `require_private_directory` says no.
    """
    with _errors("mkdir", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            path.mkdir(mode=DIRECTORY_MODE)
        except FileExistsError:
            pass
        else:
            sync_directory(path.parent)
    require_private_directory(path)
    return path


def require_private_directory(path: Path) -> None:
    """Hold a directory to: no link, ours, closed to group and others.

    Raises:
        MkupgradeError: with the command that puts it right. SystemCallError: it is not there.
    """
    with _errors("stat", path):
        status = path.lstat()
    owner = os.geteuid()
    if not stat.S_ISDIR(status.st_mode):
        raise _unsafe(path, "not a directory (links are not followed)", f"ls -ld {path}")
    if status.st_uid != owner:
        problem = f"belongs to user {status.st_uid}, not to {owner}"
        raise _unsafe(path, problem, f"chown {owner} {path}")
    if status.st_mode & 0o077:
        problem = f"open to others (mode {stat.S_IMODE(status.st_mode):04o})"
        raise _unsafe(path, problem, f"chmod 700 {path}")


def sha256_file(file: BinaryIO) -> tuple[str, int]:
    """SHA-256 (hex) and size in bytes of what is left to read of an open file."""
    hasher = hashlib.sha256()
    size = 0
    while chunk := file.read(CHUNK):
        hasher.update(chunk)
        size += len(chunk)
    return hasher.hexdigest(), size


def hold_to_sha256(file: BinaryIO, sha256: str, path: Path) -> None:
    """Hold a kernel's file, open at its beginning, to the digest of the plan, and rewind it.

    Raises:
        MkupgradeError: it is another file than the plan was made for.
    """
    found, _ = sha256_file(file)
    if found != sha256:
        raise MkupgradeError(
            f"sha256 is {found}, and the plan was made for {sha256}",
            where=str(path),
            state="nothing was loaded",
            next_command="mkupgrade plan",
            error_class=ErrorClass.INVALID,
        )
    file.seek(0)


def sha256_path(path: Path) -> tuple[str, int]:
    """As `sha256_file`. Links are followed: artifacts are named by people.

    Raises:
        SystemCallError
    """
    with open_followed(path) as file, _errors("read", path):
        return sha256_file(file)


def sha256_tree(root: Path) -> tuple[str, int]:
    """SHA-256 (hex) over a directory tree, and the total size of its files in bytes.

    Covers relative names, kinds, permission bits, targets of links and content; not owners
    and times. Links are not followed.

    Raises:
        SystemCallError
    """
    hasher = hashlib.sha256()
    total = 0
    with _errors("read", root):
        for path in sorted(root.rglob("*"), key=lambda p: os.fsencode(p.relative_to(root))):
            line, size = _tree_entry(root, path)
            total += size
            hasher.update(line)
    return hasher.hexdigest(), total


def _tree_entry(root: Path, path: Path) -> tuple[bytes, int]:
    status = path.lstat()
    name = os.fsencode(path.relative_to(root))
    kind, content, size = b"?", b"", 0
    if stat.S_ISLNK(status.st_mode):
        kind, content = b"l", os.fsencode(path.readlink())
    elif stat.S_ISDIR(status.st_mode):
        kind = b"d"
    elif stat.S_ISREG(status.st_mode):
        with open_regular(path) as file:
            digest, size = sha256_file(file)
        kind, content = b"f", digest.encode()
    mode = b"%04o" % stat.S_IMODE(status.st_mode)
    return b"\0".join((kind, mode, name, content)) + b"\n\0", size


def is_character_device(path: Path) -> bool:
    """Is there a character device, or a link to one? Opens nothing."""
    try:
        return stat.S_ISCHR(path.stat().st_mode)
    except OSError:
        return False


def free_bytes(path: Path) -> int:
    """Bytes that an unprivileged process may still write where `path` is, or will be."""
    while not path.exists() and path != path.parent:
        path = path.parent
    with _errors("statvfs", path):
        status = os.statvfs(path)
    return status.f_bavail * status.f_frsize


def require_free(path: Path, needed: int) -> None:
    """Refuse when fewer than `needed` bytes are free where `path` is.

    Raises:
        NotSupportedError: says how much is missing.
    """
    free = free_bytes(path)
    if free < needed:
        raise NotSupportedError(
            f"{needed} bytes are needed and {free} are free",
            where=str(path),
            next_command=f"df -h {path}",
            error_class=ErrorClass.IO,
        )


def _unsafe(path: Path, problem: str, command: str) -> MkupgradeError:
    return MkupgradeError(
        problem, where=str(path), next_command=command, error_class=ErrorClass.REFUSED
    )


@contextmanager
def _errors(call: str, path: Path) -> Iterator[None]:
    """OSError into the error tree."""
    try:
        yield
    except OSError as error:
        number = error.errno or errno.EIO
        raise call_errors.call_error(number, call, call_errors.PATH, str(path)) from error
