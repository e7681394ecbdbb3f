"""An instance that runs what it should, and is to have other CPUs or memory: changed as it runs.

Decided here, put into steps by `resize_steps`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace

from orchestrator.model.host import HostState, InstanceState, MemoryPiece
from orchestrator.model.params.side_by_side import Generation
from orchestrator.model.quantities import format_size
from orchestrator.planning.decisions import count
from orchestrator.planning.problems import Problems
from orchestrator.planning.side_by_side.capacity import Need


@dataclass(frozen=True)
class Resize:
    """What one instance gives and gets."""

    name: str
    """Of the spec's instance."""
    state: InstanceState
    need: Need
    fewer: list[int]
    """CPUs that go."""
    less: list[MemoryPiece]
    """Memory that goes, the newest first."""
    more_memory: int
    more: list[int]
    """CPUs that come; until they are picked, none."""
    granule: int

    @property
    def more_cpus(self) -> int:
        return max(0, self.need.cpus - len(self.state.cpus))

    @property
    def less_memory(self) -> int:
        return sum(it.size for it in self.less)

    @property
    def generation(self) -> Generation:
        return Generation(name=self.state.name, id=self.state.id)

    def change(self) -> str:
        """ "instance batch: batch-g2 as it runs: 4 CPUs -> 2 CPUs"."""
        edits = []
        if len(self.state.cpus) != self.need.cpus:
            edits.append(
                f"{count(self.state.cpus, 'CPU')} -> {count(range(self.need.cpus), 'CPU')}"
            )
        if self.state.memory_bytes != self.need.memory_bytes:
            before, then = (
                format_size(it) for it in (self.state.memory_bytes, self.need.memory_bytes)
            )
            edits.append(f"{before} -> {then}")
        return f"instance {self.name}: {self.state.name} as it runs: {', '.join(edits)}"


def resize(name: str, state: InstanceState, need: Need, granule: int) -> Resize | str:
    """What is to be moved; or why the kernel would refuse it."""
    less: list[MemoryPiece] = []
    more = need.memory_bytes - state.memory_bytes
    if more and not state.memory:
        return "where it has its memory is not known (/proc/iomem)"
    if more < 0:
        found = _newest(state.memory, -more)
        if found is None:
            return _no_such_pieces(state, -more)
        less = found
    if more > 0 and more % granule:
        return (
            f"memory moves by {format_size(granule)}, and {format_size(more)} more is no multiple "
            "of it"
        )
    # The CPU that it booted on is its first, and cannot be removed.
    return Resize(name, state, need, state.cpus[need.cpus :], less, max(0, more), [], granule)


def check_hot_plug(resizes: Collection[Resize], host: HostState, problems: Problems) -> None:
    """A kernel knows the CPUs that were in the pool when it booted, and takes no others."""
    known = len(host.pool.free_cpus) if host.pool else 0
    known += sum(len(it.fewer) for it in resizes)
    wanted = sum(it.more_cpus for it in resizes)
    if wanted > known:
        names = ", ".join(it.state.name for it in resizes if it.more_cpus)
        problems.add(
            "host.pool.cpus",
            f"{count(range(wanted), 'CPU')} for {names}, and {known} are free: a kernel takes none "
            "that joined the pool after it booted",
        )


def with_cpus(resizes: Iterable[Resize], free: Iterator[int]) -> Iterator[Resize]:
    """Each with those that it gets."""
    for it in resizes:
        yield replace(it, more=[next(free) for _ in range(it.more_cpus)])


def _newest(pieces: list[MemoryPiece], size: int) -> list[MemoryPiece] | None:
    """The newest that make up so much; None: there are none. The oldest has the image in it."""
    found: list[MemoryPiece] = []
    for piece in reversed(pieces[1:]):
        if size <= 0:
            break
        found.append(piece)
        size -= piece.size
    return found if size == 0 else None


def _no_such_pieces(state: InstanceState, size: int) -> str:
    sizes = ", ".join(format_size(it.size) for it in state.memory)
    return (
        f"memory goes by whole pieces, the newest first and never the one with the image, and it "
        f"has {sizes}: {format_size(size)} is none of them"
    )
