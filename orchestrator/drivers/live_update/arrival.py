"""Step kinds that bring the workloads' state back: retrieve, restore.

Sources, best first. In the new kernel: the session in memory, then the disk. In the old kernel
again: the session of the jump back, what that jump left on disk, what the first jump left on
disk. Where no source is left, the workload is started anew, and the result says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from orchestrator.drivers.jobs import absent, present
from orchestrator.drivers.live_update.capture import (
    RETRIEVED,
    failed_name,
    may_have_run,
    may_have_run_home,
    restored_name,
    taken,
)
from orchestrator.drivers.live_update.job import Handler, Job
from orchestrator.drivers.records import make_private_directories
from orchestrator.handover.channels import Channel, NothingSentError, Received
from orchestrator.model.errors import HandoverError, MkupgradeError, WorkloadError
from orchestrator.model.landing import MARK, mark_for, marks
from orchestrator.model.params.in_place import Restore, Retrieve
from orchestrator.model.seams import Result
from orchestrator.model.spec import Workload
from orchestrator.model.steps import Inspected, Inspection, Section

SPILLED = "spilled state"


@dataclass(frozen=True)
class Source:
    """A place where state may be found."""

    label: str
    channel: Channel
    taken_in: Section
    words: str
    """For the report: "memory", "spilled state"."""


@dataclass
class Search:
    """What was met with on the way through the sources."""

    problems: list[str] = field(default_factory=list)
    """State that cannot be trusted, or is not where it must be."""
    nothing: list[str] = field(default_factory=list)
    """Places where no state was left in the first place."""


class RetrieveHandler(Handler[Retrieve]):
    def perform(self, job: Job, params: Retrieve) -> Result:
        arrived: dict[str, dict[str, Any]] = {}
        search = Search()
        for source in _sources(job, params):
            missing = [name for name in params.workloads if name not in arrived]
            if missing:
                job.say(f"fetching state from {source.words}")
                arrived |= _fetch(job, source, missing, search)
        missing = [name for name in params.workloads if name not in arrived]
        if missing and job.context.section is not Section.RECOVER:
            raise HandoverError(
                f"no complete state has arrived for {', '.join(missing)}",
                state="it was not restored; the old kernel's copies were not touched",
                details=(*search.problems, *search.nothing),
            )
        record = {"boot_id": job.parts.machine.place().boot_id, "workloads": arrived}
        job.records.write(RETRIEVED, record)
        _finish(job)
        metas = {name: entry["meta"] for name, entry in arrived.items()}
        job.parts.workloads.hold(metas, job.context.control)
        return _summary(arrived, missing, search)

    def inspect(self, job: Job, params: Retrieve) -> Inspected:
        record = job.records.read(RETRIEVED)
        if record is None:
            return absent("no record of state that arrived")
        if record.get("boot_id") != job.parts.machine.place().boot_id:
            return absent("the state arrived in an earlier boot")
        arrived = record["workloads"]
        gone = [
            n for n, e in arrived.items() if e["directory"] and not Path(e["directory"]).is_dir()
        ]
        if gone:
            return absent(f"the unpacked state of {', '.join(gone)} is gone")
        missing = [name for name in params.workloads if name not in arrived]
        return present("the state is unpacked and recorded", _summary(arrived, missing, Search()))

    def revert(self, job: Job, params: Retrieve) -> Result:
        job.parts.workloads.release(job.context.control)
        return {}


class RestoreHandler(Handler[Restore]):
    def perform(self, job: Job, params: Restore) -> Result:
        workload = params.workload
        job.records.drop(failed_name(workload.name))
        result = self._bring_back(job, params)
        job.records.write(restored_name(workload.name), {**result, "boot_id": _boot_id(job)})
        job.parts.restored.add((job.context.section, workload.name))
        if not _still_missing(job):
            job.parts.workloads.release(job.context.control)
        return result

    def inspect(self, job: Job, params: Restore) -> Inspected:
        record = job.records.read(restored_name(params.workload.name))
        here = record is not None and record.get("boot_id") == _boot_id(job)
        if here and record is not None and record.get("how") != "restored":
            return self._inspect_running(job, params, record)
        state = _state_of(job, params.workload)
        if state is None:
            return self._inspect_running(job, params, {"how": "found-running"})
        found = job.parts.workloads.inspect_restore(params.workload, state["meta"])
        return found.model_copy(update={"result": _restored(params.workload, state)})

    def revert(self, job: Job, params: Restore) -> Result:
        meta = (_state_of(job, params.workload) or {}).get("meta", {})
        result = job.parts.workloads.stop(params.workload, meta, job.context.control)
        job.records.drop(restored_name(params.workload.name))
        return result

    def _bring_back(self, job: Job, params: Restore) -> Result:
        workload, control = params.workload, job.context.control
        state = _state_of(job, workload)
        if params.or_restart and job.parts.workloads.find(workload).pids:
            return {"how": "found-running", "text": f"{workload.name} was running already"}
        if state is None:
            if not params.or_restart:
                raise WorkloadError(f"no state of {workload.name} has arrived")
            return self._start_anew(job, workload, "no state left")
        try:
            directory = Path(state["directory"]) if state["directory"] else None
            done = job.parts.workloads.restore(workload, directory, state["meta"], control)
        except MkupgradeError as error:
            if not params.or_restart:
                self._note_failure(job, workload, state)
                raise
            job.parts.workloads.stop(workload, state["meta"], control)
            return self._start_anew(job, workload, f"its state could not be restored: {error}")
        result = _restored(workload, state)
        closed = done.get("closed", 0)
        if closed:
            connections = "connection was" if closed == 1 else "connections were"
            result["text"] += f"; it had run on since, so that its {closed} {connections} closed"
        return {**result, "notes": done.get("notes", [])}

    @staticmethod
    def _note_failure(job: Job, workload: Workload, state: Mapping[str, Any]) -> None:
        """That it never ran, unless it runs in spite of the error; see `may_have_run`."""
        found = job.parts.workloads.inspect_restore(workload, state["meta"])
        if found.verdict is Inspection.ABSENT:
            job.records.write(failed_name(workload.name), {"boot_id": _boot_id(job)})

    @staticmethod
    def _start_anew(job: Job, workload: Workload, why: str) -> Result:
        stopped = _checkpoint_record(job, workload) or {}
        control, meta = job.context.control, stopped.get("meta")
        started = job.parts.workloads.start_anew(workload, control, meta)
        return {**started, "how": "started-anew", "text": f"{workload.name} started anew: {why}"}

    @staticmethod
    def _inspect_running(job: Job, params: Restore, result: Mapping[str, Any]) -> Inspected:
        pids = job.parts.workloads.find(params.workload).pids
        if pids:
            return present(f"{params.workload.name} runs as pid {pids[0]}", dict(result))
        return absent(f"{params.workload.name} does not run")


def _sources(job: Job, params: Retrieve) -> Iterator[Source]:
    key = (job.context.state_dir, job.context.transaction)
    channels = job.parts.channels
    through_memory = "kho" in params.channels.values()
    if job.context.section is not Section.RECOVER:
        if through_memory:
            yield Source("memory", channels.kho(*key, Section.FORWARD), Section.FORWARD, "memory")
        yield Source("disk", channels.disk(*key, Section.FORWARD), Section.FORWARD, "disk")
        return
    if through_memory and _arrived_by(job, Section.RETURN):
        yield Source("memory", channels.kho(*key, Section.RETURN), Section.RETURN, "memory")
    for section in (Section.RETURN, Section.FORWARD):
        yield Source("disk", channels.disk(*key, section), section, SPILLED)
        yield Source("copy", channels.copy(*key, section), section, SPILLED)


def _fetch(
    job: Job, source: Source, wanted: list[str], search: Search
) -> dict[str, dict[str, Any]]:
    """What a source has of the wanted workloads; nothing, and a line in `search`, where it has
    none or it cannot be trusted."""
    place = f"{source.words} ({source.taken_in.value})"
    destination = job.records.dir / RETRIEVED / f"{source.taken_in.value}-{source.label}"
    make_private_directories(destination.parent)
    try:
        received = source.channel.receive(destination, job.context.control)
    except NothingSentError as error:
        search.nothing.append(f"{place}: {error}")
        return {}
    except MkupgradeError as error:
        search.problems.append(f"{place}: {error}")
        return {}
    search.problems += [
        f"{place}: {name}: {why}" for name, why in received.damaged.items() if name in wanted
    ]
    entries = {name: _entry(job, source, received, name) for name in wanted}
    return {name: entry for name, entry in entries.items() if entry is not None}


def _entry(job: Job, source: Source, received: Received, name: str) -> dict[str, Any] | None:
    home = job.context.section is Section.RECOVER
    older = home and source.taken_in is Section.FORWARD
    outrun = (older and may_have_run(job, name)) or (home and may_have_run_home(job, name))
    for carried in received.manifest.workloads:
        if carried.name == name and name not in received.damaged:
            directory = received.directories.get(name)
            return {
                "source": source.words,
                "channel": source.channel.name,
                "section": received.manifest.section.value,
                "directory": str(directory) if directory else None,
                "taken": received.manifest.created.isoformat(timespec="seconds"),
                "meta": {**carried.meta, **({"outrun": True} if outrun else {})},
            }
    return None


def _finish(job: Job) -> None:
    """The kernel may forget its copy: ours is durable and recorded."""
    forward = job.context.section is not Section.RECOVER
    taken_in = Section.FORWARD if forward else Section.RETURN
    key = (job.context.state_dir, job.context.transaction, taken_in)
    channel = job.parts.channels.kho(*key)
    channel.finish()
    channel.close()


def _arrived_by(job: Job, section: Section) -> bool:
    mark = mark_for(job.context.transaction, section)[len(MARK) :]
    return marks(job.parts.machine.place().cmdline) == [mark]


def _state_of(job: Job, workload: Workload) -> dict[str, Any] | None:
    """What there is to restore a workload from: what arrived, or, for one that is only stopped
    and started, what its stop recorded."""
    record = job.records.read(RETRIEVED) or {}
    arrived: dict[str, Any] | None = record.get("workloads", {}).get(workload.name)
    if arrived is not None or workload.migrate.method != "restart":
        return arrived
    stopped = _checkpoint_record(job, workload)
    return None if stopped is None else {**stopped, "directory": None, "source": "restart"}


def _checkpoint_record(job: Job, workload: Workload) -> dict[str, Any] | None:
    """What the last checkpoint of a workload recorded, with its meta."""
    for section in (Section.RETURN, Section.FORWARD):
        record = taken(job.records_of(section), workload.name)
        if record is not None and "meta" in record:
            return record
    return None


def _restored(workload: Workload, state: Mapping[str, Any]) -> Result:
    source, name = state["source"], workload.name
    if source == "restart":
        text = f"{name} started again"
    elif source == SPILLED:
        clock = datetime.fromisoformat(state["taken"]).astimezone().strftime("%H:%M:%S")
        text = f"{name} restored from spilled state of {clock}"
    else:
        text = f"{name} restored from {source}"
    return {"how": "restored", "from": source, "taken": state["taken"], "text": text}


def _still_missing(job: Job) -> set[str]:
    """Workloads that arrived and are not restored yet: until then their ports stay closed."""
    arrived = (job.records.read(RETRIEVED) or {}).get("workloads", {})
    section, boot_id = job.context.section, _boot_id(job)
    return {
        name
        for name in arrived
        if (section, name) not in job.parts.restored
        and (job.records.read(restored_name(name)) or {}).get("boot_id") != boot_id
    }


def _summary(arrived: Mapping[str, Any], missing: list[str], search: Search) -> Result:
    found = {n: {k: e[k] for k in ("source", "taken")} for n, e in arrived.items()}
    problems = [*search.problems, *(search.nothing if missing else [])]
    return {"arrived": found, "missing": missing, "problems": problems}


def _boot_id(job: Job) -> str:
    return job.parts.machine.place().boot_id
