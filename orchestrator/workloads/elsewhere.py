"""What another kernel must have so that a workload can be restored in it: said by the kernel that
it runs in, and held to the other one. Nothing is changed by either.

Facts (CRIU 4.2): a restore takes the very ids of all threads (`clone3` with `set_tid`), and fails
where one is in use. Images carry a version of their own, which newer programs go on reading; nobody
promises that older ones read what newer ones have written. /proc/sys/kernel/ns_last_pid is there
with CONFIG_CHECKPOINT_RESTORE only (kernel/pid_namespace.c).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field

from orchestrator.model.base import Deferred
from orchestrator.model.errors import MkupgradeError
from orchestrator.model.quantities import format_size
from orchestrator.model.spec.workloads import CriuMigrate, HooksMigrate, Workload
from orchestrator.system import files, proc, subprocesses
from orchestrator.workloads import criu, find
from orchestrator.workloads.findings import Finding

_RANGES = 100
_ROOM = 2
"""What comes and what is unpacked of it are both there for a while."""
_Id = Annotated[int, Field(ge=1, le=1 << 22)]


class Needs(Deferred):
    """Of one workload. What another kernel says is hostile; fields that we do not know are passed
    over."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    size: Annotated[int, Field(ge=0, lt=1 << 63)] = 0
    """Bytes of its memory; about as much is carried."""
    tasks: Annotated[list[tuple[_Id, _Id]], Field(max_length=_RANGES)] = []
    """Ids of its threads: first and last of each range."""
    all_tasks: bool = True
    """False: there are more ranges than are said here."""
    criu: Annotated[list[int], Field(max_length=8)] = []
    """Version of the one that takes its state; none: no CRIU does."""
    machine: Annotated[str, Field(max_length=64)] = ""
    """As `uname -m` says."""
    time_namespaces: bool = False
    """It runs where its monotonic clock can be carried."""


def needs(workload: Workload) -> Needs:
    """
    Raises:
        MkupgradeError: it does not run, or CRIU is missing where it is needed.
    """
    processes = find.processes(workload.find)
    takes = isinstance(workload.migrate, CriuMigrate)
    ranges = list(_ranges(find.task_ids([p.pid for p in processes]))) if takes else []
    return Needs(
        size=sum(p.resident_bytes for p in processes),
        tasks=ranges[:_RANGES],
        all_tasks=len(ranges) <= _RANGES,
        criu=list(criu.version()) if takes else [],
        machine=os.uname().machine,
        time_namespaces=_has_time_namespaces(),
    )


def lacks(workload: Workload, needed: Needs, directory: Path) -> list[Finding]:
    """What this kernel lacks for it; empty: as far as can be seen, it can be restored here.

    Args:
        directory: where its state will come to.
    """
    migrate, found = workload.migrate, list(_room(needed, directory))
    if isinstance(migrate, CriuMigrate):
        found = [*_criu(needed), *found]
    elif isinstance(migrate, HooksMigrate):
        found = [*_programs(migrate), *found]
    return [
        Finding("error" if certain else "warning", workload.name, text) for certain, text in found
    ]


def _criu(needed: Needs) -> Iterator[tuple[bool, str]]:
    """(certain, text): what is not certain may do no harm."""
    try:
        here = criu.version()
    except MkupgradeError as error:
        yield True, error.what
        return
    if list(here) < needed.criu:
        theirs = ".".join(map(str, needed.criu))
        yield (
            False,
            f"CRIU {'.'.join(map(str, here))} is older than the {theirs} that takes its state: "
            "images of a newer one may not be understood",
        )
    machine = os.uname().machine
    if needed.machine and needed.machine != machine:
        yield True, f"it runs on {needed.machine}, and this kernel is for {machine}"
    if not (proc.PROC / "sys/kernel/ns_last_pid").exists():
        yield True, "this kernel was built without CONFIG_CHECKPOINT_RESTORE: no CRIU restores here"
    if needed.time_namespaces and not _has_time_namespaces():
        yield (
            False,
            "this kernel has no time namespaces (CONFIG_TIME_NS): its monotonic clock jumps",
        )
    yield from _ids(needed)


def _ids(needed: Needs) -> Iterator[tuple[bool, str]]:
    highest, most = max((last for _, last in needed.tasks), default=0), proc.pid_max()
    if highest >= most:
        yield True, f"process ids here end at {most - 1} (kernel.pid_max), and it has {highest}"
    taken = [p for p in proc.processes() for t in _threads(p) if _within(t, needed.tasks)]
    if taken:
        said = ", ".join(f"{p.pid} by {p.name}" for p in list(dict.fromkeys(taken))[:3])
        yield True, f"process ids of it are taken here: {said}"
    if not needed.all_tasks:
        yield False, f"it has so many threads that not all of their ids were compared ({_RANGES})"


def _programs(migrate: HooksMigrate) -> Iterator[tuple[bool, str]]:
    if subprocesses.available(migrate.load[0]) is None:
        yield True, f"program {migrate.load[0]} is not here, or not executable"


def _room(needed: Needs, directory: Path) -> Iterator[tuple[bool, str]]:
    wanted, free = _ROOM * needed.size, files.free_bytes(directory)
    if wanted > free:
        yield (
            True,
            f"it has about {format_size(needed.size)}: {format_size(wanted)} are needed in "
            f"{directory}, {format_size(free)} are free",
        )


def _threads(process: proc.Process) -> list[int]:
    return [process.pid] if process.is_of_kernel else proc.thread_ids(process.pid)


def _within(task: int, ranges: Iterable[tuple[int, int]]) -> bool:
    return any(first <= task <= last for first, last in ranges)


def _ranges(ids: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Of sorted ids, those that follow each other."""
    first = last = None
    for it in ids:
        if last is not None and it == last + 1:
            last = it
            continue
        if first is not None and last is not None:
            yield first, last
        first = last = it
    if first is not None and last is not None:
        yield first, last


def _has_time_namespaces() -> bool:
    return (proc.PROC / "self/ns/time").exists()
