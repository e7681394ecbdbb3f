"""What is carried in a schedule, doubled: workloads of one kernel, each a number, what a checkpoint
leaves on a disk, and a handover. Each is there whole or not at all, and durable at once."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from orchestrator.model.errors import WorkloadError
from orchestrator.model.host import WorkloadState
from orchestrator.model.seams import Control, Result
from orchestrator.model.spec.workloads import Workload
from orchestrator.model.steps import Inspected, Inspection
from orchestrator.workloads.elsewhere import Needs
from orchestrator.workloads.facade import Workloads

if TYPE_CHECKING:
    from orchestrator.workloads.findings import Finding
    from tests.crash.instance_agents import Agents

_PID = 4000
_WHEN = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Work:
    """What a checkpoint, or a copy ahead, has left in a directory."""

    of: str
    """The workload's name."""
    meta: Mapping[str, Any]
    number: int | None = None
    """The workload's; None: not all of it was written."""
    sealed: bool = False
    copy: int | None = None
    """This is a copy ahead, that one."""
    upon: int | None = None
    """The copy that it is nothing without."""
    parent: Path | None = None
    """Where that is looked for."""


@dataclass(frozen=True)
class Sealed:
    """A handover that is complete: as a manifest, and what it is of."""

    number: int
    meta: Mapping[str, Any]
    work: Work
    source: Any
    created: datetime = _WHEN
    workloads: tuple[Any, ...] = ()

    def digest(self) -> str:
        return hashlib.sha256(str(self.number).encode()).hexdigest()

    def encode(self) -> bytes:
        return str(self.number).encode()

    def workload(self, name: str) -> Any:
        return SimpleNamespace(meta=dict(self.meta))


class Pretend(Workloads):
    """Those of one kernel, as the worker in it calls them."""

    def __init__(self, agents: Agents, instance: str, *, refuses: bool) -> None:
        self._agents, self._instance, self._refuses = agents, instance, refuses

    def find(self, workload: Workload) -> WorkloadState:
        if (self._instance, workload.name) in self._agents.numbers:
            return WorkloadState(name=workload.name, pids=[_PID])
        return WorkloadState(name=workload.name, error=f"not running: {workload.name}")

    def preflight(self, *_: Any, **__: Any) -> list[Finding]:
        self._may()
        return []

    def needs(self, workload: Workload) -> Needs:
        return Needs(size=9000)

    def lacks(self, workload: Workload, needed: Needs, directory: Path) -> list[Finding]:
        self._may()
        return []

    def copy_ahead(self, workload: Workload, place: Path, control: Control) -> None:
        self._may()
        agents = self._agents
        agents.change()
        agents.count += 1
        agents.works[place] = Work(workload.name, {}, self._number(workload), copy=agents.count)
        agents.numbers[self._instance, workload.name] += 1

    def rest_on(self, workload: Workload, workdir: Path, place: Path | None) -> None:
        found = self._agents.works.get(workdir)
        if found is not None:
            self._agents.works[workdir] = replace(found, parent=place)

    def checkpoint(
        self, workload: Workload, workdir: Path, control: Control, ahead: Path | None = None
    ) -> Result:
        self._may()
        agents, meta = self._agents, {"pids": [_PID], "number": self._number(workload)}
        copy = agents.works[ahead].copy if ahead is not None else None
        agents.change()
        work = agents.works[workdir] = Work(workload.name, meta)
        agents.change()
        work = agents.works[workdir] = replace(work, number=self._number(workload), upon=copy)
        del agents.numbers[self._instance, workload.name]
        agents.change()
        agents.works[workdir] = replace(work, sealed=True)
        return meta

    def begun(self, workdir: Path) -> Result | None:
        found = self._agents.works.get(workdir)
        return None if found is None else dict(found.meta)

    def inspect_checkpoint(self, workload: Workload, workdir: Path) -> Inspected:
        found = self._agents.works.get(workdir)
        if self._runs(workload):
            return Inspected(verdict=Inspection.ABSENT, reason="it runs")
        if found is None or not found.sealed:
            return Inspected(verdict=Inspection.PARTIAL, reason="it is not sealed")
        return Inspected(verdict=Inspection.PRESENT, reason="it is sealed", result=dict(found.meta))

    def undo_checkpoint(self, workload: Workload, workdir: Path, control: Control) -> Result:
        if not self._runs(workload):
            self._start(workload, workdir)
        self._agents.change()
        self._agents.works.pop(workdir, None)
        return {"pids": [_PID]}

    def restore(
        self, workload: Workload, workdir: Path | None, meta: Mapping[str, Any], control: Control
    ) -> Result:
        self._may()
        if not self._runs(workload):
            assert workdir is not None
            self._start(workload, workdir)
        return {"pids": [_PID], "notes": []}

    def inspect_restore(self, workload: Workload, meta: Mapping[str, Any]) -> Inspected:
        verdict = Inspection.PRESENT if self._runs(workload) else Inspection.ABSENT
        return Inspected(verdict=verdict, reason="as found", result={"pids": [_PID]})

    def stop(self, workload: Workload, meta: Mapping[str, Any], control: Control) -> Result:
        self._agents.change()
        self._agents.numbers.pop((self._instance, workload.name), None)
        return {}

    def _runs(self, workload: Workload) -> bool:
        return (self._instance, workload.name) in self._agents.numbers

    def _number(self, workload: Workload) -> int:
        return self._agents.numbers[self._instance, workload.name]

    def _start(self, workload: Workload, workdir: Path) -> None:
        works = self._agents.works
        found = works.get(workdir)
        parent = works.get(found.parent) if found is not None and found.parent else None
        rests = found is not None and found.upon is not None
        lacks = rests and (parent is None or found is None or parent.copy != found.upon)
        if found is None or found.number is None or lacks:
            raise WorkloadError(f"the images of {workload.name} are not complete")
        self._agents.change()
        self._agents.numbers[self._instance, workload.name] = found.number

    def _may(self) -> None:
        if self._refuses:
            raise WorkloadError("it is refused here")


class Channel:
    """In the place of `DiskChannel`: one handover on one disk."""

    def __init__(self, agents: Agents, key: tuple[Path, str]) -> None:
        self._agents, self._key = agents, key

    def manifest(self) -> Sealed | None:
        return self._agents.parcels.get(self._key)

    def discard(self) -> None:
        if self._key in self._agents.parcels:
            self._agents.host.change()
            del self._agents.parcels[self._key]

    def send(self, head: Any, items: list[Any], control: Control) -> Sealed:
        (item,) = items
        agents = self._agents
        agents.host.change()
        agents.count += 1
        source = SimpleNamespace(boot_id=head.source_boot_id, release=head.source_release)
        work = replace(agents.works[item.directory], parent=None)
        made = agents.parcels[self._key] = Sealed(agents.count, dict(item.meta), work, source)
        return made

    def inspect_sent(self) -> Inspected:
        there = self._key in self._agents.parcels
        verdict = Inspection.PRESENT if there else Inspection.ABSENT
        return Inspected(verdict=verdict, reason="as found")

    def receive(self, destination: Path, control: Control) -> Any:
        found = self._agents.parcels[self._key]
        self._agents.host.change()
        self._agents.works[destination] = found.work
        return SimpleNamespace(directories={self._key[1].split()[2]: destination})
