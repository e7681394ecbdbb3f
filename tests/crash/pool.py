"""A pool in virtual time: calls run one at a time, in an order and at times drawn from the seed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from queue import Empty
from typing import Any

from orchestrator.engine.workers import Answer
from tests.crash.simulation import Simulation

Call = Callable[[], None]


class VirtualPool:
    """`workers.Pool` and its mailbox in one.

    Args:
        on_wait: called whenever the runner waits: between any two events.
        limits: (deadline of a call, grace) in seconds, from which too long is drawn.
    """

    def __init__(
        self, sim: Simulation, on_wait: Callable[[], None], limits: tuple[float, float]
    ) -> None:
        self.sim, self.on_wait = sim, on_wait
        self.deadline, self.grace = limits
        self._calls: list[Call] = []
        self._mail: deque[Any] = deque()
        self._later: list[tuple[float, int, Callable[[], None]]] = []
        """Heap of what happens by itself: (when, number, what)."""
        self._hung: list[Call] = []
        self._numbers = 0
        self._post: Callable[[Any], None] = self._mail.append

    def mailbox(self) -> VirtualPool:
        return self

    def close(self) -> None:
        pass

    # -- calls

    def submit(self, call: Call) -> None:
        match self.sim.fault("call", 0.3):
            case "slow":
                self._after(self.deadline * 0.5, call)
            case "too-slow":
                self._after(self.deadline + self.grace * self.sim.choices.pick((0.5, 2.5)), call)
            case "late":
                self._calls.append(lambda: self._posting(self._delayed(0.5), call))
            case "too-late":
                self._calls.append(lambda: self._posting(self._delayed(3.0), call))
            case "hangs":
                self._hung.append(call)
            case "hangs-done":
                self._calls.append(lambda: self._posting(lambda _: None, call))
            case "twice":
                self._calls.append(lambda: self._posting(self._twice, call))
            case _:
                self._calls.append(call)

    def _after(self, seconds: float, what: Call) -> None:
        self._numbers += 1
        heappush(self._later, (self.sim.now + seconds, self._numbers, what))

    def _posting(self, post: Callable[[Any], None], call: Call) -> None:
        self._post = post
        try:
            call()
        finally:
            self._post = self._mail.append

    def _delayed(self, times: float) -> Callable[[Any], None]:
        seconds = (self.deadline + self.grace) * times
        return lambda item: self._after(seconds, lambda: self._mail.append(item))

    def _twice(self, item: Any) -> None:
        self._mail.append(item)
        self._after(0.1, lambda: self._mail.append(item))

    @property
    def at_work(self) -> bool:
        """Calls are in flight of which no answer can be on its way."""
        return bool(self._hung or self._calls)

    def end_of_process(self) -> None:
        """Calls that nobody waits for any more may still have their effect, then they are gone."""
        self._post = lambda _: None
        for call in self._hung:
            if self.sim.choices.chance(0.5):
                self.sim.say("a call that hung has its effect after all")
                call()

    # -- mail

    def put(self, item: Any) -> None:
        if isinstance(item, Answer) and item.crash is not None:
            raise item.crash
        if isinstance(item, Answer):
            self._post(item)
        else:
            self._mail.append(item)

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        self.on_wait()
        self._run_due()
        if not self._mail and self._calls:
            self._run_one()
        if not self._mail:
            self._pass_time(timeout or 0.0)
        if not self._mail:
            raise Empty
        return self._mail.popleft()

    def take(self) -> Any:
        """At times an answer comes just now, so that several share a commit."""
        mail = self._mail
        if not mail and self._calls and self.sim.choices.chance(0.3):
            self._run_one()
        while mail:
            item = mail.popleft()
            if item is not None:
                return item
        return None

    def _run_one(self) -> None:
        index = self.sim.choices.below(len(self._calls)) if len(self._calls) > 1 else 0
        self._calls.pop(index)()

    def _run_due(self) -> None:
        while self._later and self._later[0][0] <= self.sim.now:
            heappop(self._later)[2]()

    def _pass_time(self, seconds: float) -> None:
        until = self.sim.now + seconds
        if self._later and self._later[0][0] <= until:
            self.sim.now = max(self.sim.now, self._later[0][0])
            self._run_due()
        else:
            self.sim.now = until
