"""The threads that call the driver, and the way on without a change of threads.

A thread whose call is over does what follows from it (the runner's *turn*: fold, decide,
commit) and then begins the next call itself. A chain of steps so runs in one thread; the
thread that called the engine only waits, free for signals, deadlines and the abort file.

A thread that goes into a call wakes one other first if anything else is to be begun or looked
after. That one does the same, so that no call waits for one that takes long, and fifty short
calls do not cost fifty changes of threads.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue

from orchestrator.engine.workers import Answer, Mail, Progress


class Mailbox:
    """All mail in the order in which it came. An answer wakes nobody: who brings one looks
    after it. Everything else wakes the thread that waits in `get`."""

    def __init__(self) -> None:
        self._mail: deque[Answer | Progress] = deque()
        self._bell: SimpleQueue[None] = SimpleQueue()

    def put(self, item: Answer | Progress | None) -> None:
        if item is not None:
            self._mail.append(item)
        if not isinstance(item, Answer):
            self._bell.put(None)

    def get(self, block: bool = True, timeout: float | None = None) -> None:
        """Wait until woken; the mail itself is for the one whose turn it is."""
        self._bell.get(block, timeout)

    def take(self) -> Answer | Progress | None:
        return self._mail.popleft() if self._mail else None


class ThreadPool:
    """Threads that are made when needed, kept, and never waited for at the end of the
    process: one that hangs in the kernel must not hold up the report."""

    def __init__(self) -> None:
        self._calls: deque[Callable[[], None]] = deque()
        self._bell: SimpleQueue[bool] = SimpleQueue()
        """One thing for each idle thread that is to look: True, or False to end."""
        self._lock = threading.Lock()
        self._threads: set[int] = set()
        self._made = self._idle = 0
        self._roused = False
        """A thread is on its way that has not looked yet."""
        self._unattended = False
        """A call is over and no turn was begun since."""
        self._turn: Callable[[], None] = _nothing

    def mailbox(self) -> Mail:
        return Mailbox()

    def attend(self, turn: Callable[[], None] | None) -> None:
        """Call `turn` after every call, or several, from any thread, one or more at a time."""
        self._turn = turn or _nothing

    def submit(self, call: Callable[[], None]) -> None:
        self._calls.append(call)
        if threading.get_ident() not in self._threads:  # ours look by themselves, after the turn
            self._rouse()

    def close(self) -> None:
        """Let idle threads end; busy ones end after their call."""
        for _ in range(self._made):
            self._bell.put(False)

    def _rouse(self) -> None:
        """See to it that a thread that is in no call looks at what there is to do."""
        with self._lock:
            if self._roused:
                return
            self._roused = True
            more = not self._idle
            self._made += more
            self._idle -= not more
        if not more:
            self._bell.put(True)
            return
        try:
            threading.Thread(target=self._work, name="step", daemon=True).start()
        except RuntimeError:  # no more threads: what there is to do waits for those we have
            self._roused = False
            if not self._threads:
                raise

    def _work(self) -> None:
        self._threads.add(threading.get_ident())
        try:
            while True:
                self._roused = False
                self._do_what_there_is()
                with self._lock:
                    if self._calls or self._unattended:
                        continue
                    self._idle += 1
                if not self._bell.get():
                    return
        finally:
            self._threads.discard(threading.get_ident())

    def _do_what_there_is(self) -> None:
        while self._calls or self._unattended:
            try:
                call = self._calls.popleft()
            except IndexError:
                self._unattended = False
                self._turn()
            else:
                if self._calls or self._unattended:
                    self._rouse()
                call()
                self._unattended = True


def _nothing() -> None:
    pass
