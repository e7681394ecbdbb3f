"""Workloads without state: stopped before the jump, started after it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator.model.errors import ErrorClass, WorkloadError
from orchestrator.model.seams import Control, Result
from orchestrator.model.spec.workloads import RestartMigrate, Workload
from orchestrator.model.steps import Inspected, Inspection
from orchestrator.system import subprocesses, systemd
from orchestrator.workloads import find, running, seal, sockets
from orchestrator.workloads.hooks import end_now, running_now
from orchestrator.workloads.meta import Network, RestartMeta, parse


class Restart:
    """Method "restart" for one workload."""

    def __init__(self, workload: Workload, migrate: RestartMigrate) -> None:
        self.workload = workload
        self.migrate = migrate

    def checkpoint(self, workdir: Path, control: Control) -> Result:
        before = find.state(self.workload)
        ports = sockets.tcp_ports(sockets.inet_sockets(before.pids))
        meta = RestartMeta(network=Network(ports=ports), pids=before.pids).model_dump(mode="json")
        seal.begin(workdir, meta)
        self._stop(control)
        seal.complete(workdir, meta)
        return meta

    def inspect_checkpoint(self, workdir: Path) -> Inspected:
        now = running_now(self.workload)
        if now.verdict is Inspection.PRESENT:
            return Inspected(verdict=Inspection.ABSENT, reason=now.reason)
        meta = seal.read(workdir)
        if now.verdict is Inspection.UNKNOWN:
            return now
        if meta is not None:
            return Inspected(verdict=Inspection.PRESENT, reason=now.reason, result=meta)
        reason = f"{now.reason}, and its stop was not recorded"
        return Inspected(verdict=Inspection.PARTIAL, reason=reason)

    def undo_checkpoint(self, workdir: Path, control: Control) -> Result:
        result = self._start(control)
        seal.remove(workdir)
        return result

    def restore(self, workdir: Path | None, meta: Mapping[str, Any], control: Control) -> Result:
        parse(RestartMeta, meta, self.workload.name)
        return self._start(control)

    def inspect_restore(self, meta: Mapping[str, Any]) -> Inspected:
        return running_now(self.workload)

    def stop(self, meta: Mapping[str, Any], control: Control) -> Result:
        return self._stop(control)

    def start_anew(self, meta: Mapping[str, Any], control: Control) -> Result:
        return self._start(control)

    def _limit(self, control: Control) -> float:
        return max(0.1, min(self.migrate.timeout, control.remaining()))

    def _stop(self, control: Control) -> Result:
        if self.migrate.stop is None:
            return end_now(self.workload, self.migrate.timeout, control)
        try:
            processes = find.processes(self.workload.find)
        except find.NotRunningError:
            return {"stopped": "nothing: it did not run"}
        limit = self._limit(control)
        subprocesses.run(self.migrate.stop, timeout=limit)
        running.end(processes, limit, gently=True)
        return {"stopped": [p.pid for p in processes]}

    def _start(self, control: Control) -> Result:
        now = running_now(self.workload)
        if now.verdict is Inspection.PRESENT:
            return {"pids": now.result["pids"], "started": "nothing: it runs"}
        unit, limit = self.workload.find.unit, self._limit(control)
        started = None
        if self.migrate.start is not None:
            started = running.start_detached(self.workload.name, self.migrate.start, timeout=limit)
        elif unit is not None:
            systemd.start(unit, limit)
        else:
            raise WorkloadError(
                "migrate.start is required", error_class=ErrorClass.INVALID
            )  # the spec's own rule; here for specs that went round it
        pids, notes = running.wait_until_found(self.workload.find, limit, control, started)
        how = unit or " ".join(self.migrate.start or [])
        return {"pids": pids, "started": how, "notes": notes}
