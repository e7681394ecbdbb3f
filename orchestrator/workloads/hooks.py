"""Workloads that save and load themselves by commands of the operator's.

A command is told by its environment: MKUPGRADE_STATE_DIR (a private directory, the same content
on `load` as after `save`), MKUPGRADE_WORKLOAD and MKUPGRADE_PHASE (save, load or undo). `save` is
to leave the workload stopped: what it does afterwards is not carried.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from orchestrator.model.errors import NotSupportedError, ToolError, WorkloadError
from orchestrator.model.seams import Control, Result
from orchestrator.model.spec.workloads import HooksMigrate, Workload
from orchestrator.model.steps import Inspected, Inspection
from orchestrator.system import subprocesses, systemd
from orchestrator.workloads import find, running, seal, sockets
from orchestrator.workloads.meta import HooksMeta, Network, parse


class Hooks:
    """Method "hooks" for one workload."""

    def __init__(self, workload: Workload, migrate: HooksMigrate) -> None:
        self.workload = workload
        self.migrate = migrate

    def checkpoint(self, workdir: Path, control: Control) -> Result:
        before = find.state(self.workload)
        ports = sockets.tcp_ports(sockets.inet_sockets(before.pids))
        meta = HooksMeta(network=Network(ports=ports), pids=before.pids).model_dump(mode="json")
        seal.begin(workdir, meta)
        (workdir / "state").mkdir(mode=0o700)
        self._run("save", workdir, control)
        seal.complete(workdir, meta)
        return meta

    def inspect_checkpoint(self, workdir: Path) -> Inspected:
        meta = seal.read(workdir)
        if meta is not None:
            reason = f"save has run to its end; its state is in {workdir}"
            return Inspected(verdict=Inspection.PRESENT, reason=reason, result=meta)
        if seal.read_plan(workdir) is not None:
            reason = "save was started and did not run to its end"
            return Inspected(verdict=Inspection.PARTIAL, reason=reason)
        return Inspected(verdict=Inspection.ABSENT, reason="save was not started")

    def undo_checkpoint(self, workdir: Path, control: Control) -> Result:
        if seal.read_plan(workdir) is None:
            return {"undone": "nothing: save was not started"}
        phase: Literal["undo", "load"] = "undo" if self.migrate.undo else "load"
        self._run(phase, workdir, control)
        seal.remove(workdir)
        return {"undone": phase}

    def restore(self, workdir: Path | None, meta: Mapping[str, Any], control: Control) -> Result:
        parse(HooksMeta, meta, self.workload.name)
        if workdir is None or not (workdir / "state").is_dir():
            raise WorkloadError("no state to load has arrived", where=self.workload.name)
        self._run("load", workdir, control)
        return {"pids": find.state(self.workload).pids}

    def inspect_restore(self, meta: Mapping[str, Any]) -> Inspected:
        return running_now(self.workload)

    def stop(self, meta: Mapping[str, Any], control: Control) -> Result:
        """Ends its processes; `undo` is for the old kernel and is not run."""
        return end_now(self.workload, self.migrate.timeout, control)

    def start_anew(self, meta: Mapping[str, Any], control: Control) -> Result:
        return start_unit_anew(self.workload, self.migrate.timeout, control)

    def _run(self, phase: Literal["save", "load", "undo"], workdir: Path, control: Control) -> None:
        argv = {"save": self.migrate.save, "load": self.migrate.load, "undo": self.migrate.undo}
        environment = {
            "MKUPGRADE_STATE_DIR": str(workdir / "state"),
            "MKUPGRADE_WORKLOAD": self.workload.name,
            "MKUPGRADE_PHASE": phase,
        }
        timeout = max(0.1, min(self.migrate.timeout, control.remaining()))
        control.progress(f"Running {phase} of {self.workload.name}")
        try:
            subprocesses.run(argv[phase] or self.migrate.load, timeout=timeout, env=environment)
        except ToolError as error:
            raise WorkloadError(
                f"{phase} of {self.workload.name} failed: {error.what}",
                where=self.workload.name,
                details=error.details,
                error_class=error.error_class,
            ) from error


def running_now(workload: Workload) -> Inspected:
    """PRESENT if it is found running, else ABSENT; UNKNOWN if that cannot be told."""
    state = find.state(workload)
    if state.pids:
        reason = f"{workload.name} runs as pid {state.pids[0]}"
        return Inspected(
            verdict=Inspection.PRESENT, reason=reason, result={"pids": list(state.pids)}
        )
    reason = state.error or f"{workload.name} does not run"
    absent = reason.startswith("not running")
    verdict = Inspection.ABSENT if absent else Inspection.UNKNOWN
    return Inspected(verdict=verdict, reason=reason)


def end_now(workload: Workload, timeout: float, control: Control) -> Result:
    """Stop its unit, or end its processes; not running is fine."""
    limit = max(0.1, min(timeout, control.remaining()))
    if workload.find.unit is not None and systemd.is_running():
        systemd.stop(workload.find.unit, limit)
        return {"stopped": workload.find.unit}
    try:
        processes = find.processes(workload.find)
    except find.NotRunningError:
        return {"stopped": "nothing: it did not run"}
    running.end(processes, limit)
    return {"stopped": [p.pid for p in processes]}


def start_unit_anew(workload: Workload, timeout: float, control: Control) -> Result:
    """Start its unit.

    Raises:
        NotSupportedError: it has none, so nobody knows how it is started.
    """
    unit = workload.find.unit
    if unit is None or not systemd.is_running():
        raise NotSupportedError(
            f"{workload.name} is no unit: how it is started is not known",
            where=workload.name,
            state="it does not run",
        )
    systemd.start(unit, max(0.1, min(timeout, control.remaining())))
    return {"started": unit, "pids": find.state(workload).pids}
