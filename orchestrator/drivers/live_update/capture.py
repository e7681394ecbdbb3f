"""Step kinds that take the workloads' state along: checkpoint, preserve.

A checkpoint lands in a directory; preserving packs those directories into the channels. State for
the disk, or with a spilled copy, is taken below the state directory; state that is to stay in
memory is taken below /run.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from orchestrator.drivers.jobs import absent, partial, present, unknown
from orchestrator.drivers.live_update.job import Handler, Job
from orchestrator.drivers.records import Records, drop_tree, keep_log, make_private_directories
from orchestrator.handover.channels import Channel, Head, Item
from orchestrator.model.errors import HandoverError, MkupgradeError, NotSupportedError
from orchestrator.model.params.in_place import Checkpoint, Preserve
from orchestrator.model.seams import Result
from orchestrator.model.spec import Workload
from orchestrator.model.steps import Inspected, Inspection, Section

RETRIEVED = "retrieved"
"""Record: what arrived, in which boot."""


class CheckpointHandler(Handler[Checkpoint]):
    def perform(self, job: Job, params: Checkpoint) -> Result:
        left = _left_over(job, params.workload)
        if left is not None:
            job.records.write(_name(params.workload.name), left)
            return {"reused": left["reused"], "taken": left["taken"]}
        workdir = work_dir(job, params)
        record = {
            "workload": params.workload.model_dump(mode="json"),
            "spill": params.spill,
            "workdir": str(workdir),
            "taken": datetime.now(UTC).isoformat(timespec="seconds"),
            "boot_id": job.parts.machine.place().boot_id,
        }
        job.records.write(_name(params.workload.name), record)
        make_private_directories(workdir.parent)
        started = time.monotonic()
        try:
            meta = job.parts.workloads.checkpoint(params.workload, workdir, job.context.control)
        except MkupgradeError as error:
            keep_log(error, workdir, job.records.dir / "logs" / f"{workdir.parent.name}.log")
            raise
        job.records.write(_name(params.workload.name), {**record, "meta": meta})
        return {"taken": record["taken"], "seconds": round(time.monotonic() - started, 3)}

    def inspect(self, job: Job, params: Checkpoint) -> Inspected:
        record = job.records.read(_name(params.workload.name))
        if record is None:
            return absent("no record: its state was not asked for")
        if "reused" in record:
            return present(record["reused"], {"reused": record["reused"], "taken": record["taken"]})
        found = job.parts.workloads.inspect_checkpoint(params.workload, work_dir(job, params))
        if found.verdict is Inspection.ABSENT:
            return partial(f"{found.reason}; what an attempt left of its state is still there")
        if found.verdict is not Inspection.PRESENT:
            return found
        return present(found.reason, {"taken": record["taken"]})

    def revert(self, job: Job, params: Checkpoint) -> Result:
        record = job.records.read(_name(params.workload.name))
        if record is None:
            return {}
        result: Result = {}
        if "reused" not in record:
            result = _made_to_run(job, params, record)
            drop_tree(work_dir(job, params).parent)
        job.records.drop(_name(params.workload.name))
        return result


class PreserveHandler(Handler[Preserve]):
    """Everything for the disk first: should memory fail, nothing is lost but time."""

    def perform(self, job: Job, params: Preserve) -> Result:
        head = _head(job)
        sent: Result = {}
        for channel, names in _channels(job, params):
            items = [item for name in names if (item := _item(job, name)) is not None]
            job.say(f"handing {', '.join(names)} to channel {channel.name}")
            manifest = channel.send(head, items, job.context.control)
            payloads = [w.payload.length for w in manifest.workloads if w.payload is not None]
            sent[channel.name] = {"workloads": names, "bytes": sum(payloads)}
        return {"sent": sent}

    def inspect(self, job: Job, params: Preserve) -> Inspected:
        found = [channel.inspect_sent() for channel, _ in _channels(job, params)]
        reasons = "; ".join(f.reason for f in found) or "nothing to hand over"
        verdicts = {f.verdict for f in found}
        if Inspection.UNKNOWN in verdicts:
            return unknown(reasons)
        if verdicts <= {Inspection.PRESENT}:
            return present(reasons, {"sent": {}})
        return absent(reasons) if verdicts == {Inspection.ABSENT} else partial(reasons)

    def revert(self, job: Job, params: Preserve) -> Result:
        for channel, _ in _channels(job, params):
            channel.discard()
        return {}


def work_dir(job: Job, params: Checkpoint) -> Path:
    """Where a checkpoint is taken to; tools' logs land beside it, in a directory of its own."""
    in_memory = params.channel == "kho" and not params.spill
    root = job.parts.runtime_dir / job.context.transaction / job.context.section.value
    work = (root if in_memory else job.records.dir) / "work"
    return work / params.workload.name / "state"


def taken(records: Records, name: str) -> dict[str, Any] | None:
    """What the checkpoint of a workload recorded in a section."""
    return records.read(_name(name))


def restored_name(workload: str) -> str:
    """Record: how a workload was brought back."""
    return f"restored.{workload}"


def failed_name(workload: str) -> str:
    """Record: it could not be brought back, the last time that it was tried."""
    return f"unrestored.{workload}"


def may_have_run(job: Job, workload: str) -> bool:
    """Did a workload run on in the new kernel, with the state of the first jump? Told by what is
    durable before and after a restore, so that a restore is not made slower by a record of its
    own: where the kernel dies between retrieval and restore, the answer is yes."""
    return _ran_with(job.records_of(Section.FORWARD), workload)


