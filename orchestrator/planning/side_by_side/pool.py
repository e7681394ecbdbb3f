"""What the host sets aside for instances, where the spec wants another pool than there is.

CPUs join from the host's, the highest first, and never the one that Linux began with; free ones go
back. Memory comes where the kernel finds it, and goes back by whole chunks that nobody uses.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from orchestrator.model.host import HostState, MemoryPiece, PoolState
from orchestrator.model.quantities import format_size
from orchestrator.model.spec import UpgradeSpec
from orchestrator.planning.decisions import count
from orchestrator.planning.problems import Problems

_MOST_CHUNKS = 16
"""Free ones, whose sums are looked through."""


@dataclass(frozen=True)
class PoolChange:
    """What the pool gets of the host and gives back to it."""

    more: list[int] = field(default_factory=list)
    """CPUs that join it."""
    fewer_cpus: int = 0
    fewer: list[int] = field(default_factory=list)
    """CPUs that go back; until they are picked, none."""
    more_memory: int = 0
    less: list[MemoryPiece] = field(default_factory=list)
    before: PoolState | None = None

    @property
    def nothing(self) -> bool:
        return not (self.more or self.fewer_cpus or self.more_memory or self.less)

    @property
    def less_memory(self) -> int:
        return sum(it.size for it in self.less)

    def with_fewer(self, free: Sequence[int]) -> PoolChange:
        """With the CPUs that go back, of those that nobody gets."""
        return replace(self, fewer=list(free[len(free) - self.fewer_cpus :]))

    def changes(self) -> list[str]:
        """ "pool: 8 CPUs -> 10 CPUs"; nothing where it stays."""
        if self.before is None or self.nothing:
            return []
        edits = []
        if self.more or self.fewer_cpus:
            now = len(self.before.cpus)
            then = range(now + len(self.more) - self.fewer_cpus)
            edits.append(f"{count(range(now), 'CPU')} -> {count(then, 'CPU')}")
        if self.more_memory or self.less:
            size = self.before.memory_bytes
            then_size = size + self.more_memory - self.less_memory
            edits.append(f"{format_size(size)} -> {format_size(then_size)}")
        return [f"pool: {', '.join(edits)}"]


def pool_change(spec: UpgradeSpec, host: HostState, problems: Problems) -> PoolChange:
    """What is to be moved; where it cannot be, why."""
    wanted, pool = spec.host.pool, host.pool
    if wanted is None:
        return PoolChange()
    if pool is None:
        problems.add(
            "host.pool",
            "the host has no pool, and the kernel takes the first CPUs and memory of one only "
            "together, at once: make it with kerf init, soon after boot while memory is whole",
        )
        return PoolChange()
    more: list[int] = []
    cpus = (wanted.cpus or len(pool.cpus)) - len(pool.cpus)
    if cpus > 0:
        more = _joining(cpus, host, problems)
    memory = (wanted.memory or pool.memory_bytes) - pool.memory_bytes
    less: list[MemoryPiece] = []
    if memory > 0:
        _check_memory(memory, pool, host, problems)
    elif memory < 0:
        less = _leaving(-memory, pool, host, problems)
    return PoolChange(more, max(0, -cpus), [], max(0, memory), less, pool)


def _joining(number: int, host: HostState, problems: Problems) -> list[int]:
    where = "host.pool.cpus"
    if not host.cpu_ids:
        problems.add(where, "which CPUs the host has is not known (no apicid in /proc/cpuinfo)")
        return []
    others = host.cpu_ids[1:]
    if number > len(others):
        problems.add(
            where,
            f"{count(range(number), 'CPU')} more, and the host has {len(host.cpu_ids)} online, of "
            "which it keeps the first",
        )
        return []
    return sorted(others[len(others) - number :])


def _check_memory(size: int, pool: PoolState, host: HostState, problems: Problems) -> None:
    where = "host.pool.memory"
    if size % pool.granule:
        problems.add(
            where,
            f"memory moves by {format_size(pool.granule)}, and {format_size(size)} more is no "
            "multiple of it",
        )
    if size > host.memory_available_bytes:
        problems.add(
            where,
            f"{format_size(size)} more, and the host has {format_size(host.memory_available_bytes)}"
            " available",
        )


def _leaving(size: int, pool: PoolState, host: HostState, problems: Problems) -> list[MemoryPiece]:
    where = "host.pool.memory"
    used = [piece for it in host.instances.values() for piece in it.memory]
    unknown = [it.name for it in host.instances.values() if it.memory_bytes and not it.memory]
    if unknown:
        problems.add(where, f"where {unknown[0]} has its memory is not known (/proc/iomem)")
        return []
    free = [it for it in pool.chunks if not any(_overlap(it, piece) for piece in used)]
    # A part of the first one is the kernel's own, or so it is likely.
    first = pool.chunks[:1]
    found = _sum(size, [it for it in free if it not in first]) or _sum(size, free)
    if found is None or len(found) == len(pool.chunks):
        sizes = ", ".join(format_size(it.size) for it in free) or "none"
        problems.add(
            where,
            f"memory goes back to the host by whole chunks that no instance uses, and not the last "
            f"one; such chunks: {sizes}, and none of them make up {format_size(size)}",
        )
        return []
    return found


def _sum(size: int, chunks: Iterable[MemoryPiece]) -> list[MemoryPiece] | None:
    """Chunks that make up so much, as few as can be; None: there are none."""
    reached: dict[int, list[MemoryPiece]] = {0: []}
    for chunk in list(chunks)[:_MOST_CHUNKS]:
        for so_far, taken in list(reached.items()):
            more = so_far + chunk.size
            if more <= size and len(reached.get(more, [None] * 99)) > len(taken) + 1:
                reached[more] = [*taken, chunk]
    return reached.get(size) or None


def _overlap(one: MemoryPiece, other: MemoryPiece) -> bool:
    return one.base < other.base + other.size and other.base < one.base + one.size
