"""Where in the pool there is memory for an instance that runs: the place is ours to name.

A part of the pool is the kernel's own, for CPUs at rest, and nobody says where (facts 1.6). So
several places are found, and the next is tried where one is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from orchestrator.drivers.multikernel.seeing import Snapshot
from orchestrator.drivers.multikernel.trees.forms import MemoryRegion
from orchestrator.model.errors import ErrorClass, MkupgradeError
from orchestrator.system.multikernel_errors import ROOT

Places = tuple[MemoryRegion, ...]


def free(now: Snapshot, granule: int) -> list[MemoryRegion]:
    """What of the pool no instance has, in whole granules; the largest first.

    Raises:
        MkupgradeError: the kernel does not say where instances have their memory.
    """
    used: list[MemoryRegion] = []
    for name, seen in now.instances.items():
        if seen.tree.memory_bytes != sum(it.region.size for it in seen.regions):
            raise MkupgradeError(
                f"where {name} has its memory is not said by /proc/iomem",
                where=str(ROOT / "instances" / name),
                state="nothing was changed by this step",
                next_command="grep mk-instance /proc/iomem",
                error_class=ErrorClass.REFUSED,
            )
        used += [it.region for it in seen.regions]
    left = [hole for chunk in now.pool.memory for hole in _holes(chunk, used)]
    whole = (_whole(hole, granule) for hole in left)
    return sorted((it for it in whole if it.size), key=lambda it: (-it.size, it.base))


def places(holes: Iterable[MemoryRegion], size: int, granule: int) -> Iterator[Places]:
    """Ways to get so many bytes: in one piece at either end of a hole, else in several.

    Args:
        holes: whole granules, the largest first.
        size: whole granules.
    """
    found: list[Places] = []
    holes = list(holes)
    for hole in holes:
        if hole.size >= size:
            high = MemoryRegion(hole.base + hole.size - size, size, hole.node)
            found += [(high,), (MemoryRegion(hole.base, size, hole.node),)]
    if not found:
        upper = [MemoryRegion(it.base + granule, it.size - granule, it.node) for it in holes]
        lower = [MemoryRegion(it.base, it.size - granule, it.node) for it in holes]
        found = [pieces for some in (upper, lower, holes) if (pieces := _pieces(some, size))]
    yield from dict.fromkeys(found)


def _pieces(holes: Iterable[MemoryRegion], size: int) -> Places:
    """From one hole after the other; nothing: they are not enough."""
    taken: list[MemoryRegion] = []
    for hole in holes:
        part = min(size, hole.size)
        if part:
            taken.append(MemoryRegion(hole.base, part, hole.node))
            size -= part
    return () if size else tuple(taken)


def _holes(chunk: MemoryRegion, used: Iterable[MemoryRegion]) -> Iterator[MemoryRegion]:
    at, end = chunk.base, chunk.base + chunk.size
    for region in sorted(used, key=lambda it: it.base):
        if region.base + region.size <= at or region.base >= end:
            continue
        if region.base > at:
            yield MemoryRegion(at, region.base - at, chunk.node)
        at = region.base + region.size
    if at < end:
        yield MemoryRegion(at, end - at, chunk.node)


def _whole(hole: MemoryRegion, granule: int) -> MemoryRegion:
    base = -(-hole.base // granule) * granule
    return MemoryRegion(base, max(0, hole.base + hole.size - base) // granule * granule, hole.node)
