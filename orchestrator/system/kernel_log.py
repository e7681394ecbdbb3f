"""The kernel's log, /dev/kmsg (Documentation/ABI/testing/dev-kmsg)."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

_DEVICE = Path("/dev/kmsg")
_RECORD = 8192
"""More than any record has (PRINTK_MESSAGE_MAX and its dictionary)."""
_LIMIT = 100_000
"""Records; a ring buffer holds fewer."""
_ESCAPE = re.compile(r"\\x([0-9a-f]{2})")


@dataclass(frozen=True)
class Record:
    """One message."""

    level: int
    """0 emergency to 7 debug."""
    facility: int
    """0: the kernel itself; anything else was written by user space (syslog(3))."""
    sequence: int
    seconds: float
    """Since boot."""
    text: str


def read(device: Path = _DEVICE, limit: int = _LIMIT) -> list[Record]:
    """What the log holds now, oldest first.

    Raises:
        OSError: it may not be read.
    """
    fd = os.open(device, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    found: list[Record] = []
    try:
        while len(found) < limit:
            try:
                raw = os.read(fd, _RECORD)
            except BrokenPipeError:
                continue  # overwritten while we read: the next read goes on behind the gap
            except BlockingIOError:
                break  # the end for now
            if not raw:
                break
            found += parse(raw)
    finally:
        os.close(fd)
    return found[:limit]


def parse(raw: bytes) -> list[Record]:
    """`6,339,5140900,-;NET: Registered protocol family 10`, then lines of ` KEY=value`.

    A read of the device gives one record; what is no record is passed over.
    """
    lines = raw.decode("utf-8", "backslashreplace").split("\n")
    records = (_parse_line(line) for line in lines if not line.startswith(" "))
    return [record for record in records if record is not None]


def _parse_line(line: str) -> Record | None:
    prefix, separator, rest = line.partition(";")
    fields = prefix.split(",")
    if not separator or len(fields) < 3 or not all(_is_number(f) for f in fields[:3]):
        return None
    priority, sequence, microseconds = (int(f) for f in fields[:3])
    text = _ESCAPE.sub(lambda match: chr(int(match[1], 16)), rest)
    return Record(priority & 7, priority >> 3, sequence, microseconds / 1e6, text)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 20
