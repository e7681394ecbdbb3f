"""Step kinds about what a running instance has: add-cpus, remove-cpus, add-memory, remove-memory.

What has become of one is told by what the instance has, and by the kernel's own transactions:
without one of ours, the step changed nothing, whatever the instance has. A change is tried again
for what is left of it, since hot-plug and all kexec calls share one lock.
"""

from __future__ import annotations

import itertools
from abc import abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from orchestrator.drivers.jobs import absent, partial, present
from orchestrator.drivers.multikernel import changing
from orchestrator.drivers.multikernel.changing import ChangeFailedError
from orchestrator.drivers.multikernel.parts import Handler, Job
from orchestrator.drivers.multikernel.places import free, places
from orchestrator.drivers.multikernel.seeing import SeenInstance, Status, look
from orchestrator.drivers.multikernel.trees.changes import (
    Change,
    CpuChange,
    MemoryChange,
    Verb,
)
from orchestrator.drivers.multikernel.trees.forms import MemoryRegion
from orchestrator.model.errors import ErrorClass, MkupgradeError
from orchestrator.model.params import side_by_side
from orchestrator.model.params.side_by_side import Generation
from orchestrator.model.seams import Result
from orchestrator.model.steps import Inspected
from orchestrator.system.multikernel_errors import ROOT

_TRIES = 6
_FIRST_PAUSE = 0.1
P = TypeVar(
    "P",
    side_by_side.AddCpus,
    side_by_side.RemoveCpus,
    side_by_side.AddMemory,
    side_by_side.RemoveMemory,
)
Item = int | tuple[int, int]
"""A CPU, or base and size of a piece of memory."""


class _Resize(Handler[P]):
    """What is asked for is a set of items, each of which the instance has or has not."""

    verb: Verb

    @abstractmethod
    def asked(self, job: Job, params: P) -> list[Item]:
        """In the order in which they are to be moved."""

    @abstractmethod
    def has(self, seen: SeenInstance) -> list[Item]:
        """What the instance has of that sort; memory: the newest first."""

    @abstractmethod
    def change(self, name: str, verb: Verb, items: Iterable[Item]) -> Change: ...

    def perform(self, job: Job, params: P) -> Result:
        return self._move(job, params, self.verb, self.asked(job, params), undoing=False)

    def inspect(self, job: Job, params: P) -> Inspected:
        name = params.target.name
        if not changing.asked(job.kernel, job.tag()):
            return absent("the kernel has no transaction of this step")
        seen = _seen(job, params.target)
        if seen is None:
            return absent(f"{name} is gone, and what it had with it")
        items = self.asked(job, params)
        moved = self._moved(seen, items)
        has = f"{name} has {_said(self.has(seen))}"
        if not moved:
            return absent(f"nothing of it is done: {has}")
        if self.whole(params, moved) and len(moved) == len(items):
            return present(f"{_transactions(job)}, and {has}", self.result(moved))
        return partial(f"done of it: {_said(moved)}; {has}")

    def revert(self, job: Job, params: P) -> Result:
        seen = _seen(job, params.target)
        if seen is None or not changing.asked(job.kernel, job.tag()):
            return {}
        moved = self._moved(seen, self.asked(job, params))
        if self.verb is Verb.ADD:
            moved = [item for item in self.has(seen) if item in moved]
        else:
            moved.reverse()
        back = Verb.REMOVE if self.verb is Verb.ADD else Verb.ADD
        return self._move(job, params, back, moved, undoing=True)

    def whole(self, params: P, moved: list[Item]) -> bool:
        """Is that all that the step is to move?"""
        return True

    def result(self, moved: list[Item]) -> Result:
        """What later steps may ask for."""
        return {}

    def _moved(self, seen: SeenInstance, items: list[Item]) -> list[Item]:
        has = self.has(seen)
        return [item for item in items if (item in has) == (self.verb is Verb.ADD)]

    def _move(self, job: Job, params: P, verb: Verb, items: list[Item], *, undoing: bool) -> Result:
        """Until the instance has, or has not, all of them."""

        def rest() -> Change | None:
            has = self.has(_must_be_there(job, params.target))
            left = [item for item in items if (item in has) != (verb is Verb.ADD)]
            return self.change(params.target.name, verb, left) if left else None

        return {"transactions": persist(job, rest, undoing=undoing)}


class _Cpus(_Resize[Any]):
    def asked(self, job: Job, params: Any) -> list[Item]:
        return list(params.cpus)

    def has(self, seen: SeenInstance) -> list[Item]:
        return list(seen.tree.cpus)

    def change(self, name: str, verb: Verb, items: Iterable[Item]) -> Change:
        return CpuChange(name, verb, tuple(it for it in items if isinstance(it, int)))


class AddCpusHandler(_Cpus):
    verb = Verb.ADD


class RemoveCpusHandler(_Cpus):
    verb = Verb.REMOVE


