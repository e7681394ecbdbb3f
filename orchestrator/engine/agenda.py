"""Which step may be worked on next: a ready set over the DAG, with limits per resource.

Each step and each edge is touched once, so that graphs of 100,000 steps stay near linear.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from heapq import heappop, heappush
from typing import Literal

from orchestrator.engine.order import Neighbours
from orchestrator.model.steps import Step

Fitness = Literal["start", "alone", "skip", "wait"]
"""What may be done with a step as things are: hand it out; hand it out when no other is left and
none is in flight; nothing, for it needs no work and only hands on the order of those around it;
nothing, and those behind it wait until it is put back and may be handed out."""


class Resources:
    """Units in use. A resource without a limit of its own has one unit."""

    def __init__(self, limits: Mapping[str, int], parallel: int) -> None:
        self._limits = limits
        self._parallel = parallel
        self._used: dict[str, int] = {}
        self.holders: dict[str, tuple[str, ...]] = {}
        """Step id -> what it holds; every step in flight is here."""

    def lacking(self, step: Step) -> str | None:
        """A resource that has no unit left for the step, or None."""
        for name in step.resources:
            if self.spent(name):
                return name
        return None

    def spent(self, name: str) -> bool:
        return self._used.get(name, 0) >= self._limits.get(name, 1)

    @property
    def full(self) -> bool:
        return len(self.holders) >= self._parallel

    def take(self, step: Step) -> None:
        self.holders[step.id] = tuple(step.resources)
        for name in step.resources:
            self._used[name] = self._used.get(name, 0) + 1

    def release(self, step_id: str) -> tuple[str, ...]:
        """Give back what the step holds, if anything; names what became free."""
        names = self.holders.pop(step_id, ())
        for name in names:
            self._used[name] -= 1
        return names

    def clear(self) -> None:
        self.holders.clear()
        self._used.clear()


class Agenda:
    """Steps in an order given by `before`: handed out by `take` once all before are finished.

    Args:
        steps: all that may be left to do, in the order of preference.
        before: step id -> ids that must be finished first; ids not in `steps` do not count.
        after: the same edges the other way round.
        fitness: asked of a step when all before it are finished.
    """

    def __init__(
        self,
        steps: Iterable[Step],
        before: Neighbours,
        after: Neighbours,
        fitness: Callable[[Step], Fitness],
    ) -> None:
        self._steps = list(steps)
        self._index = {step.id: i for i, step in enumerate(self._steps)}
        self._after = after
        self._fitness = fitness
        self._waits = {s: sum(b in self._index for b in before.get(s, ())) for s in self._index}
        self._ready = [i for i, s in enumerate(self._steps) if not self._waits[s.id]]
        self._blocked: dict[str, list[int]] = {}
        self._exclusive: list[int] = []
        self._finished: set[str] = set()

    def finish(self, step_id: str) -> None:
        """The step needs no more work: those behind it may become ready."""
        if step_id in self._finished:
            return
        self._finished.add(step_id)
        for later in self._after.get(step_id, ()):
            if later in self._waits:
                self._waits[later] -= 1
                if not self._waits[later]:
                    heappush(self._ready, self._index[later])

    def put_back(self, step_id: str) -> None:
        """The step may have become startable (again)."""
        if not self._waits[step_id]:
            heappush(self._ready, self._index[step_id])

    def freed(self, names: Iterable[str]) -> None:
        """One unit of each of these is free again: look at the next step that lacked it."""
        for name in names:
            if self._blocked.get(name):
                heappush(self._ready, heappop(self._blocked[name]))

    def take(self, resources: Resources, *, idle: bool) -> list[Step]:
        """Hand out what may start now, and take its resources. `idle`: nothing else is going
        on that a step which must be alone would have to wait for."""
        taken = []
        while self._ready and not resources.full:
            index = heappop(self._ready)
            step = self._steps[index]
            fitness = self._fitness_of(step, resources)
            if fitness == "wait":
                # It was in here twice. What it may have been woken for is for the next one.
                self.freed(n for n in step.resources if not resources.spent(n))
            elif fitness == "skip":
                self.finish(step.id)
            elif fitness == "alone":
                heappush(self._exclusive, index)
            elif (name := resources.lacking(step)) is not None:
                heappush(self._blocked.setdefault(name, []), index)
                self.freed(n for n in step.resources if not resources.spent(n))
            else:
                resources.take(step)
                taken.append(step)
        while self._exclusive and idle and not self._ready and not resources.holders:
            step = self._steps[heappop(self._exclusive)]
            if self._fitness_of(step, resources) == "alone":
                resources.take(step)
                taken.append(step)
        return taken

    def _fitness_of(self, step: Step, resources: Resources) -> Fitness:
        if step.id in self._finished or step.id in resources.holders:
            return "wait"
        return self._fitness(step)
