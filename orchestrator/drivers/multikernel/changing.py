"""A change of pool or instances: asked for, found again by its tag, and held to what is there.

That the kernel took an overlay says nothing; that it says `applied` does not say all of it was
done: CPUs and devices are dropped without a word (facts 1.4, 1.5). So the trees are read back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from orchestrator.drivers.multikernel.kernel import Kernel
from orchestrator.drivers.multikernel.seeing import (
    Applied,
    Snapshot,
    Status,
    look,
    ours,
    transactions,
)
from orchestrator.drivers.multikernel.trees.changes import (
    Change,
    CpuChange,
    CreateInstance,
    DeviceChange,
    MemoryChange,
    RemoveInstance,
    Tag,
    Verb,
)
from orchestrator.drivers.multikernel.trees.overlay import Overlay, overlays, read_overlay
from orchestrator.model.errors import MkupgradeError, UnknownOutcomeError
from orchestrator.model.steps import Inspected, Inspection
from orchestrator.system.multikernel import MOST_OVERLAY_BYTES
from orchestrator.system.multikernel_errors import GoneError

_LOG = "journalctl -k -g -i multikernel -n 50"


class ChangeFailedError(MkupgradeError):
    """The kernel did not do what it was asked for, or only some of it; `details` says what."""

    code = "change-failed"


@dataclass(frozen=True, slots=True)
class Compared:
    """A change against what is there, one sentence for each item."""

    there: tuple[str, ...]
    missing: tuple[str, ...]


def apply(kernel: Kernel, change: Change, tag: Tag) -> list[int]:
    """Have the kernel make a change; numbers of its transactions.

    Args:
        tag: of this very attempt: never used before.

    Raises:
        ChangeFailedError: it was not made, or not all of it; what was done stays.
        UnknownOutcomeError: the kernel took it and has no transaction of it.
        NotSupportedError, GuardError, DeviceTreeError, SystemCallError
    """
    before = look(kernel)
    numbers = []
    for overlay in overlays(change, tag):
        kernel.write("overlays/new", overlay.encode())
        found = ours(kernel, overlay.tag)
        if found is None:
            raise UnknownOutcomeError(
                f"the kernel took an overlay and has no transaction with its tag: {overlay.tag}",
                where="/sys/fs/multikernel/overlays",
                state="the change may have been made, and undone by somebody else",
                next_command="grep -r . /sys/fs/multikernel/overlays/*/resources",
            )
        if found.status is not Applied.APPLIED:
            raise _failed(f"transaction tx_{found.id} {found.status}", change, kernel)
        numbers.append(found.id)
    after = look(kernel)
    if compare(change, after).missing or _moved(change, before, after) is False:
        raise _failed("the kernel says that it is done, and it is not", change, kernel)
    return numbers


def inspect(kernel: Kernel, change: Change, tag: Tag) -> Inspected:
    """Was a change made, by whatever attempt of the tag's step? Changes nothing.

    The kernel keeps every transaction until the next boot: without one of ours, we changed
    nothing. Memory that was added is told by them alone, since the kernel may put it elsewhere.
    """
    attempts: dict[int, dict[int, Applied]] = {}
    for found in transactions(kernel):
        if found.tag is not None and (found.tag.transaction, found.tag.step) == (
            tag.transaction, tag.step,
        ):  # fmt: skip
            attempts.setdefault(found.tag.attempt, {})[found.tag.part] = found.status
    if not attempts:
        return Inspected(
            verdict=Inspection.ABSENT, reason="the kernel has no transaction of this step"
        )
    now = look(kernel)
    compared = compare(change, now)
    parts = overlays(change, tag)
    last = attempts[max(attempts)]
    whole = all(last.get(part.tag.part) is Applied.APPLIED for part in parts)
    if whole and not compared.missing:
        return Inspected(
            verdict=Inspection.PRESENT,
            reason=_sentence(f"{len(parts)} of {len(parts)} overlays applied", compared.there),
        )
    if isinstance(change, CreateInstance) and last.get(1) is not Applied.APPLIED:
        # A create that fails leaves nothing: what has the name is not ours to take away.
        if change.name in now.instances:
            return Inspected(
                verdict=Inspection.UNKNOWN,
                reason=f"{change.name} was not made by us, and there is an instance of that name",
            )
        return Inspected(verdict=Inspection.ABSENT, reason="the instance was not made")
    done = compared.there
    if not compared.missing:
        done = done or tuple(_memory_done(parts, attempts))
    if not done:
        return Inspected(
            verdict=Inspection.ABSENT,
            reason=_sentence("nothing of it is there", compared.missing),
        )
    return Inspected(
        verdict=Inspection.PARTIAL,
        reason=_sentence(f"there: {'; '.join(done)}", compared.missing),
    )


def asked(kernel: Kernel, tag: Tag) -> dict[int, list[Change]]:
    """Attempt -> what each attempt of the tag's step asked for, as the kernel has kept it.

    Raises:
        NotSupportedError, DeviceTreeError, SystemCallError
    """
    found: dict[int, list[Change]] = {}
    for seen in transactions(kernel):
        if seen.tag is None or (seen.tag.transaction, seen.tag.step) != (tag.transaction, tag.step):
            continue
        path = f"overlays/tx_{seen.id}/dtbo"
        try:
            overlay = read_overlay(kernel.read(path, MOST_OVERLAY_BYTES), path)
        except GoneError:
            continue
        found.setdefault(seen.tag.attempt, []).insert(0, overlay.change)
    return found


def compare(change: Change, now: Snapshot) -> Compared:
    """Which items are there. Memory that is added to the pool's is not among them, nor that which
    an instance has that does not run: neither has a place of its own."""
    there: list[str] = []
    missing: list[str] = []
    for said, holds in _items(change, now):
        (there if holds else missing).append(said)
    return Compared(tuple(there), tuple(missing))


def _items(change: Change, now: Snapshot) -> Iterator[tuple[str, bool]]:
    match change:
        case CreateInstance():
            yield from _created(change, now)
        case RemoveInstance():
            yield f"instance {change.name} is gone", change.name not in now.instances
        case CpuChange():
            cpus = _cpus(change.target, now)
            for cpu in change.cpus:
                yield _said("CPU", cpu, change), (cpu in cpus) == (change.verb is Verb.ADD)
        case DeviceChange():
            devices = _devices(change.target, now)
            for address in change.pci:
                holds = (address in devices) == (change.verb is Verb.ADD)
                yield _said("device", address, change), holds
        case MemoryChange(target=str(name)):
            seen = now.instances.get(name)
            if seen is not None and seen.status is Status.ACTIVE and seen.regions:
                has = {(it.region.base, it.region.size) for it in seen.regions}
                for region in change.regions:
                    holds = ((region.base, region.size) in has) == (change.verb is Verb.ADD)
                    yield _said("memory at", f"{region.base:#x}", change), holds
        case MemoryChange() if change.verb is Verb.REMOVE:
            chunks = {(region.base, region.size) for region in now.pool.memory}
            for region in change.regions:
                holds = (region.base, region.size) not in chunks
                yield _said("memory at", f"{region.base:#x}", change), holds


def _created(change: CreateInstance, now: Snapshot) -> Iterator[tuple[str, bool]]:
    seen = now.instances.get(change.name)
    # One of another id is somebody else's, whatever it has.
    has = seen.tree if seen is not None and seen.tree.id == change.id else None
    yield f"instance {change.name} with id {change.id}", has is not None
    for cpu in change.cpus:
        yield f"CPU {cpu} in {change.name}", has is not None and cpu in has.cpus
    size = 0 if has is None else has.memory_bytes
    yield f"{change.memory_bytes >> 20} MiB in {change.name}", size == change.memory_bytes
    devices = _devices(change.name, now) if has is not None else set()
    for address in change.pci:
        yield f"device {address} in {change.name}", address in devices


def _cpus(target: str | None, now: Snapshot) -> set[int]:
    if target is None:
        return set(now.pool.cpus)
    return set(now.instances[target].tree.cpus) if target in now.instances else set()


def _devices(target: str | None, now: Snapshot) -> set[str]:
    """Of the pool: also those that instances have."""
    trees = [i.tree for name, i in now.instances.items() if target in (None, name)]
    found = {device.address for tree in trees for device in tree.pci}
    return found | {d.address for d in now.pool.pci} if target is None else found


def _said(kind: str, what: object, change: CpuChange | DeviceChange | MemoryChange) -> str:
    place = change.target or "the pool"
    return f"{kind} {what} {'in' if change.verb is Verb.ADD else 'out of'} {place}"


def _moved(change: Change, before: Snapshot, after: Snapshot) -> bool | None:
    """Did as much memory move as it should? None: none should, or that cannot be told."""
    if not isinstance(change, MemoryChange):
        return None
    asked = sum(region.size for region in change.regions)
    asked += sum(request.size for request in change.requests)
    sign = 1 if change.verb is Verb.ADD else -1
    sizes = [_memory(change.target, snapshot) for snapshot in (before, after)]
    return sizes[1] - sizes[0] == sign * asked


def _memory(target: str | None, now: Snapshot) -> int:
    if target is None:
        return sum(region.size for region in now.pool.memory)
    seen = now.instances.get(target)
    return 0 if seen is None else seen.tree.memory_bytes


def _memory_done(
    parts: Iterable[Overlay], attempts: dict[int, dict[int, Applied]]
) -> Iterator[str]:
    """Parts about memory that any attempt got done, or may have: one that failed may have begun."""
    for part in parts:
        if isinstance(part.change, MemoryChange):
            number = part.tag.part
            if any(attempt.get(number) is not None for attempt in attempts.values()):
                yield f"part {number} was tried"


def _failed(what: str, change: Change, kernel: Kernel) -> ChangeFailedError:
    compared = compare(change, look(kernel))
    return ChangeFailedError(
        what,
        where="/sys/fs/multikernel/overlays",
        state=_sentence("what was done of it stays", compared.there),
        next_command=_LOG,
        details=tuple(f"not there: {item}" for item in compared.missing),
    )


def _sentence(head: str, items: tuple[str, ...], most: int = 8) -> str:
    if not items:
        return head
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return f"{head}: {'; '.join(items[:most])}{more}"
