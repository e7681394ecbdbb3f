"""The order of a plan's steps, found once: a graph is asked for it at `begin`, at `run` and for its
report, by the process that plans it and runs it in one go three times within seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from orchestrator.model.errors import PlanError
from orchestrator.model.steps import StepGraph

Neighbours = Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class Order:
    """Step id -> ids of the steps right before, and right behind it. Shared: never changed."""

    before: Neighbours
    after: Neighbours


_LAST: list[tuple[StepGraph, Order]] = []
"""The graph that was asked for last (plans never change), and its order."""


def order_of(graph: StepGraph) -> Order:
    """Raises PlanError if the graph cannot be executed."""
    for known, order in _LAST:
        if known is graph:
            return order
    order = _order(graph)
    _LAST[:] = [(graph, order)]
    return order


def _order(graph: StepGraph) -> Order:
    steps = {s.id: s for s in graph.steps}
    before: dict[str, list[str]] = {s: [] for s in steps}
    after: dict[str, list[str]] = {s: [] for s in steps}
    if len(steps) != len(graph.steps):
        raise PlanError("two steps of the plan have the same id", where=graph.name)
    for a, b in dict.fromkeys(graph.edges):
        if a not in steps or b not in steps:
            raise PlanError(f"the edge {a} -> {b} names no step", where=graph.name)
        if steps[a].section is not steps[b].section:
            raise PlanError(f"the edge {a} -> {b} leaves its section", where=graph.name)
        before[b].append(a)
        after[a].append(b)
    _refuse_cycles(graph.name, before, after)
    for name, units in graph.limits.items():
        if units < 1:
            raise PlanError(f'the limit of resource "{name}" is {units}', where=graph.name)
    return Order(before, after)


def _refuse_cycles(name: str, before: Neighbours, after: Neighbours) -> None:
    waits = {s: len(b) for s, b in before.items()}
    free = [s for s, n in waits.items() if not n]
    for step in free:  # grows while it is walked
        for later in after[step]:
            waits[later] -= 1
            if not waits[later]:
                free.append(later)
    if len(free) < len(waits):
        stuck = sorted(s for s, n in waits.items() if n)
        raise PlanError("the plan has a cycle", where=name, details=(" -> ".join(stuck[:10]),))
