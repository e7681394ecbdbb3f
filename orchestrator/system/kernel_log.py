"""The kernel's log, /dev/kmsg (Documentation/ABI/testing/dev-kmsg)."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

_DEVICE = Path("/dev/kmsg")
_RECORD = 8192
"""More than any record has (PRINTK_MESSAGE_MAX and its dictionary)."""
_LIMIT = 20_000
"""Records; a ring buffer holds fewer."""


@dataclass(frozen=True)
class Record:
    """One message."""

    level: int
    """0 emergency to 7 debug."""
    sequence: int
    seconds: float
    """Since boot."""
    text: str


def read(device: Path = _DEVICE, limit: int = _LIMIT) -> list[Record]:
    """What the log holds now, oldest first; empty where it may not be read."""
    try:
        fd = os.open(device, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return []
    found: list[Record] = []
    try:
        while len(found) < limit:
            try:
                raw = os.read(fd, _RECORD)
            except BrokenPipeError:
                continue  # overwritten while we read: the next read goes on behind the gap
            except OSError:
                break  # EAGAIN: the end for now
            if not raw:
                break
            record = parse(raw)
            if record is not None:
                found.append(record)
    finally:
        os.close(fd)
    return found


def matching(pattern: str, records: list[Record] | None = None) -> list[str]:
    """Texts of the messages that match a regular expression, oldest first."""
    wanted = re.compile(pattern)
    return [r.text for r in (read() if records is None else records) if wanted.search(r.text)]


def parse(raw: bytes) -> Record | None:
    """`6,339,5140900,-;NET: Registered protocol family 10`, then lines of ` KEY=value`."""
    prefix, sep, rest = raw.decode("utf-8", "replace").partition(";")
    fields = prefix.split(",")
    if not sep or len(fields) < 3 or not all(f.isdigit() for f in fields[:3]):
        return None
    text = re.sub(r"\\x([0-9a-f]{2})", lambda m: chr(int(m[1], 16)), rest.split("\n", 1)[0])
    return Record(int(fields[0]) & 7, int(fields[1]), int(fields[2]) / 1e6, text)
