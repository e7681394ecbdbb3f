"""Workloads of one kernel, doubled at the seam of `orchestrator.workloads`: each is a number that
it remembers. What a checkpoint leaves on disk is real, and so is its seal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from orchestrator.agent.keys import Key
from orchestrator.drivers.carrying import worker
from orchestrator.model.errors import WorkloadError
from orchestrator.model.host import WorkloadState
from orchestrator.model.seams import Control, Result
from orchestrator.model.spec.workloads import Workload
from orchestrator.model.steps import Inspected, Inspection
from orchestrator.workloads import criu, seal
from orchestrator.workloads.elsewhere import Needs
from orchestrator.workloads.facade import Workloads
from orchestrator.workloads.findings import Finding
from tests.support.agents import Local

PID = 4000
Severity = Literal["error", "warning"]


class PretendWorkloads(Workloads):
    """Those of one kernel.

    Args:
        running: name -> what it remembers.
    """

    def __init__(self, **running: int) -> None:
        self.running = dict(running)
        self.refuses: set[str] = set()
        """Calls that fail, before they have changed anything."""
        self.breaks: set[str] = set()
        """Calls that fail behind their effect."""
        self.finds: list[tuple[Severity, str]] = []
        """By a trial, and what is lacking for what comes from elsewhere."""
        self.lacking: list[tuple[Severity, str]] = []
        self.size = 9000
        """Bytes that it has, as it says itself."""
        self.told: list[Needs] = []
        """What was needed, each time that it was asked what is lacking."""
        self.counts_on = 0
        """How much more it remembers behind each copy ahead."""
        self.upon: list[int] = []
        """What was known already, of each checkpoint."""
        self.outrun: list[str] = []
        """Restored from a state that it has outrun."""

    def find(self, workload: Workload) -> WorkloadState:
        if workload.name in self.running:
            return WorkloadState(name=workload.name, pids=[PID])
        return WorkloadState(name=workload.name, error=f"not running: {workload.name}")

    def preflight(self, workload: Workload, *rest: Any, jumps: bool = True) -> list[Finding]:
        assert not jumps
        return [Finding(kind, workload.name, text) for kind, text in self.finds]

    def needs(self, workload: Workload) -> Needs:
        return Needs(size=self.size, tasks=[(PID, PID)])

    def lacks(self, workload: Workload, needed: Needs, directory: Path) -> list[Finding]:
        self.told.append(needed)
        return [Finding(kind, workload.name, text) for kind, text in self.lacking]

    def copy_ahead(self, workload: Workload, place: Path, control: Control) -> None:
        with _call(self, "copy_ahead"):
            _write(place, self.running[workload.name])
            self.running[workload.name] += self.counts_on

    def rest_on(self, workload: Workload, workdir: Path, place: Path | None) -> None:
        criu.rest_on(workdir / "images", None if place is None else place / "images")

    def checkpoint(
        self, workload: Workload, workdir: Path, control: Control, ahead: Path | None = None
    ) -> Result:
        with _call(self, "checkpoint"):
            meta: Result = {"pids": [PID], "remembers": self.running[workload.name]}
            seal.begin(workdir, meta)
            before = 0 if ahead is None else _memory(ahead)
            self.upon.append(before)
            _write(workdir, self.running[workload.name] - before)
            del self.running[workload.name]
            seal.complete(workdir, meta)
            return meta

    def inspect_checkpoint(self, workload: Workload, workdir: Path) -> Inspected:
        if workload.name in self.running:
            return Inspected(verdict=Inspection.ABSENT, reason="it runs")
        meta = seal.read(workdir)
        if meta is None:
            return Inspected(verdict=Inspection.PARTIAL, reason="it is not sealed")
        return Inspected(verdict=Inspection.PRESENT, reason="it is sealed", result=meta)

    def undo_checkpoint(self, workload: Workload, workdir: Path, control: Control) -> Result:
        with _call(self, "undo_checkpoint"):
            if workload.name not in self.running:
                self.running[workload.name] = _memory(workdir)
            seal.remove(workdir)
            return {"pids": [PID]}

    def restore(
        self, workload: Workload, workdir: Path | None, meta: Mapping[str, Any], control: Control
    ) -> Result:
        with _call(self, "restore"):
            assert workdir is not None
            assert _memory(workdir) == meta["remembers"]
            if workload.name not in self.running:
                self.running[workload.name] = _memory(workdir)
                self.outrun += [workload.name] if meta.get("outrun") else []
            return {"pids": [PID], "notes": []}

    def inspect_restore(self, workload: Workload, meta: Mapping[str, Any]) -> Inspected:
        there = workload.name in self.running
        verdict = Inspection.PRESENT if there else Inspection.ABSENT
        return Inspected(verdict=verdict, reason="as found", result={"pids": [PID]})

    def stop(self, workload: Workload, meta: Mapping[str, Any], control: Control) -> Result:
        self.running.pop(workload.name, None)
        return {}


class _call:  # noqa: N801 - a word of these tests
    def __init__(self, workloads: PretendWorkloads, name: str) -> None:
        self._workloads, self._name = workloads, name

    def __enter__(self) -> None:
        if self._name in self._workloads.refuses:
            raise WorkloadError(f"{self._name} is refused here")

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None and self._name in self._workloads.breaks:
            raise WorkloadError(f"{self._name} broke at its end")


def _write(place: Path, number: int) -> None:
    (place / "images").mkdir()
    (place / "images" / "pages-1.img").write_bytes(str(number).encode().ljust(9000, b"\n"))


def _memory(workdir: Path) -> int:
    """With what it rests on."""
    images = workdir / "images"
    places = [images, images / "parent"] if (images / "parent").is_dir() else [images]
    return sum(int((place / "pages-1.img").read_bytes()) for place in places)


class Kernel:
    """A kernel with an agent that works, and workloads."""

    def __init__(self, directory: Path, key: Key, **running: int) -> None:
        directory.mkdir(mode=0o700, exist_ok=True)
        self.directory = directory
        self.workloads = PretendWorkloads(**running)
        self.asked: list[str] = []
        """Verbs of the work that was done, in order."""
        self.agent = Local(key, directory, work=self._work)

    def _work(self, request: bytes) -> bytes:
        self.asked.append(worker.read_request(request).verb.value)
        return worker.answer(request, self.directory, self.workloads)

    def restart(self) -> None:
        """It boots anew: what is on disk is all that is left, and nothing runs."""
        self.agent.restart()
        self.workloads.running.clear()

    def close(self) -> None:
        self.agent.close()


def workload(name: str = "counter", instance: str = "web", **rest: Any) -> dict[str, Any]:
    """As a spec has it."""
    migrate = {"method": "criu"}
    return {
        "name": name,
        "instance": instance,
        "find": {"cmdline": name},
        "migrate": migrate,
    } | rest
