"""In which order instances are taken, where one goes down before the next."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from graphlib import TopologicalSorter

from orchestrator.model.spec import UpgradeSpec
from orchestrator.planning.problems import Problems
from orchestrator.planning.references import rings


@dataclass(frozen=True)
class Order:
    names: list[str]
    """Each behind those that it waits for; else as in the spec."""
    pairs: list[tuple[str, str]]
    """(earlier, later)."""


def ordered(spec: UpgradeSpec, changed: Collection[str], problems: Problems) -> Order:
    """An instance goes behind those in its `after`, and behind those that hold what its workloads
    rest on. A ring is a problem."""
    place = {w.name: w.instance for w in spec.workloads}
    waits: dict[str, dict[str, None]] = {i.name: dict.fromkeys(i.after) for i in spec.instances}
    for workload in spec.workloads:
        for earlier in workload.after:
            if place[earlier] != workload.instance:
                waits[workload.instance][place[earlier]] = None
    within = {n: [e for e in waits[n] if e in changed] for n in waits if n in changed}
    for ring in rings(within):
        problems.add(
            "strategy.kind",
            f"instances {' -> '.join([*ring, ring[0]])} wait for each other, by their own `after` "
            "and that of their workloads, and none can be taken first; choose surge",
        )
    if problems.lines:
        return Order([], [])
    pairs = [(e, name) for name, earlier in within.items() for e in earlier]
    sorter: TopologicalSorter[str] = TopologicalSorter(dict.fromkeys(within, ()))
    for name, others in within.items():
        sorter.add(name, *others)
    return Order(list(sorter.static_order()), pairs)
