"""Method "criu" for one workload: everything around CRIU itself.

Order of a checkpoint: find, write down what is needed besides (meta), hold the unit, dump (from
here it does not run), copy volatile files, seal. Order of a restore: check that the ids are free,
put volatile files back, addresses and routes, CRIU, cgroup or unit.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator.model.errors import ErrorClass, MkupgradeError, WorkloadError
from orchestrator.model.seams import Control, Result
from orchestrator.model.spec.workloads import CriuMigrate, Workload
from orchestrator.model.steps import Inspected, Inspection
from orchestrator.system import files, open_files, proc
from orchestrator.workloads import (
    carry,
    cgroups,
    claims,
    criu,
    find,
    hold,
    journal,
    network,
    running,
    seal,
    sockets,
    units,
    unix_diag,
    written,
)
from orchestrator.workloads.hooks import running_now, start_unit_anew
from orchestrator.workloads.meta import CriuMeta, parse

_UNIT_SECONDS = 60.0
"""For systemd to read its units anew, on a host that is busy with other things, too."""
_IMAGES = "images"
_SETTLE_SECONDS = 1.0
"""How long a killed tree may still be seen after CRIU has ended."""


class Criu:
    """Method "criu" for one workload."""

    def __init__(self, workload: Workload, migrate: CriuMigrate) -> None:
        self.workload = workload
        self.migrate = migrate

    def copy_ahead(self, place: Path, control: Control) -> None:
        images = place / _IMAGES
        criu.wait_until_idle(images, control)
        images.mkdir(mode=0o700)
        root, shell_job = self._root(find.processes(self.workload.find))
        criu.copy_ahead(root.pid, images, self.migrate, shell_job, control)

    def rest_on(self, workdir: Path, place: Path | None) -> None:
        criu.rest_on(workdir / _IMAGES, None if place is None else place / _IMAGES)

    def checkpoint(self, workdir: Path, control: Control, ahead: Path | None = None) -> Result:
        processes = find.processes(self.workload.find)
        meta = self.describe(processes)
        seal.begin(workdir, meta.model_dump(mode="json"))
        images = workdir / _IMAGES
        images.mkdir(mode=0o700)
        self._hold_unit(control)
        try:
            control.progress(f"Dumping {self.workload.name}")
            criu.dump(
                meta.pids[0],
                images,
                self.migrate,
                meta.shell_job,
                control,
                external=meta.journal,
                ahead=None if ahead is None else ahead / _IMAGES,
            )
        except BaseException:
            self._release_unit(control)
            raise
        meta = self._carry_and_seal(meta, workdir)
        return meta.model_dump(mode="json")

    def inspect_checkpoint(self, workdir: Path) -> Inspected:
        working = criu.running_on(workdir / _IMAGES)
        if working is not None:
            reason = f"an earlier criu (pid {working}) still works on {workdir}"
            return Inspected(verdict=Inspection.PARTIAL, reason=reason)
        now = running_now(self.workload)
        if now.verdict is Inspection.PRESENT:
            return Inspected(verdict=Inspection.ABSENT, reason=now.reason)
        if now.verdict is Inspection.UNKNOWN:
            return now
        meta = seal.read(workdir)
        if meta is not None and criu.is_complete(workdir / _IMAGES):
            reason = f"{now.reason}; its state is complete in {workdir}"
            return Inspected(verdict=Inspection.PRESENT, reason=reason, result=meta)
        return Inspected(
            verdict=Inspection.PARTIAL, reason=f"{now.reason}, and its state is not sealed"
        )

    def undo_checkpoint(self, workdir: Path, control: Control) -> Result:
        images = workdir / _IMAGES
        criu.wait_until_idle(images, control)
        now = running_now(self.workload)
        if now.verdict is Inspection.PRESENT:
            self._release_unit(control)
            seal.remove(workdir)
            return {"pids": now.result["pids"], "undone": "nothing: it runs"}
        found = seal.read(workdir) or seal.read_plan(workdir)
        if found is None or not criu.is_complete(images):
            raise WorkloadError(
                f"{self.workload.name} does not run, and its state is not complete",
                where=str(workdir),
                state="it was not started anew",
                next_command=f"less {images / criu.DUMP_LOG}",
            )
        meta = parse(CriuMeta, found, self.workload.name)
        carry.put_back(meta.carried, workdir / "carry", replace=False)
        result = self._restore(workdir, meta, control)
        seal.remove(workdir)
        return {**result, "undone": "restored"}

    def restore(self, workdir: Path | None, meta: Mapping[str, Any], control: Control) -> Result:
        known = parse(CriuMeta, meta, self.workload.name)
        now = self.inspect_restore(meta)
        if now.verdict is Inspection.PRESENT:
            return {"pids": known.pids, "notes": ["it ran already"]}
        if workdir is None or not criu.is_complete(workdir / _IMAGES):
            raise WorkloadError(
                f"the images of {self.workload.name} are not complete", where=str(workdir)
            )
        self._require_unchanged(known)
        self._require_free(known)
        carry.verify(known.carried, workdir / "carry")
        notes = [f"put back {path}" for path in carry.put_back(known.carried, workdir / "carry")]
        notes += network.bring_back(known.network, control)
        result = self._restore(workdir, known, control)
        return {**result, "notes": [*notes, *result["notes"]]}

    def inspect_restore(self, meta: Mapping[str, Any]) -> Inspected:
        known = parse(CriuMeta, meta, self.workload.name)
        there = [p.pid for p in _restored(known)]
        if len(there) == len(known.pids):
            reason = f"all {len(there)} processes run, root {known.pids[0]}"
            return Inspected(verdict=Inspection.PRESENT, reason=reason, result={"pids": known.pids})
        if known.pids[0] in there:
            # A workload may have ended children of its own since.
            reason = f"{len(there)} of {len(known.pids)} processes run, root {known.pids[0]}"
            return Inspected(verdict=Inspection.PRESENT, reason=reason, result={"pids": there})
        verdict = Inspection.PARTIAL if there else Inspection.ABSENT
        reason = f"process {known.pids[0]} of {self.workload.name} does not run"
        return Inspected(verdict=verdict, reason=reason)

    def stop(self, meta: Mapping[str, Any], control: Control) -> Result:
        """Kills what was restored, and nothing that merely has one of its pids. Its peers see
        closed connections."""
        processes: list[proc.Process] = []
        if meta:
            known = parse(CriuMeta, meta, self.workload.name)
            processes = _restored(known)
            processes += [p for q in processes for p in proc.tree(q.pid) if p not in processes]
        else:
            try:
                processes = find.processes(self.workload.find)
            except find.NotRunningError:
                return {"stopped": []}
        running.end(processes, max(0.1, min(10.0, control.remaining())), gently=False)
        return {"stopped": [p.pid for p in processes]}

    def start_anew(self, meta: Mapping[str, Any], control: Control) -> Result:
        known = parse(CriuMeta, meta, self.workload.name) if meta else None
        if self.workload.find.unit is not None or known is None or not known.argv:
            return start_unit_anew(self.workload, self.migrate.timeout, control)
        limit = max(0.1, min(self.migrate.timeout, control.remaining()))
        started = running.start_detached(
            self.workload.name,
            known.argv,
            timeout=limit,
            cwd=known.cwd,
            uid=known.uid,
            gid=known.gid,
            groups=known.groups,
        )
        find_it = self.workload.find
        pids, notes = running.wait_until_found(find_it, limit, control, started)
        return {"pids": pids, "notes": [*notes, "started without the environment it had"]}

    def describe(self, processes: list[proc.Process]) -> CriuMeta:
        """What is needed besides the images, as far as it is known before the dump.

        Raises:
            WorkloadError, ToolError
        """
        pids = [p.pid for p in processes]
        root, shell_job = self._root(processes)
        directories = carry.directories_of(
            [*self._carried_paths(), *sockets.unix_paths(pids), *_volatile_places(pids)]
        )
        fields = {
            "pids": pids,
            "tasks": find.task_ids(pids),
            "session": root.session,
            "sessions": [p.session for p in processes],
            "cgroup": proc.cgroup(root.pid),
            "unit": self.workload.find.unit,
            "shell_job": shell_job,
            "journal": journal_streams(pids),
            "network": network.take(sockets.inet_sockets(pids)).model_dump(mode="json"),
            "carried": {"directories": [d.model_dump() for d in directories], "files": []},
            "taken_monotonic": time.monotonic(),
            "written": [f.model_dump() for f in written.as_they_are(written.paths(pids))],
            **running.start_again(root.pid),
        }
        return parse(CriuMeta, fields, self.workload.name)

    def _root(self, processes: list[proc.Process]) -> tuple[proc.Process, bool]:
        """The first of them, and whether its session's leader is none of them."""
        root = processes[0]
        leads = any(process.pid == root.session for process in processes)
        return root, self.migrate.shell_job or not leads

    def _carried_paths(self) -> list[str]:
        """The spec's, and the pid file where it is volatile: it finds the workload again."""
        paths = [str(path) for path in self.migrate.carry]
        pid_file = self.workload.find.pid_file
        if pid_file is not None and open_files.is_volatile(str(pid_file)):
            paths.append(str(pid_file))
        return paths

    def _carry_and_seal(self, meta: CriuMeta, workdir: Path) -> CriuMeta:
        _wait_until_gone(meta.pids)
        carried = carry.take(self._carried_paths(), meta.carried.directories, workdir / "carry")
        files_now = written.as_they_are(file.path for file in meta.written)
        meta = meta.model_copy(update={"carried": carried, "written": files_now})
        seal.complete(workdir, meta.model_dump(mode="json"))
        return meta

    def _restore(self, workdir: Path, meta: CriuMeta, control: Control) -> Result:
        logs = workdir.with_name(f".{workdir.name}.restore")
        seal.remove(logs)
        files.make_private_directory(logs)
        control.progress(f"Restoring {self.workload.name}")
        identifier = Path(meta.argv[0]).name if meta.argv else self.workload.name
        with journal.streams(meta.journal, identifier, meta.unit) as (streams, notes):
            close = self._must_close(meta)
            claim = claims.write(meta)
            try:
                criu.restore(
                    workdir / _IMAGES,
                    logs,
                    self.migrate,
                    meta.shell_job,
                    control,
                    inherit=streams,
                    close=close,
                )
            except MkupgradeError:
                claims.mark_failed(claim)
                raise
            claims.settle(claim)
        hold.open_ports(meta.network.ports)
        if not _one(meta.pids[0]):
            raise WorkloadError(
                f"criu restored {self.workload.name}, and process {meta.pids[0]} is not there",
                where=str(logs / criu.RESTORE_LOG),
            )
        closed = meta.network.established if close else 0
        return {"pids": meta.pids, "notes": [*notes, *self._place(meta)], "closed": closed}

    def _must_close(self, meta: CriuMeta) -> bool:
        """Did it run on after this state was taken? The peers of its connections are ahead of
        it, then: restored, they would only hang."""
        return self.migrate.tcp_established and (meta.outrun or claims.has_run(meta))

    def _place(self, meta: CriuMeta) -> list[str]:
        """Into their cgroup, or their unit: not left in ours, which may end with us."""
        if meta.unit is not None and units.applies(meta.unit):
            return [units.adopt(meta.unit, meta.cgroup, meta.pids, _UNIT_SECONDS)]
        if meta.cgroup is None or meta.cgroup == "/":
            return []
        problem = cgroups.join(meta.cgroup, meta.pids)
        return [problem] if problem else []

    def _require_unchanged(self, meta: CriuMeta) -> None:
        """Memory that is older than its files must not go on over them. A state that was never
        used is not asked: whoever changed its files had the workload's own reasons."""
        found = written.changed(meta.written) if meta.outrun else []
        if found:
            raise WorkloadError(
                f"it ran on since its state was taken, and has written to {', '.join(found[:3])}",
                where=self.workload.name,
                state="nothing was restored",
                details=tuple(found[:10]),
            )

    def _require_free(self, meta: CriuMeta) -> None:
        taken = proc.taken_pids(sorted({*meta.tasks, *meta.pids}))
        if taken:
            details = tuple(f"{p.pid}: {p.name}" for p in taken[:10])
            raise WorkloadError(
                f"process ids of {self.workload.name} are taken: "
                + ", ".join(f"{p.pid} by {p.name}" for p in taken[:3]),
                where=self.workload.name,
                state="nothing was restored",
                next_command=f"ps -o pid,lstart,args -p {taken[0].pid}",
                details=details,
                error_class=ErrorClass.BUSY,
            )

    def _hold_unit(self, control: Control) -> None:
        unit = self.workload.find.unit
        if unit is not None and units.applies(unit):
            units.hold(unit, max(0.1, min(_UNIT_SECONDS, control.remaining())))

    def _release_unit(self, control: Control) -> None:
        unit = self.workload.find.unit
        if unit is not None and units.applies(unit):
            units.release(unit, _UNIT_SECONDS)


def journal_streams(pids: list[int]) -> list[int]:
    """Inodes of the streams to the journal that these processes have open."""
    outside = unix_diag.connected_outside(open_files.socket_inodes(pids), unix_diag.unix_sockets())
    return [found.inode for found in outside if journal.is_stream(found.name)]


def _restored(meta: CriuMeta) -> list[proc.Process]:
    """The processes that were made of this state in this boot and run still, root first."""
    claim = claims.of(meta)
    if claim is None:
        return []
    found = [p for pid in meta.pids for p in _one(pid)]
    return [p for p in found if claim.holds(p)]


def _one(pid: int) -> list[proc.Process]:
    process = proc.process(pid)
    return [process] if process is not None and process.state not in "ZX" else []


def _volatile_places(pids: list[int]) -> list[str]:
    """Something inside each volatile directory that must be there for a restore."""
    try:
        paths = open_files.volatile_files(pids)
    except MkupgradeError:
        return []
    return [f"{path}/." if Path(path).is_dir() else path for path in paths]


def _wait_until_gone(pids: list[int]) -> None:
    until = time.monotonic() + _SETTLE_SECONDS
    while any(_one(pid) for pid in pids) and time.monotonic() < until:
        time.sleep(0.01)
