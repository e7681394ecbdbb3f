"""A payload cut into blocks that are known by their digests, so that what the other end has from an
earlier look at the same directory need not be sent again.

Blocks begin with a file's content and go by `BLOCK` from there: a file that grew keeps its blocks.
Small files are gathered with their headers, and a gathered block ends before a header about every
32nd of which is chosen by its own bytes: what comes in between moves the ends near it alone.
The reader knows nothing of these rules; it puts blocks together in the order it is told.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable
from pathlib import Path

from orchestrator.handover import archive
from orchestrator.handover.frame import Header
from orchestrator.handover.payload import Body, Tick, no_tick, packing

BLOCK = 256 << 10
"""Longest block, in bytes."""
DIGEST = 32
"""Bytes of a block's SHA-256, by which it is known."""
_SMALL = 64 << 10
_ENDS = 32

TakeBlock = Callable[[bytes, bytes], None]
"""Given digest and content of a block, one after the other."""


def cut(
    directory: Path, token: int, take: TakeBlock, tick: Tick = no_tick, *, steady: bool = True
) -> Header:
    """Hand the body of a payload to `take`, block by block.

    Args:
        steady: nothing in the directory changes meanwhile; otherwise what comes out may be no
            whole archive, and is good for nothing but to have its blocks.

    Returns:
        The header of the frame whose body this is.

    Raises:
        HandoverError: something in it cannot be carried, or it changed though it should not.
        What `take` and `tick` raise.
    """
    cutter = _Cutter(take, tick)
    with packing(directory):
        archive.write(directory, cutter, steady=steady)
    cutter.flush()
    return cutter.header(token)


class _Cutter(Body):
    """What `archive.write` writes to. An OSError of `take` would look like one of the disk."""

    def __init__(self, take: TakeBlock, tick: Tick) -> None:
        super().__init__()
        self._take = take
        self._tick = tick
        self._small = bytearray()

    def write(self, data: bytes) -> None:
        if len(data) > _SMALL:
            self.flush()
            for start in range(0, len(data), BLOCK):
                self._put(data[start : start + BLOCK])
            return
        ends = len(data) == archive.BLOCK and zlib.crc32(data) % _ENDS == 0
        if ends or len(self._small) + len(data) > _SMALL:
            self.flush()
        self._small += data

    def flush(self) -> None:
        data, self._small = bytes(self._small), bytearray()
        if data:
            self._put(data)

    def _put(self, data: bytes) -> None:
        self.count(data)
        self._take(hashlib.sha256(data).digest(), data)
        self._tick(self.length)
