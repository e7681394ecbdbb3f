"""The log of a disk's writes (dm-log-writes, as QEMU's blklogwrites makes it), and what of them
may be left when the power goes.

A disk promises one thing: what was written before a flush that it answered is there. Of what came
later any sector may hold any of the versions that were written to it, or the old one, unless a file
system asks for more (`whole` of `replay`). `replay` draws one such disk.
Format: Documentation/admin-guide/device-mapper/log-writes.rst.
"""

from __future__ import annotations

import random
import struct
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import BinaryIO

SECTOR = 512
"""Bytes that a disk writes whole or not at all."""
_SUPER = struct.Struct("<QQQI")
_ENTRY = struct.Struct("<QQQQ")
_MAGIC = 0x6A736677736872
FLUSH, FUA, DISCARD, MARK = 1, 2, 4, 8


class BadLogError(Exception):
    """This is no log of writes, or one that cannot be understood."""


@dataclass(frozen=True)
class Entry:
    """One request, in the order in which it was carried out."""

    sector: int
    count: int
    """Sectors of 512 bytes."""
    flags: int
    at: int
    """Where its data begins in the log."""

    @property
    def sectors(self) -> range:
        """The sectors it is about."""
        return range(self.sector, self.sector + self.count)

    @property
    def stored(self) -> int:
        """Bytes of data in the log."""
        return 0 if self.flags & DISCARD else self.count * SECTOR

    @property
    def flush(self) -> bool:
        return bool(self.flags & FLUSH)


def entries(log: BinaryIO, behind: Entry | None = None) -> Iterator[Entry]:
    """The requests of a log whose writer may have been killed: up to the first that is not whole.

    Args:
        behind: only those behind this one.

    Raises:
        BadLogError
    """
    log.seek(0)
    magic, version, _, size = _SUPER.unpack(log.read(_SUPER.size))
    if (magic, version, size) != (_MAGIC, 1, SECTOR):
        raise BadLogError(f"not a log of writes with sectors of 512 bytes: {magic:#x} {version}")
    end = log.seek(0, 2)
    at = SECTOR if behind is None else behind.at + behind.stored
    while at + SECTOR <= end:
        log.seek(at)
        sector, count, flags, length = _ENTRY.unpack(log.read(_ENTRY.size))
        if not (count or flags or length):
            return  # room that was never written to
        if flags & ~(FLUSH | FUA | DISCARD | MARK):
            raise BadLogError(f"unknown flags {flags:#x} at byte {at}")
        entry = Entry(sector, count, flags, at + SECTOR)
        if entry.at + entry.stored > end:
            return
        yield entry
        at = entry.at + entry.stored


def replay(
    log: BinaryIO,
    disk: BinaryIO,
    draw: random.Random,
    *,
    requests: int | None = None,
    lost_flushes: int = 0,
    whole: range = range(0),
) -> Replay:
    """Bring `disk`, a copy of what it was before the first entry, to what a cut leaves.

    Args:
        requests: the cut comes after so many; default: after all in the log.
        draw: decides for every sector that was written after the last flush.
        lost_flushes: so many flushes at the end were answered and not carried out: a disk that
            lies, to see whether that is noticed.
        whole: sectors that the disk writes together or not at all.
    """
    known = list(islice(entries(log), requests))
    flushes = [n for n, entry in enumerate(known) if entry.flush]
    kept = flushes[: max(0, len(flushes) - lost_flushes)]
    safe = kept[-1] if kept else -1
    for entry in known[: safe + 1]:
        _write(log, disk, entry)
    versions: dict[range, list[Entry]] = defaultdict(list)
    for entry in known[safe + 1 :]:
        if entry.flags & FUA:
            raise BadLogError("a write with FUA: its data is safe by itself")  # virtio has none
        for unit in dict.fromkeys(_unit(sector, whole) for sector in entry.sectors):
            versions[unit].append(entry)
    survived = 0
    for unit, candidates in sorted(versions.items(), key=lambda item: item[0].start):
        chosen = candidates[: draw.randrange(len(candidates) + 1)]
        survived += len(unit) if chosen else 0
        for entry in chosen:
            _write(log, disk, entry, unit)
    in_doubt = sum(len(unit) for unit in versions)
    return Replay(len(known), len(flushes), len(known) - safe - 1, in_doubt, survived)


@dataclass(frozen=True)
class Replay:
    """What was found in a log and made of it."""

    requests: int
    flushes: int
    behind: int
    """Requests after the last flush that was carried out."""
    in_doubt: int
    """Sectors that they wrote to."""
    survived: int
    """Of those, the ones that hold something new."""


def _unit(sector: int, whole: range) -> range:
    """The sectors that share the fate of this one."""
    return whole if sector in whole else range(sector, sector + 1)


def _write(log: BinaryIO, disk: BinaryIO, entry: Entry, only: range | None = None) -> None:
    """Write what a request wrote, or what of it falls on these sectors."""
    first = max(entry.sector, only.start) if only else entry.sector
    end = min(entry.sectors.stop, only.stop) if only else entry.sectors.stop
    if first < end:
        disk.seek(first * SECTOR)
        disk.write(_data(log, entry, first, end - first))


def _data(log: BinaryIO, entry: Entry, sector: int, count: int) -> bytes:
    if entry.flags & DISCARD:
        return bytes(count * SECTOR)
    log.seek(entry.at + (sector - entry.sector) * SECTOR)
    return log.read(count * SECTOR)
