"""Ctrl-C once, twice and a third time; SIGTERM; and a terminal that goes away."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

from orchestrator.model.outcomes import ExitCode

if TYPE_CHECKING:
    from orchestrator.engine.interrupts import Interrupts

FIRST = "stopping: nothing more is started, what was done is undone (again: stop at once)"
SECOND = "stopping at once: the journal is intact, `mkupgrade resume` goes on"
SHUTDOWN = "stopping: the journal is intact, the next boot goes on"


@contextmanager
def forwarded(
    interrupts: Interrupts, tell: Callable[[str], None], *, at_boot: bool = False
) -> Iterator[None]:
    """Within, SIGINT and SIGTERM are requests to the engine, and SIGHUP is none at all.

    The first request: roll back. The second: stop now. From the third on the process ends at
    once; the journal is written before every effect, so that is as safe as any crash.
    A closed terminal (SIGHUP) must not stop a transaction half-way: it goes on in silence.

    Args:
        at_boot: we are the boot's own service, and SIGTERM is the machine being shut down: stop
            now and go on at the next boot, instead of a jump back in the middle of a shutdown.
        tell: called inside the signal handler; must not take locks that the program holds.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: FrameType | None) -> None:
        interrupts.request()
        if interrupts.count > 2:
            os._exit(ExitCode.INTERRUPTED)
        tell(FIRST if interrupts.count == 1 else SECOND)

    def shut_down(number: int, frame: FrameType | None) -> None:
        interrupts.stop_now()
        tell(SHUTDOWN)

    before = {
        signal.SIGINT: signal.signal(signal.SIGINT, handle),
        signal.SIGTERM: signal.signal(signal.SIGTERM, shut_down if at_boot else handle),
        # Not SIG_IGN: that would be inherited by every program a step starts (execve(2)).
        signal.SIGHUP: signal.signal(signal.SIGHUP, lambda number, frame: None),
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def tell_stderr(text: str) -> None:
    """A line to stderr by write(2): safe inside a signal handler, whatever the program is at."""
    try:
        os.write(sys.stderr.fileno(), f"\nmkupgrade: {text}\n".encode())
    except (OSError, ValueError):
        return
