"""How long it will take: list scheduling of the forward section with its limits."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass

from orchestrator.model.steps import Reversibility, Section, Step, StepGraph


@dataclass(frozen=True)
class Slot:
    """When a step is expected to run; seconds from the start of its section."""

    step: Step
    start: float
    end: float

    @property
    def dark_from(self) -> float:
        """When workloads stand still, if they do: they may run on at its beginning."""
        ran_on = self.step.params.get("ran_on_seconds")
        if not isinstance(ran_on, int | float):
            return self.start
        return min(self.start + max(0.0, ran_on), self.end)


class _Units:
    """When each unit of each resource is free again."""

    def __init__(self, limits: dict[str, int], steps: int) -> None:
        self._limits = limits
        self._most = max(1, steps)
        self._free: dict[str, list[float]] = {}

    def take(self, step: Step, at: float) -> float:
        """Start `step` at `at` or as soon as its units are free; returns when."""
        queues = [self._queue(name) for name in step.resources]
        start = max([at, *(queue[0] for queue in queues)])
        for queue in queues:
            heapq.heapreplace(queue, start + step.estimate)
        return start

    def _queue(self, name: str) -> list[float]:
        if name not in self._free:
            self._free[name] = [0.0] * min(self._limits.get(name, 1), self._most)
        return self._free[name]


def schedule(graph: StepGraph, section: Section = Section.FORWARD) -> dict[str, Slot]:
    """Expected slots by step id, each step as early as order and limits allow.

    Steps that are ready at the same time are taken in the order of the plan. Steps in a ring
    are left out.
    """
    steps = {s.id: s for s in graph.section(section)}
    later, waits = _neighbours(steps, graph.edges)
    order = {step_id: n for n, step_id in enumerate(steps)}
    ready_at = dict.fromkeys(steps, 0.0)
    ready = [(0.0, order[i], i) for i, count in waits.items() if count == 0]
    units = _Units(graph.limits, len(steps))
    slots: dict[str, Slot] = {}
    while ready:
        at, _, step_id = heapq.heappop(ready)
        step = steps[step_id]
        start = units.take(step, at)
        end = start + step.estimate
        slots[step_id] = Slot(step, start, end)
        for follower in later[step_id]:
            waits[follower] -= 1
            ready_at[follower] = max(ready_at[follower], end)
            if waits[follower] == 0:
                heapq.heappush(ready, (ready_at[follower], order[follower], follower))
    return slots


def makespan(graph: StepGraph) -> float:
    """Seconds from the start to the end of commit (of everything, where there is no commit)."""
    slots = schedule(graph).values()
    commits = [s.end for s in slots if s.step.reversibility is Reversibility.COMMIT]
    return max(commits or [s.end for s in slots], default=0.0)


def expected_blackout(graph: StepGraph) -> float:
    """Seconds from the first workload that stops to the last one that goes on."""
    dark = [s for s in schedule(graph).values() if s.step.blackout]
    return _span(dark)


def expected_blackouts(graph: StepGraph) -> dict[str, float]:
    """Seconds that each workload stands still, by its name: from its own checkpoint to its own
    restore."""
    own: dict[str, list[Slot]] = {}
    for slot in schedule(graph).values():
        workload = slot.step.params.get("workload")
        if slot.step.blackout and isinstance(workload, dict):
            own.setdefault(str(workload["name"]), []).append(slot)
    return {name: _span(slots) for name, slots in own.items()}


def _neighbours(
    steps: Iterable[str], edges: Iterable[tuple[str, str]]
) -> tuple[dict[str, list[str]], dict[str, int]]:
    later: dict[str, list[str]] = {step_id: [] for step_id in steps}
    waits = dict.fromkeys(later, 0)
    for a, b in edges:
        if a in later and b in later:
            later[a].append(b)
            waits[b] += 1
    return later, waits


def _span(slots: list[Slot]) -> float:
    if not slots:
        return 0.0
    return round(max(s.end for s in slots) - min(s.dark_from for s in slots), 3)
