"""Step kinds at the end: commit, restore-boot-default, clean-up."""

from __future__ import annotations

import time
from pathlib import Path

from orchestrator.drivers.jobs import absent, partial, present
from orchestrator.drivers.live_update.job import Handler, Job
from orchestrator.drivers.live_update.kernel import FALLBACK
from orchestrator.drivers.records import drop_tree
from orchestrator.model.errors import NotSupportedError
from orchestrator.model.params.in_place import ArmFallback, CleanUp, Commit, RestoreBootDefault
from orchestrator.model.seams import Result
from orchestrator.model.steps import Inspected, Inspection, Section

COMMIT = "commit"
STATE_TREES = ("work", "retrieved", "trial")
"""Of a section's records: what holds state of workloads."""
NOT_AGAIN = "what was tried and failed is not what the next start takes"
NO_LOADER = "no boot loader found: a cold boot will start whatever the firmware starts"


class CommitHandler(Handler[Commit]):
    """The new kernel becomes what a reset ends in; until here that was the old one."""

    def perform(self, job: Job, params: Commit) -> Result:
        if params.nixos is not None:
            job.say("setting the system profile and the boot menu")
            job.parts.nixos.install(params.nixos, job.context.control)
        entry = self._entry(job, params)
        if entry is not None:
            job.parts.boot.set_default(entry)
        record = {
            "entry": entry,
            "release": params.release,
            "previous_default": params.previous_default,
            "old_kernel_until": time.time() + params.keep_old_kernel,
            "boot_id": job.parts.machine.place().boot_id,
        }
        job.records.write(COMMIT, record)
        return self._result(entry, params)

    def inspect(self, job: Job, params: Commit) -> Inspected:
        record = job.records.read(COMMIT)
        if params.nixos is not None:
            found = job.parts.nixos.state()
            there = found.leads_to == params.nixos.toplevel
            if record is None and there:
                return partial(f"{found.link} leads to the new system, and nothing is recorded")
            if record is not None and not there:
                return partial(f"recorded, but {found.link} leads to {found.leads_to}")
        if record is None:
            return absent("no record of a commit")
        entry = record.get("entry")
        default = job.parts.boot.state().default
        if entry is not None and default != entry:
            return absent(f"the default boot entry is {default or 'not set'}, not {entry}")
        return present("recorded, and in place", self._result(entry, params))

    def revert(self, job: Job, params: Commit) -> Result:
        if params.nixos is not None:
            job.parts.nixos.put_back(params.nixos, job.context.control)
        if params.previous_default is not None:
            job.parts.boot.set_default(params.previous_default)
        job.records.drop(COMMIT)
        return {}

    @staticmethod
    def _entry(job: Job, params: Commit) -> str | None:
        if params.previous_default is None:
            return None
        entry = job.parts.boot.entry_for(params.release)
        if entry is None:
            raise NotSupportedError(
                f"no single boot entry starts Linux {params.release}",
                state=f"the default is still {params.previous_default}",
                next_command="mkupgrade resume",
            )
        return entry

    @staticmethod
    def _result(entry: str | None, params: Commit) -> Result:
        if params.nixos is not None:
            entry = params.nixos.toplevel
        note = NO_LOADER if entry is None else f"{entry} is not proven by a cold boot yet"
        return {"release": params.release, "boot_default": entry, "note": note}


class RestoreBootDefaultHandler(Handler[RestoreBootDefault]):
    def perform(self, job: Job, params: RestoreBootDefault) -> Result:
        if params.nixos is not None:
            job.parts.nixos.put_back(params.nixos, job.context.control)
        if params.boot_default is not None:
            job.parts.boot.set_default(params.boot_default)
        pending = params.nixos.pending if params.nixos is not None else None
        if pending is None:
            return {"boot_default": params.boot_default}
        note = f"generation {pending.generation} is no longer pending: {NOT_AGAIN}"
        return {"boot_default": params.boot_default, "note": note}

    def inspect(self, job: Job, params: RestoreBootDefault) -> Inspected:
        if params.nixos is not None:
            found = job.parts.nixos.state()
            if found.generation != params.nixos.generation:
                return absent(f"{found.link} leads to {found.leads_to or 'nothing'}")
            return present(f"{found.link} leads to {found.leads_to}")
        default = job.parts.boot.state().default
        if params.boot_default is None or default == params.boot_default:
            return present(f"the default boot entry is {default or 'not ours to set'}")
        return absent(f"the default boot entry is {default or 'not set'}")


def default_moved(job: Job) -> bool:
    """Does a reset end elsewhere than where it was armed to end?"""
    armed = job.records_of(Section.FORWARD).read(FALLBACK)
    if armed is None:
        return False
    way_back = ArmFallback.model_validate(armed["params"])
    old = RestoreBootDefault(boot_default=way_back.boot_default, nixos=way_back.nixos)
    return RestoreBootDefaultHandler().inspect(job, old).verdict is Inspection.ABSENT


class CleanUpHandler(Handler[CleanUp]):
    """What only the transaction needed. The record of the commit stays: it says until when the
    old kernel's files must be kept."""

    def perform(self, job: Job, params: CleanUp) -> Result:
        context, parts = job.context, job.parts
        parts.workloads.release(context.control)
        for section in Section:
            armed = job.records_of(section).read(FALLBACK)
            device = (armed or {}).get("params", {}).get("watchdog")
            if device is not None:
                parts.watchdog.disarm(Path(device))
        for section in (Section.FORWARD, Section.RETURN):
            key = (context.state_dir, context.transaction, section)
            memory = parts.channels.kho(*key)
            memory.finish()
            memory.discard()
            parts.channels.disk(*key).discard()
        for section in Section:
            directory = job.records_of(section).dir
            for tree in STATE_TREES:
                drop_tree(directory / tree)
        drop_tree(parts.runtime_dir / context.transaction)
        return {"old_kernel_kept_for": params.keep_old_kernel}
