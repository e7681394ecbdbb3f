"""Which process holds what, and whether it still lives.

One operating system process may play several: a driver that is told to die is dead, although
its pid lives on. A pid that was given to somebody else is told apart by its start time.
"""

from __future__ import annotations

import os
import uuid
from pathlib import Path

from orchestrator.drivers.simulated.world import Owner

_living: set[str] = set()
"""Tokens of the drivers in this operating system process that have not died."""


def be_born() -> Owner:
    """A new life for a driver in this process."""
    owner = Owner(pid=os.getpid(), started=_start_time(os.getpid()) or "", token=uuid.uuid4().hex)
    _living.add(owner.token)
    return owner


def die(owner: Owner) -> None:
    """From now on whatever it held is gone."""
    _living.discard(owner.token)


def is_alive(owner: Owner) -> bool:
    if owner.pid == os.getpid():
        return owner.token in _living
    return _start_time(owner.pid) == owner.started != ""


def _start_time(pid: int) -> str | None:
    """Field 22 of /proc/PID/stat, ticks since boot (proc_pid_stat(5)); None: no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    return text.rpartition(")")[2].split()[19]
