"""Steps that change what instances have as they run.

    every instance that gives: remove-cpus, remove-memory
    the pool:                  shrink-pool, grow-pool
    every instance that gets:  add-cpus, add-memory

one after the other, before new generations are made: what some give, others get. The kernel has one
lock for all of it, so nothing is lost by that order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from orchestrator.model.base import Record
from orchestrator.model.host import MemoryPiece
from orchestrator.model.kinds import Kind
from orchestrator.model.params import side_by_side
from orchestrator.model.quantities import format_size
from orchestrator.model.steps import Step
from orchestrator.planning import estimates
from orchestrator.planning.builder import SectionBuilder
from orchestrator.planning.decisions import count
from orchestrator.planning.side_by_side.pool import PoolChange
from orchestrator.planning.side_by_side.resizing import Resize
from orchestrator.planning.side_by_side.steps import LOCK, NEEDS

Moves = (
    side_by_side.AddCpus
    | side_by_side.RemoveCpus
    | side_by_side.AddMemory
    | side_by_side.RemoveMemory
)
CPUS, MEMORY = "pool:cpus", "pool:memory"
"""In ids of steps about the pool; no instance can be named so."""
DEADLINE = 60.0
ITEM_DEADLINE = 20.0
"""Seconds: the kernel waits 10 for a running instance's answer, item by item."""


def put(b: SectionBuilder, resizes: Iterable[Resize], pool: PoolChange) -> None:
    """All of it, behind everything so far."""
    resizes = list(resizes)
    for it in resizes:
        for step in _giving(b, it):
            b.put(step)
    for step in _pool(b, pool):
        b.put(step)
    for it in resizes:
        for step in _getting(b, it):
            b.put(step)


def undo(b: SectionBuilder, resizes: Iterable[Resize], pool: PoolChange) -> None:
    """What `put` did, the other way round."""
    resizes = list(resizes)
    for it in reversed(resizes):
        for step in _taking_back(b, it):
            b.put(step)
    for step in _pool_back(b, pool):
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


def _pool(b: SectionBuilder, pool: PoolChange) -> Iterator[Step]:
    if pool.fewer:
        yield _shrink_cpus(b, pool.fewer)
    if pool.less:
        before = pool.before.memory_bytes if pool.before else 0
        gone = side_by_side.ShrinkPool(chunks=pool.less, memory_before=before)
        yield _shrink_memory(b, pool.less_memory, gone)
    if pool.more:
        yield _grow_cpus(b, pool.more)
    if pool.more_memory:
        chunks = pool.before.chunks if pool.before else []
        yield _grow_memory(b, pool.more_memory, chunks)


def _pool_back(b: SectionBuilder, pool: PoolChange) -> Iterator[Step]:
    before = pool.before
    if before is None:
        return
    if pool.more_memory:
        gone = side_by_side.ShrinkPool(
            added_by=f"{Kind.GROW_POOL.value}/{MEMORY}",
            memory_before=before.memory_bytes + pool.more_memory,
        )
        yield _shrink_memory(b, pool.more_memory, gone)
    if pool.more:
        yield _shrink_cpus(b, pool.more)
    if pool.less:
        chunks = [it for it in before.chunks if it not in pool.less]
        yield _grow_memory(b, pool.less_memory, chunks)
    if pool.fewer:
        yield _grow_cpus(b, pool.fewer)


def _shrink_cpus(b: SectionBuilder, cpus: list[int]) -> Step:
    title = f"Give {count(cpus, 'CPU')} of the pool back to the host"
    params = side_by_side.ShrinkPool(cpus=cpus)
    return _make(b, Kind.SHRINK_POOL, CPUS, title, params, items=len(cpus))


def _shrink_memory(b: SectionBuilder, size: int, params: side_by_side.ShrinkPool) -> Step:
    title = f"Give {format_size(size)} of the pool back to the host"
    return _make(b, Kind.SHRINK_POOL, MEMORY, title, params, items=1)


def _grow_cpus(b: SectionBuilder, cpus: list[int]) -> Step:
    title = f"Set {count(cpus, 'CPU')} of the host aside in the pool"
    params = side_by_side.GrowPool(cpus=cpus)
    return _make(b, Kind.GROW_POOL, CPUS, title, params, items=len(cpus))


def _grow_memory(b: SectionBuilder, size: int, before: list[MemoryPiece]) -> Step:
    title = f"Set {format_size(size)} of the host aside in the pool"
    params = side_by_side.GrowPool(memory=size, chunks=before)
    return _make(b, Kind.GROW_POOL, MEMORY, title, params, items=1)


def make(b: SectionBuilder, kind: Kind, title: str, params: Moves, *, items: int) -> Step:
    """One about an instance, for so many items."""
    return _make(b, kind, params.target.name, title, params, items=items)


def _make(
    b: SectionBuilder, kind: Kind, about: str, title: str, params: Record, **rest: int
) -> Step:
    items = rest["items"]
    return b.make(
        kind,
        about,
        title,
        params,
        estimate=estimates.QUICK * items,
        deadline=DEADLINE + ITEM_DEADLINE * items,
        requires=NEEDS,
        resources=[LOCK],
    )