def may_have_run_home(job: Job, workload: str) -> bool:
    """Did it run on in the old kernel, before another reset? See `may_have_run`."""
    records = job.records_of(Section.RECOVER)
    boot_id = (records.read(RETRIEVED) or {}).get("boot_id")
    here = job.parts.machine.place().boot_id
    return boot_id not in (None, here) and _ran_with(records, workload)


def _ran_with(records: Records, workload: str) -> bool:
    if records.read(restored_name(workload)) is not None:
        return True
    arrived = (records.read(RETRIEVED) or {}).get("workloads", {})
    return workload in arrived and records.read(failed_name(workload)) is None


def is_running(job: Job, workload: Workload) -> bool:
    return bool(job.parts.workloads.find(workload).pids)


def _made_to_run(job: Job, params: Checkpoint, record: dict[str, Any]) -> Result:
    """The workload runs again: as it was, or anew where its state cannot be used any more."""
    workload, workdir, control = params.workload, work_dir(job, params), job.context.control
    boot_id = job.parts.machine.place().boot_id
    why = _unusable(job, workload, workdir, record)
    if why is not None:
        return _started_after_reset(job, workload, record.get("meta"), workdir, why)
    if not is_running(job, workload):
        # From here on it may run and write to its files: after a reset its state is too old. One
        # that runs never stopped, for want of room perhaps: then there is none for this either.
        job.records.write(_name(workload.name), {**record, "undone_in": boot_id})
        if record.get("boot_id") not in (None, boot_id):
            return _restored_after_reset(job, workload, workdir)
    return job.parts.workloads.undo_checkpoint(workload, workdir, control)


def _restored_after_reset(job: Job, workload: Workload, workdir: Path) -> Result:
    """As behind a jump: at boot the host has no network yet, and files may have changed since.
    Where that fails the workload starts anew, since what it ran in is gone."""
    workloads, control = job.parts.workloads, job.context.control
    meta = workloads.inspect_checkpoint(workload, workdir).result
    try:
        workloads.hold({workload.name: meta}, control)
        return workloads.restore(workload, workdir, meta, control)
    except MkupgradeError as error:
        workloads.stop(workload, meta, control)
        why = f"its state could not be restored: {error}"
        return _started_after_reset(job, workload, meta, workdir, why)
    finally:
        workloads.release(control)


def _unusable(job: Job, workload: Workload, workdir: Path, record: Mapping[str, Any]) -> str | None:
    """Why a workload that a reset of the machine has ended cannot go on from this state."""
    boot_id = job.parts.machine.place().boot_id
    if record.get("boot_id") in (None, boot_id) or is_running(job, workload):
        return None
    if record.get("undone_in") not in (None, boot_id):
        return "it ran since its state was taken, and the machine was reset again"
    if job.parts.workloads.inspect_checkpoint(workload, workdir).verdict is Inspection.PRESENT:
        return None
    return "the machine was reset before its state was whole"


def _started_after_reset(
    job: Job, workload: Workload, meta: Result | None, workdir: Path, why: str
) -> Result:
    known = meta or job.parts.workloads.begun(workdir)
    try:
        started = job.parts.workloads.start_anew(workload, job.context.control, known)
    except NotSupportedError as error:
        return {"note": f"{workload.name} is left to what starts it at boot: {why}; {error.what}"}
    return {**started, "text": f"{workload.name} started anew: {why}"}


def _left_over(job: Job, workload: Workload) -> dict[str, Any] | None:
    """On the way back, a workload that does not run: its restore failed, or it died. What was
    taken in the old kernel, if anything, has to do; the record says where that is."""
    if job.context.section is not Section.RETURN or is_running(job, workload):
        return None
    arrived = (job.records_of(Section.FORWARD).read(RETRIEVED) or {}).get("workloads", {})
    left = arrived.get(workload.name)
    if left is None:
        return {"reused": "it does not run, and no state is left", "taken": None}
    text = f"it does not run: its state of {left['taken']} is used again"
    outrun = {"outrun": True} if may_have_run(job, workload.name) else {}
    document = workload.model_dump(mode="json")
    return {
        "reused": text,
        "workload": document,
        "spill": True,
        "workdir": left["directory"],
        "taken": left["taken"],
        "meta": {**left["meta"], **outrun},
    }


def _channels(job: Job, params: Preserve) -> Iterable[tuple[Channel, list[str]]]:
    """The channels that this step uses, with the workloads that travel in each."""
    key = (job.context.state_dir, job.context.transaction, job.context.section)
    kho = [name for name in params.workloads if params.channels[name] == "kho"]
    disk = [name for name in params.workloads if name not in kho or _spilled(job, name)]
    if disk:
        yield job.parts.channels.disk(*key), disk
    if kho:
        yield job.parts.channels.kho(*key), kho


def _spilled(job: Job, name: str) -> bool:
    with suppress(MkupgradeError):
        return bool((taken(job.records, name) or {}).get("spill"))
    return False


def _item(job: Job, name: str) -> Item | None:
    """A workload's state, ready to go; None: there is none left to take along."""
    record = taken(job.records, name)
    if record is None:
        raise HandoverError(f"workload {name} has not been checkpointed", where=name)
    if record.get("reused") and "workdir" not in record:
        return None
    workload = Workload.model_validate(record["workload"])
    directory = Path(record["workdir"])
    meta = record.get("meta")
    if meta is None:
        meta = job.parts.workloads.inspect_checkpoint(workload, directory).result
    return Item(name=name, method=workload.migrate.method, meta=meta, directory=directory)


def _head(job: Job) -> Head:
    place = job.parts.machine.place()
    return Head(
        transaction=job.context.transaction,
        plan_digest=job.context.plan_digest,
        section=job.context.section,
        source_release=place.release,
        source_boot_id=place.boot_id,
    )


def _name(workload: str) -> str:
    return f"checkpoint.{workload}"
