"""Payloads: a frame around an archive, written and read as a stream.

The length and digest of a body are known only at its end, so the header is written last, into
the 64 bytes left free for it. A reader verifies the whole body before it unpacks any of it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from orchestrator.handover import archive
from orchestrator.handover.frame import MAX_BODY, SIZE, FrameKind, Header
from orchestrator.model.errors import ErrorClass, HandoverError

CHUNK = 1 << 20
_SMALL = 1 << 16

Tick = Callable[[int], None]
"""Told the bytes done so far, about once a MiB; may raise, to stop."""


def no_tick(_done: int) -> None:
    """The `Tick` of those who do not care."""


def write_payload(directory: Path, fd: int, token: int, tick: Tick = no_tick) -> Header:
    """Write a frame with everything below `directory` into `fd`, from offset 0.

    Args:
        fd: of an empty, seekable file (a memfd or a regular file), open for writing.

    Returns:
        The header that was written.

    Raises:
        HandoverError: something in the directory cannot be carried, or no room is left.
    """
    sink = _Sink(fd, tick)
    with packing(directory):
        archive.write(directory, sink)
        sink.flush()
        header = sink.header(token)
        _pwrite_all(fd, header.pack(), 0)
    return header


@contextmanager
def packing(directory: Path) -> Iterator[None]:
    """An OSError in here becomes a HandoverError about the directory."""
    try:
        yield
    except OSError as error:
        raise HandoverError(
            f"state cannot be packed: {error.strerror}",
            where=str(error.filename or directory),
            error_class=ErrorClass.IO,
        ) from error


class Body:
    """Length and digest of a payload's body, as it goes by."""

    def __init__(self) -> None:
        self.length = 0
        self.digest = hashlib.sha256()

    def count(self, data: bytes) -> None:
        """Take `data` into account.

        Raises:
            HandoverError: the body is too long.
        """
        if self.length + len(data) > MAX_BODY:
            raise HandoverError(f"state of more than {MAX_BODY} bytes")
        self.digest.update(data)
        self.length += len(data)

    def header(self, token: int) -> Header:
        """Of the frame whose body this is."""
        return Header(FrameKind.DIRECTORY, token, self.length, self.digest.hexdigest())


def verify_payload(fd: int, expected: Header, where: str, tick: Tick = no_tick) -> None:
    """Hold a frame to what the manifest says of it: header, size, digest.

    Raises:
        HandoverError: any of them differs.
    """
    check_header(fd, expected, where)
    digest = hashlib.sha256()
    done = 0
    while done < expected.length:
        chunk = os.pread(fd, min(CHUNK, expected.length - done), SIZE + done)
        if not chunk:
            raise HandoverError("the payload ends too early", where=where)
        digest.update(chunk)
        done += len(chunk)
        tick(done)
    if digest.hexdigest() != expected.sha256:
        raise HandoverError("the payload's digest does not fit: it is damaged", where=where)


def check_header(fd: int, expected: Header, where: str) -> None:
    """Hold a frame's header and size to what the manifest says; its content is not read.

    Raises:
        HandoverError: any of them differs.
    """
    header = Header.parse(os.pread(fd, SIZE, 0), where)
    for field in ("kind", "token", "length", "sha256"):
        found, wanted = getattr(header, field), getattr(expected, field)
        if found != wanted:
            raise HandoverError(
                f"the payload's header says {field} {found}, the manifest {wanted}", where=where
            )
    size = os.fstat(fd).st_size
    if size != SIZE + expected.length:
        raise HandoverError(
            f"payload of {size} bytes, expected {SIZE + expected.length}", where=where
        )


def unpack_payload(fd: int, length: int, directory: Path, tick: Tick = no_tick) -> None:
    """Unpack a frame that `verify_payload` has passed into a new directory, 0700.

    Raises:
        HandoverError: not an archive of ours, or no room is left; what was unpacked stays.
    """
    try:
        directory.mkdir(mode=0o700)
        archive.read(_Source(fd, length, tick), directory)
    except OSError as error:
        raise HandoverError(
            f"state cannot be unpacked: {error.strerror}",
            where=str(error.filename or directory),
            error_class=ErrorClass.IO,
        ) from error


def verify_directory(directory: Path, expected: Header, tick: Tick = no_tick) -> bool:
    """Does packing `directory` again give the very same payload? False: changed, or unreadable."""
    sink = _Sink(-1, tick)
    try:
        archive.write(directory, sink)
        sink.flush()
    except (OSError, HandoverError):
        return False
    return (sink.length, sink.digest.hexdigest()) == (expected.length, expected.sha256)


class _Sink(Body):
    """Counts and digests what goes by; gathers small writes. fd -1: does nothing else."""

    def __init__(self, fd: int, tick: Tick) -> None:
        super().__init__()
        self._fd = fd
        self._tick = tick
        self._small = bytearray()

    def write(self, data: bytes) -> None:
        if len(self._small) + len(data) > _SMALL:
            self.flush()
        if len(data) > _SMALL:
            self._put(data)
        else:
            self._small += data

    def flush(self) -> None:
        data, self._small = bytes(self._small), bytearray()
        self._put(data)

    def _put(self, data: bytes) -> None:
        if not data:
            return
        at = SIZE + self.length
        self.count(data)
        if self._fd >= 0:
            _pwrite_all(self._fd, data, at)
        self._tick(self.length)


class _Source:
    """The body of a frame, and not a byte beyond it."""

    def __init__(self, fd: int, length: int, tick: Tick) -> None:
        self._fd = fd
        self._left = length
        self._done = 0
        self._tick = tick

    def read(self, size: int) -> bytes:
        data = os.pread(self._fd, min(size, self._left), SIZE + self._done)
        self._left -= len(data)
        self._done += len(data)
        self._tick(self._done)
        return data


def _pwrite_all(fd: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, offset)
        view, offset = view[written:], offset + written
