"""Who writes: the boot, the kernel and the process; and the engine's clock."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from orchestrator.model.base import Record


class Identity(Record):
    boot_id: str
    release: str
    pid: int


IdentityProvider = Callable[[], Identity]
"""Asked for every event: a pretend host may change its kernel while the process lives on."""

Clock = Callable[[], float]
"""Unix seconds; must not run backwards while the process lives."""


@lru_cache(maxsize=1)
def _local(pid: int) -> Identity:
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return Identity(boot_id=boot_id, release=os.uname().release, pid=pid)


def local_identity() -> Identity:
    """This machine, this boot, this process (random(4): boot_id is new at every boot)."""
    return _local(os.getpid())


def steady_clock() -> Clock:
    """A clock that starts at the wall time and then goes on by CLOCK_BOOTTIME, so that a
    step of the wall clock in mid-transaction changes neither durations nor waiting times."""
    offset = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    return lambda: offset + time.clock_gettime(time.CLOCK_BOOTTIME)
