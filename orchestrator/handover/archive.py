"""A directory as one stream: a strict subset of POSIX tar, so that `tar -tvf` can read it.

Written always the same for the same names, permission bits and content: entries in byte order of
their paths, times 0, owner 0, ustar headers; a pax header (`path`, `size`) only where a name is
longer than 100 bytes or a file reaches 8 GiB; two zero blocks at the end and nothing after them.

The reader takes exactly what the writer writes and refuses all else (links, devices, other pax
keys, "..", absolute names, a file under a directory that was not announced): what it reads came
out of memory or off a disk that somebody else may have written to. Python's `tarfile` does more
than is wanted here, raises a dozen kinds of error on damage, and its output is no fixed format.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from orchestrator.model.errors import HandoverError

BLOCK = 512
CHUNK = 1 << 20
MAX_ENTRIES = 1 << 20
MAX_PATH = 1024
MAX_NAME = 255
MAX_DEPTH = 32
_MAX_PAX = 4 * BLOCK
_MAX_OCTAL_SIZE = 8**11
_PAX_NAME = b"././@PaxHeader"
_END = bytes(2 * BLOCK)


class Writable(Protocol):
    def write(self, data: bytes, /) -> object: ...


class Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


@dataclass(frozen=True)
class _Entry:
    path: bytes
    is_directory: bool
    mode: int
    size: int


def write(root: Path, out: Writable, *, steady: bool = True) -> None:
    """Write everything below `root` to `out`; memory used does not depend on its size.

    Args:
        steady: nothing changes meanwhile. Otherwise files may go, grow and shrink while they are
            read, and what is written then is no whole archive.

    Raises:
        HandoverError: a link, device, socket or pipe is in it, a file changed its size meanwhile,
            or a name is too long. OSError: it cannot be read, or `out` cannot be written.
    """
    root_fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        for entry in _walk(root_fd, b"", steady):
            _write_entry(root_fd, entry, out, steady)
    finally:
        os.close(root_fd)
    out.write(_END)


def read(source: Readable, root: Path) -> None:
    """Unpack what `write` wrote into `root`, an existing empty directory that only we can write.

    Files come out 0600 or 0700, directories 0700, owned by the caller. Nothing is synced: the
    frame is the durable form, one file with one fsync.

    Raises:
        HandoverError: anything but the writer's own output. OSError: `root` cannot be written.
    """
    root_fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        directories = {b""}
        last = b""
        for number, entry in enumerate(_entries(source)):
            if number >= MAX_ENTRIES:
                raise HandoverError(f"more than {MAX_ENTRIES} entries")
            _check_place(entry, last, directories)
            last = _order(entry.path)
            if entry.is_directory:
                os.mkdir(entry.path, 0o700, dir_fd=root_fd)
                directories.add(entry.path)
            else:
                _extract(source, entry, root_fd)
    finally:
        os.close(root_fd)


def _walk(parent_fd: int, prefix: bytes, steady: bool) -> Iterator[_Entry]:
    depth = prefix.count(b"/")
    with os.scandir(parent_fd) as found:
        names = sorted(os.fsencode(item.name) for item in found)
    for name in names:
        path = prefix + name
        try:
            status = os.stat(name, dir_fd=parent_fd, follow_symlinks=False)
        except FileNotFoundError:
            if steady:
                raise
            continue
        mode = 0o700 if status.st_mode & 0o100 else 0o600
        if stat.S_ISDIR(status.st_mode):
            yield _checked(_Entry(path, True, 0o700, 0), depth)
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            try:
                child = os.open(name, flags, dir_fd=parent_fd)
            except FileNotFoundError:
                if steady:
                    raise
                continue
            try:
                yield from _walk(child, path + b"/", steady)
            finally:
                os.close(child)
        elif stat.S_ISREG(status.st_mode):
            yield _checked(_Entry(path, False, mode, status.st_size), depth)
        else:
            raise HandoverError(
                "not a file or directory: links, devices, sockets and pipes are not carried",
                where=os.fsdecode(path),
            )


def _checked(entry: _Entry, depth: int) -> _Entry:
    _check_path(entry.path)
    if depth >= MAX_DEPTH:
        raise HandoverError(f"deeper than {MAX_DEPTH} directories", where=os.fsdecode(entry.path))
    return entry


def _check_path(path: bytes) -> None:
    parts = path.split(b"/")
    wrong = (
        not path
        or len(path) > MAX_PATH
        or b"\0" in path
        or len(parts) > MAX_DEPTH
        or any(part in (b"", b".", b"..") or len(part) > MAX_NAME for part in parts)
    )
    if wrong:
        raise HandoverError(f"unsafe or too long a name in the archive: {path[:80]!r}")


def _write_entry(root_fd: int, entry: _Entry, out: Writable, steady: bool) -> None:
    records = b""
    if len(entry.path) > 100:
        records += _pax_record(b"path", entry.path)
    if entry.size >= _MAX_OCTAL_SIZE:
        records += _pax_record(b"size", b"%d" % entry.size)
    if records:
        out.write(_header(_PAX_NAME, b"x", 0o600, len(records)) + _padded(records))
    kind = b"5" if entry.is_directory else b"0"
    size = entry.size if entry.size < _MAX_OCTAL_SIZE else 0
    out.write(_header(entry.path[:100], kind, entry.mode, size))
    if not entry.is_directory:
        try:
            _copy_in(root_fd, entry, out, steady)
        except FileNotFoundError:
            if steady:
                raise


def _copy_in(root_fd: int, entry: _Entry, out: Writable, steady: bool) -> None:
    fd = os.open(entry.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=root_fd)
    with os.fdopen(fd, "rb", buffering=0) as file:
        left = entry.size
        while left:
            chunk = file.read(min(CHUNK, left))
            if not chunk:
                break
            out.write(chunk)
            left -= len(chunk)
        if steady and (left or file.read(1)):
            raise HandoverError("changed its size while it was read", where=os.fsdecode(entry.path))
    out.write(bytes(-entry.size % BLOCK))


def _header(name: bytes, kind: bytes, mode: int, size: int) -> bytes:
    block = bytearray(BLOCK)
    block[0 : len(name)] = name
    block[100:108] = b"%07o\0" % mode
    block[108:116] = block[116:124] = b"0000000\0"
    block[124:136] = b"%011o\0" % size
    block[136:148] = b"00000000000\0"
    block[148:156] = b" " * 8
    block[156:157] = kind
    block[257:265] = b"ustar\x0000"
    block[329:345] = b"0000000\x000000000\0"
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def _pax_record(key: bytes, value: bytes) -> bytes:
    """ "LENGTH key=value\\n", where LENGTH counts its own digits."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    length = rest + len(str(length))
    return b"%d %s=%s\n" % (length, key, value)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % BLOCK)


