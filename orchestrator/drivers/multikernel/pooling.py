"""Step kinds about what the host sets aside for instances: grow-pool, shrink-pool.

CPUs are told by their ids. Memory comes where the kernel finds it, so it is told by what the pool
had before; undoing a shrink brings as much again, perhaps at another place. Without a transaction
of ours a step changed nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.drivers.jobs import absent, partial, present
from orchestrator.drivers.multikernel import changing
from orchestrator.drivers.multikernel.parts import Handler, Job
from orchestrator.drivers.multikernel.resizing import persist
from orchestrator.drivers.multikernel.seeing import look
from orchestrator.drivers.multikernel.trees.changes import Change, CpuChange, MemoryChange, Verb
from orchestrator.drivers.multikernel.trees.forms import MemoryRegion, MemoryRequest
from orchestrator.model.errors import MkupgradeError
from orchestrator.model.host import MemoryPiece
from orchestrator.model.params.side_by_side import GrowPool, ShrinkPool
from orchestrator.model.seams import Result
from orchestrator.model.steps import Inspected
from orchestrator.system.multikernel_errors import ROOT


class GrowHandler(Handler[GrowPool]):
    def perform(self, job: Job, params: GrowPool) -> Result:
        if params.cpus:
            return {"transactions": _cpus(job, Verb.ADD, params.cpus, undoing=False)}
        wanted = sum(it.size for it in params.chunks) + params.memory
        made = _more_memory(job, wanted, undoing=False)
        return {"transactions": made, **_result(_new(job, params.chunks))}

    def inspect(self, job: Job, params: GrowPool) -> Inspected:
        if not changing.asked(job.kernel, job.tag()):
            return absent("the kernel has no transaction of this step")
        if params.cpus:
            has = set(look(job.kernel).pool.cpus)
            return _verdict(len(has.intersection(params.cpus)), len(params.cpus), "CPUs came")
        new = _new(job, params.chunks)
        found = _verdict(sum(it.size for it in new), params.memory, "bytes came")
        return found.model_copy(update={"result": _result(new)})

    def revert(self, job: Job, params: GrowPool) -> Result:
        if not changing.asked(job.kernel, job.tag()):
            return {}
        if params.cpus:
            return {"transactions": _cpus(job, Verb.REMOVE, params.cpus, undoing=True)}
        new = _new(job, params.chunks)
        if sum(it.size for it in new) > params.memory:
            raise MkupgradeError(
                "more memory came to the pool than this step asked for: somebody else's, too",
                where=str(ROOT / "device_tree"),
                state="nothing of it was given back",
                next_command="grep 'Multikernel Memory Pool' /proc/iomem",
                details=tuple(f"{it.size >> 20} MiB at {it.base:#x}" for it in new),
            )
        return {"transactions": _less_memory(job, new, undoing=True)}


class ShrinkHandler(Handler[ShrinkPool]):
    def perform(self, job: Job, params: ShrinkPool) -> Result:
        if params.cpus:
            return {"transactions": _cpus(job, Verb.REMOVE, params.cpus, undoing=False)}
        return {"transactions": _less_memory(job, self._chunks(job, params), undoing=False)}

    def inspect(self, job: Job, params: ShrinkPool) -> Inspected:
        if not changing.asked(job.kernel, job.tag()):
            return absent("the kernel has no transaction of this step")
        if params.cpus:
            has = set(look(job.kernel).pool.cpus)
            return _verdict(len(set(params.cpus) - has), len(params.cpus), "CPUs went")
        size = sum(it.size for it in self._chunks(job, params))
        before = params.memory_before
        return _verdict(max(0, before - _total(job)), size, "bytes went")

    def revert(self, job: Job, params: ShrinkPool) -> Result:
        if not changing.asked(job.kernel, job.tag()):
            return {}
        if params.cpus:
            return {"transactions": _cpus(job, Verb.ADD, params.cpus, undoing=True)}
        return {"transactions": _more_memory(job, params.memory_before, undoing=True)}

    @staticmethod
    def _chunks(job: Job, params: ShrinkPool) -> list[MemoryRegion]:
        if params.added_by is None:
            return [MemoryRegion(it.base, it.size) for it in params.chunks]
        added = job.context.results.get(params.added_by, {}).get("chunks", [])
        return [MemoryRegion(int(base), int(size)) for base, size in added]


def _cpus(job: Job, verb: Verb, cpus: Iterable[int], *, undoing: bool) -> list[int]:
    def rest() -> Change | None:
        has = look(job.kernel).pool.cpus
        left = tuple(cpu for cpu in cpus if (cpu in has) != (verb is Verb.ADD))
        return CpuChange(None, verb, left) if left else None

    return persist(job, rest, undoing=undoing)


def _more_memory(job: Job, wanted: int, *, undoing: bool) -> list[int]:
    """Until the pool has so much in all."""

    def rest() -> Change | None:
        lacking = wanted - _total(job)
        requests = (MemoryRequest(lacking),)
        return MemoryChange(None, Verb.ADD, requests=requests) if lacking > 0 else None

    return persist(job, rest, undoing=undoing)


def _less_memory(job: Job, chunks: Iterable[MemoryRegion], *, undoing: bool) -> list[int]:
    def rest() -> Change | None:
        has = {(it.base, it.size) for it in look(job.kernel).pool.memory}
        left = tuple(it for it in chunks if (it.base, it.size) in has)
        return MemoryChange(None, Verb.REMOVE, left) if left else None

    return persist(job, rest, undoing=undoing)


def _new(job: Job, before: Iterable[MemoryPiece]) -> list[MemoryRegion]:
    """Chunks that were not there before."""
    old = {(it.base, it.size) for it in before}
    found = look(job.kernel).pool.memory
    return [MemoryRegion(it.base, it.size) for it in found if (it.base, it.size) not in old]


def _total(job: Job) -> int:
    return sum(it.size for it in look(job.kernel).pool.memory)


def _result(chunks: Iterable[MemoryRegion]) -> Result:
    """What later steps may ask for."""
    return {"chunks": [(it.base, it.size) for it in chunks]}


def _verdict(done: int, of: int, what: str) -> Inspected:
    said = f"{done} of {of} {what}"
    if done == 0:
        return absent(said)
    return present(said) if done == of else partial(said)