class _Memory(_Resize[Any]):
    def has(self, seen: SeenInstance) -> list[Item]:
        return [(it.region.base, it.region.size) for it in reversed(seen.regions)]

    def change(self, name: str, verb: Verb, items: Iterable[Item]) -> Change:
        regions = tuple(MemoryRegion(*it) for it in items if isinstance(it, tuple))
        return MemoryChange(name, verb, regions)


class RemoveMemoryHandler(_Memory):
    verb = Verb.REMOVE

    def asked(self, job: Job, params: side_by_side.RemoveMemory) -> list[Item]:
        if params.added_by is None:
            return [(it.base, it.size) for it in params.pieces]
        added = job.context.results.get(params.added_by, {}).get("memory", [])
        return [(int(base), int(size)) for base, size in reversed(added)]


class AddMemoryHandler(_Memory):
    """Its place is chosen when it is added. Which one that was, the kernel's copy of our overlay
    says."""

    verb = Verb.ADD

    def perform(self, job: Job, params: side_by_side.AddMemory) -> Result:
        """One place after the other, for one of them may be the kernel's own."""
        seen = _must_be_there(job, params.target)
        if seen.status is not Status.ACTIVE:
            raise _stopped(params.target, seen.status)
        holes = free(look(job.kernel), params.granule)
        ways = itertools.cycle(places(holes, params.size, params.granule))

        def another() -> Change:
            regions = next(ways, None)
            if regions is None:
                raise _no_room(params)
            return MemoryChange(params.target.name, Verb.ADD, regions)

        made = persist(job, another, undoing=False, whole=True)
        return {"transactions": made, **self.result(self.asked(job, params))}

    def asked(self, job: Job, params: side_by_side.AddMemory) -> list[Item]:
        """By the attempt that got anything done, else by the last."""
        tried: list[list[Item]] = []
        for _, changes in sorted(changing.asked(job.kernel, job.tag()).items(), reverse=True):
            regions = [r for it in changes if isinstance(it, MemoryChange) for r in it.regions]
            tried.append([(it.base, it.size) for it in regions])
        seen = _seen(job, params.target)
        has = set(self.has(seen)) if seen is not None else set()
        return next((it for it in tried if has.intersection(it)), tried[0] if tried else [])

    def result(self, moved: list[Item]) -> Result:
        return {"memory": moved}

    def whole(self, params: side_by_side.AddMemory, moved: list[Item]) -> bool:
        return sum(it[1] for it in moved if isinstance(it, tuple)) == params.size


def persist(
    job: Job, rest: Callable[[], Change | None], *, undoing: bool, whole: bool = False
) -> list[int]:
    """Ask for what is left, with longer and longer pauses; numbers of the transactions.

    Args:
        whole: what is done in part is not gone on with.
    """
    made: list[int] = []
    pause, patience = _FIRST_PAUSE, job.patience()
    for tries_left in reversed(range(_TRIES)):
        change = rest()
        if change is None:
            break
        try:
            made += changing.apply(job.kernel, change, job.tag(undoing=undoing))
        except ChangeFailedError:
            done = whole and changing.compare(change, look(job.kernel)).there
            if not tries_left or done or patience.remaining() <= pause:
                raise
            patience.sleep(pause)
            pause *= 2
            continue
        break
    return made


def _seen(job: Job, target: Generation) -> SeenInstance | None:
    """None: there is none of this name and id."""
    seen = look(job.kernel).instances.get(target.name)
    return seen if seen is not None and seen.tree.id == target.id else None


def _must_be_there(job: Job, target: Generation) -> SeenInstance:
    seen = _seen(job, target)
    if seen is None:
        raise MkupgradeError(
            f"there is no instance {target.name} with id {target.id} (any more)",
            where=str(ROOT / "instances" / target.name),
            state="nothing was changed by this step",
            next_command=f"ls {ROOT / 'instances'}",
        )
    return seen


def _stopped(target: Generation, status: Status) -> MkupgradeError:
    """7.0-mk2 takes the place that we name for what runs only."""
    return MkupgradeError(
        f"{target.name} does not run any more: it is {status}",
        where=str(ROOT / "instances" / target.name),
        state="nothing was changed by this step",
        next_command="mkupgrade status",
    )


def _no_room(params: side_by_side.AddMemory) -> MkupgradeError:
    return MkupgradeError(
        f"no {params.size >> 20} MiB are free in the pool in pieces of {params.granule >> 20} MiB",
        where=str(ROOT / "instances" / params.target.name),
        state="nothing was changed by this step",
        next_command="grep -A99 'Multikernel Memory Pool' /proc/iomem",
        error_class=ErrorClass.REFUSED,
    )


def _transactions(job: Job) -> str:
    number = sum(len(parts) for parts in changing.asked(job.kernel, job.tag()).values())
    return f"{number} transactions of this step"


def _said(items: list[Item]) -> str:
    """ "CPUs 8, 10", "1024 MiB at 0x100000000"."""
    if not items:
        return "nothing of that sort"
    cpus = [str(it) for it in items if isinstance(it, int)]
    memory = [f"{it[1] >> 20} MiB at {it[0]:#x}" for it in items if isinstance(it, tuple)]
    return ", ".join([f"CPUs {', '.join(cpus)}"] if cpus else memory)
