"""Steps that change what instances have as they run.

    every instance that gives: remove-cpus, remove-memory
    every instance that gets:  add-cpus, add-memory

one after the other, before new generations are made: what some give, others get. The kernel has one
lock for all of it, so nothing is lost by that order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from orchestrator.model.kinds import Kind
from orchestrator.model.params import side_by_side
from orchestrator.model.quantities import format_size
from orchestrator.model.steps import Step
from orchestrator.planning import estimates
from orchestrator.planning.builder import SectionBuilder
from orchestrator.planning.decisions import count
from orchestrator.planning.side_by_side.resizing import Resize
from orchestrator.planning.side_by_side.steps import LOCK, NEEDS

Moves = (
    side_by_side.AddCpus
    | side_by_side.RemoveCpus
    | side_by_side.AddMemory
    | side_by_side.RemoveMemory
)
DEADLINE = 60.0
ITEM_DEADLINE = 20.0
"""Seconds: the kernel waits 10 for a running instance's answer, item by item."""


def put(b: SectionBuilder, resizes: Iterable[Resize]) -> None:
    """All of it, behind everything so far."""
    resizes = list(resizes)
    for it in resizes:
        for step in _giving(b, it):
            b.put(step)
    for it in resizes:
        for step in _getting(b, it):
            b.put(step)


def undo(b: SectionBuilder, resizes: Iterable[Resize]) -> None:
    """What `put` did, the other way round."""
    resizes = list(resizes)
    for it in reversed(resizes):
        for step in _taking_back(b, it):
            b.put(step)
    for it in reversed(resizes):
        for step in _giving_back(b, it):
            b.put(step)


def _taking_back(b: SectionBuilder, it: Resize) -> Iterator[Step]:
    if it.more_memory:
        gone = side_by_side.RemoveMemory(
            target=it.generation, pieces=[], added_by=f"{Kind.ADD_MEMORY.value}/{it.state.name}"
        )
        title = f"Take {format_size(it.more_memory)} from {it.state.name}"
        yield make(b, Kind.REMOVE_MEMORY, title, gone, items=1)
    if it.more:
        went = side_by_side.RemoveCpus(target=it.generation, cpus=list(reversed(it.more)))
        title = f"Take {count(it.more, 'CPU')} from {it.state.name}"
        yield make(b, Kind.REMOVE_CPUS, title, went, items=len(it.more))


def _giving_back(b: SectionBuilder, it: Resize) -> Iterator[Step]:
    if it.less:
        added = side_by_side.AddMemory(
            target=it.generation, size=it.less_memory, granule=it.granule
        )
        title = f"Give {format_size(it.less_memory)} to {it.state.name}"
        yield make(b, Kind.ADD_MEMORY, title, added, items=1)
    if it.fewer:
        came = side_by_side.AddCpus(target=it.generation, cpus=it.fewer)
        title = f"Give {count(it.fewer, 'CPU')} to {it.state.name}"
        yield make(b, Kind.ADD_CPUS, title, came, items=len(it.fewer))


def _giving(b: SectionBuilder, it: Resize) -> Iterator[Step]:
    if it.fewer:
        went = side_by_side.RemoveCpus(target=it.generation, cpus=list(reversed(it.fewer)))
        title = f"Take {count(it.fewer, 'CPU')} from {it.state.name}"
        yield make(b, Kind.REMOVE_CPUS, title, went, items=len(it.fewer))
    if it.less:
        gone = side_by_side.RemoveMemory(target=it.generation, pieces=it.less)
        title = f"Take {format_size(it.less_memory)} from {it.state.name}"
        yield make(b, Kind.REMOVE_MEMORY, title, gone, items=len(it.less))


def _getting(b: SectionBuilder, it: Resize) -> Iterator[Step]:
    if it.more:
        came = side_by_side.AddCpus(target=it.generation, cpus=it.more)
        title = f"Give {count(it.more, 'CPU')} to {it.state.name}"
        yield make(b, Kind.ADD_CPUS, title, came, items=len(it.more))
    if it.more_memory:
        added = side_by_side.AddMemory(
            target=it.generation, size=it.more_memory, granule=it.granule
        )
        title = f"Give {format_size(it.more_memory)} to {it.state.name}"
        yield make(b, Kind.ADD_MEMORY, title, added, items=1)


def make(b: SectionBuilder, kind: Kind, title: str, params: Moves, *, items: int) -> Step:
    """One of these steps, for so many items."""
    return b.make(
        kind,
        params.target.name,
        title,
        params,
        estimate=estimates.QUICK * items,
        deadline=DEADLINE + ITEM_DEADLINE * items,
        requires=NEEDS,
        resources=[LOCK],
    )
