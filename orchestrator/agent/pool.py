"""Blocks that the agent has, in one file: each with its digest and length before it.

The file only grows, and is read through when it is opened: what a crash left half written at its
end is cut off, and nothing is believed that does not fit its digest.
"""

from __future__ import annotations

import hashlib
import os
import struct
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from orchestrator.agent.errors import ProtocolError, RefusedError
from orchestrator.handover.stream import BLOCK, DIGEST
from orchestrator.model.errors import ErrorClass, HandoverError
from orchestrator.system import files

_RECORD = struct.Struct(f"<{DIGEST}sI")
MOST_BLOCKS = 1 << 20
"""About 150 MB of the agent's memory."""


@dataclass(frozen=True, slots=True)
class _Place:
    offset: int
    length: int


class Pool:
    """The blocks of one section of one transaction.

    Args:
        path: the file; it is made, 0600.
        most_bytes: how large it may become.

    Raises:
        HandoverError: it cannot be opened.
    """

    def __init__(self, path: Path, most_bytes: int) -> None:
        self._path = path
        self._most = most_bytes
        self._places: dict[bytes, _Place] = {}
        self._end = 0
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            self._fd = os.open(path, flags, 0o600)
        except OSError as error:
            raise self._error(error) from error
        try:
            self._read_through()
        except OSError as error:
            os.close(self._fd)
            raise self._error(error) from error
        files.sync_directory(path.parent)

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._places

    def __len__(self) -> int:
        return len(self._places)

    def add(self, digest: bytes, data: bytes) -> None:
        """Take a block; it is durable after `flush`. One that is there already is fine.

        Raises:
            ProtocolError: its digest does not fit. RefusedError: it is one too many.
            HandoverError: it cannot be written.
        """
        if not 0 < len(data) <= BLOCK or hashlib.sha256(data).digest() != digest:
            raise ProtocolError("a block does not fit its digest", state="it was not taken")
        if digest in self._places:
            return
        record = _RECORD.pack(digest, len(data)) + data
        if self._end + len(record) > self._most or len(self._places) >= MOST_BLOCKS:
            raise RefusedError(
                f"more state than this agent takes: {self._most} bytes, {MOST_BLOCKS} blocks",
                where=str(self._path),
                state="the source has everything",
                next_command="mkupgrade agent --help    # --most",
            )
        try:
            _pwrite_all(self._fd, record, self._end)
        except OSError as error:
            with suppress(OSError):
                os.ftruncate(self._fd, self._end)
            raise self._error(error) from error
        self._places[digest] = _Place(self._end + _RECORD.size, len(data))
        self._end += len(record)

    def flush(self) -> None:
        """Raises: HandoverError."""
        try:
            os.fdatasync(self._fd)
        except OSError as error:
            raise self._error(error) from error

    def read(self, digest: bytes) -> bytes:
        """The content of a block.

        Raises:
            RefusedError: it is not here. HandoverError
        """
        place = self._places.get(digest)
        if place is None:
            raise RefusedError(
                f"block {digest.hex()[:16]}… is not here", where=str(self._path),
                state="the source has it",
            )  # fmt: skip
        try:
            return os.pread(self._fd, place.length, place.offset)
        except OSError as error:
            raise self._error(error) from error

    def length(self, digest: bytes) -> int:
        """Bytes of a block; 0: it is not here."""
        place = self._places.get(digest)
        return place.length if place is not None else 0

    def close(self) -> None:
        """Again is fine."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _read_through(self) -> None:
        size = os.fstat(self._fd).st_size
        while self._end < size and len(self._places) < MOST_BLOCKS:
            head = os.pread(self._fd, _RECORD.size, self._end)
            if len(head) < _RECORD.size:
                break
            digest, length = _RECORD.unpack(head)
            if not 0 < length <= BLOCK:
                break
            data = os.pread(self._fd, length, self._end + _RECORD.size)
            if hashlib.sha256(data).digest() != digest:
                break
            self._places[digest] = _Place(self._end + _RECORD.size, length)
            self._end += _RECORD.size + length
        if self._end < size:
            os.ftruncate(self._fd, self._end)

    def _error(self, error: OSError) -> HandoverError:
        return HandoverError(
            f"state cannot be written: {error.strerror}",
            where=str(self._path),
            state="the source has everything",
            next_command=f"df -h {self._path.parent}",
            error_class=ErrorClass.IO,
        )


def _pwrite_all(fd: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, offset)
        view, offset = view[written:], offset + written
