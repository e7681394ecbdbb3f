"""Where a next kernel can begin to give out process ids, so that those of workloads stay free.

CRIU gives a process its id back, so nothing may have taken it by then: not the services of the new
boot, not a kernel thread that one of them caused. A kernel hands ids out upwards.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

FIRST, END = 300, 32768
"""A kernel wraps around to 300 (RESERVED_PIDS in kernel/pid.c), never to ids below; while it boots
its `pid_max` is at least 32768, and a higher `ns_last_pid` might be refused."""
_ROOM = 1000
"""Left for processes that are started between this look and the end of the old kernel."""


def unused(taken: Iterable[int]) -> int:
    """An id after which many are free: near the beginning of the longest gap.

    Args:
        taken: ids that must stay free in the next kernel, and the one given out last.
    """
    known = sorted({FIRST - 1, END, *(pid for pid in taken if FIRST <= pid < END)})
    length, below = max((above - below, below) for below, above in pairwise(known))
    return below + min(_ROOM, length // 2)
