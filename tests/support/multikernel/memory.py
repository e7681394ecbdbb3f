"""Memory of the host and of the pool: what is whose, down to the byte."""

from __future__ import annotations

import errno
from collections.abc import Iterable

from orchestrator.drivers.multikernel.trees.forms import MemoryRegion
from tests.support.multikernel.settings import GRANULE, PAGE, PARK_BYTES


class Memory:
    """The host's free memory, the pool's chunks, and what instances have of them."""

    def __init__(self, host: Iterable[MemoryRegion]) -> None:
        self.host = list(host)
        """Free and never the pool's; several regions: it is fragmented."""
        self.chunks: list[MemoryRegion] = []
        self.park: MemoryRegion | None = None
        self.used: list[MemoryRegion] = []

    def total(self) -> int:
        """Conserved whatever happens."""
        return sum(region.size for region in (*self.host, *self.chunks))

    def grow(self, size: int, node: int | None) -> list[MemoryRegion]:
        """Host to pool: in one chunk if any free region is large enough, else in several."""
        if size <= 0 or size % PAGE:
            raise OSError(errno.EINVAL, "not a multiple of a page")
        fitting = [r for r in self.host if node is None or r.node in (None, node)]
        whole = next((r for r in fitting if r.size >= size), None)
        pieces = [whole] if whole else sorted(fitting, key=lambda r: -r.size)
        taken: list[MemoryRegion] = []
        left = size
        for piece in pieces:
            part = min(left, piece.size if whole else piece.size // GRANULE * GRANULE)
            if part:
                taken.append(MemoryRegion(piece.base, part, piece.node))
                left -= part
        if left:
            raise OSError(errno.ENOMEM, "no contiguous memory")
        for region in taken:
            self.host = list(without(self.host, region))
            self.chunks.append(region)
        if self.park is None:
            first = self.chunks[0]
            self.park = MemoryRegion(first.base, min(PARK_BYTES, first.size), first.node)
        return taken

    def shrink(self, base: int, size: int) -> None:
        """Pool to host: one whole chunk that nobody uses."""
        chunk = next((c for c in self.chunks if (c.base, c.size) == (base, size)), None)
        if chunk is None:
            raise OSError(errno.EINVAL, "not one whole chunk")
        if any(overlap(chunk, region) for region in self.used):
            raise OSError(errno.EBUSY, "in use")
        if self.park is not None and overlap(chunk, self.park):
            if len(self.chunks) > 1 or self.used:
                raise OSError(errno.EBUSY, "the park area is in it")
            self.park = None
        self.chunks.remove(chunk)
        self.host.append(chunk)

    def free(self) -> list[MemoryRegion]:
        """What an instance can get, in pieces."""
        left: list[MemoryRegion] = list(self.chunks)
        for taken in (*self.used, *([self.park] if self.park else [])):
            left = list(without(left, taken))
        return left

    def take(self, size: int, node: int | None, align: int = PAGE) -> MemoryRegion:
        """Wherever it fits, in one piece."""
        if size <= 0 or size % PAGE:
            raise OSError(errno.EINVAL, "not a multiple of a page")
        for region in self.free():
            base = -(-region.base // align) * align
            if node not in (None, region.node) or base + size > region.base + region.size:
                continue
            found = MemoryRegion(base, size, region.node)
            self.used.append(found)
            return found
        raise OSError(errno.ENOMEM, "no room in the pool")

    def take_exactly(self, base: int, size: int) -> MemoryRegion:
        """That very range."""
        for region in self.free():
            if region.base <= base and base + size <= region.base + region.size:
                found = MemoryRegion(base, size, region.node)
                self.used.append(found)
                return found
        raise OSError(errno.EBUSY, "not free in the pool")

    def give(self, region: MemoryRegion) -> None:
        """Instance to pool."""
        self.used.remove(region)


def overlap(one: MemoryRegion, other: MemoryRegion) -> bool:
    return one.base < other.base + other.size and other.base < one.base + one.size


def without(regions: Iterable[MemoryRegion], taken: MemoryRegion) -> Iterable[MemoryRegion]:
    """The regions less one."""
    end = taken.base + taken.size
    for region in regions:
        if not overlap(region, taken):
            yield region
            continue
        if region.base < taken.base:
            yield MemoryRegion(region.base, taken.base - region.base, region.node)
        if end < region.base + region.size:
            yield MemoryRegion(end, region.base + region.size - end, region.node)