def _entries(source: Readable) -> Iterator[_Entry]:
    while True:
        block = _exactly(source, BLOCK)
        if block == bytes(BLOCK):
            if _exactly(source, BLOCK) != bytes(BLOCK) or source.read(1):
                raise HandoverError("data after the end of the archive")
            return
        pax: dict[bytes, bytes] = {}
        name, kind, mode, size = _parsed(block)
        if kind == b"x":
            if name != _PAX_NAME or not 0 < size <= _MAX_PAX:
                raise HandoverError("a pax header that is not ours")
            pax = _pax_records(_exactly(source, size + -size % BLOCK), size)
            name, kind, mode, size = _parsed(_exactly(source, BLOCK))
        yield _entry(name, kind, mode, size, pax)


def _entry(name: bytes, kind: bytes, mode: int, size: int, pax: dict[bytes, bytes]) -> _Entry:
    if kind not in (b"0", b"5"):
        raise HandoverError(f"entry of kind {kind!r}: only files and directories are carried")
    path = pax.get(b"path", name)
    _check_path(path)
    if b"path" in pax and (len(path) <= 100 or path[:100] != name):
        raise HandoverError("a pax path that does not fit its header")
    if b"size" in pax:
        digits = pax[b"size"]
        if size or not digits.isdigit() or len(digits) > 19 or int(digits) < _MAX_OCTAL_SIZE:
            raise HandoverError("a pax size that does not fit its header")
        size = int(digits)
    if (kind == b"5" and size) or mode not in (0o600, 0o700):
        raise HandoverError("an entry that no handover writes", where=os.fsdecode(path))
    return _Entry(path, kind == b"5", mode, size)


def _parsed(block: bytes) -> tuple[bytes, bytes, int, int]:
    name = block[:100].rstrip(b"\0")
    mode, size = _octal(block[100:108]), _octal(block[124:136])
    kind = block[156:157]
    if block != _header(name, kind, mode, size):
        raise HandoverError("a tar header that no handover writes: damaged or foreign")
    return name, kind, mode, size


def _octal(field: bytes) -> int:
    digits = field[:-1]
    if field[-1:] != b"\0" or any(d not in b"01234567" for d in digits):
        raise HandoverError("a tar header that no handover writes: damaged or foreign")
    return int(digits, 8)


def _pax_records(data: bytes, size: int) -> dict[bytes, bytes]:
    records: dict[bytes, bytes] = {}
    text, padding = data[:size], data[size:]
    while text:
        head, space, _ = text.partition(b" ")
        if not space or not head.isdigit() or len(head) > 5:
            raise HandoverError("a pax record without a length")
        record, text = text[: int(head)], text[int(head) :]
        key, equals, value = record[len(head) + 1 :].partition(b"=")
        if not equals or key not in (b"path", b"size") or key in records:
            raise HandoverError("a pax record that no handover writes")
        records[key] = value[:-1]
        if record != _pax_record(key, value[:-1]):
            raise HandoverError("a pax record that no handover writes")
    if any(padding) or list(records) != sorted(records):
        raise HandoverError("a pax header that no handover writes")
    return records


def _order(path: bytes) -> bytes:
    """Sorts as `_walk` does: "/" before every other byte (a NUL cannot be in a name)."""
    return path.replace(b"/", b"\0")


def _check_place(entry: _Entry, last: bytes, directories: set[bytes]) -> None:
    if _order(entry.path) <= last:
        raise HandoverError("entries twice or out of order", where=os.fsdecode(entry.path))
    if entry.path.rpartition(b"/")[0] not in directories:
        raise HandoverError("a file in no announced directory", where=os.fsdecode(entry.path))


def _extract(source: Readable, entry: _Entry, root_fd: int) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(entry.path, flags, entry.mode, dir_fd=root_fd)
    with os.fdopen(fd, "wb", buffering=0) as file:
        left = entry.size
        while left:
            chunk = _exactly(source, min(CHUNK, left))
            file.write(chunk)
            left -= len(chunk)
    if any(_exactly(source, -entry.size % BLOCK)):
        raise HandoverError("padding that is not zero", where=os.fsdecode(entry.path))


def _exactly(source: Readable, size: int) -> bytes:
    data = source.read(size) if size else b""
    while len(data) < size:
        more = source.read(size - len(data))
        if not more:
            raise HandoverError("the archive ends too early")
        data += more
    return data
