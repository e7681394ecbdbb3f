"""A job of this driver, and what its handlers are made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from orchestrator.drivers.jobs import AnyHandler, AnyJob, absent, present
from orchestrator.drivers.live_update.parts import Parts
from orchestrator.model.base import Record
from orchestrator.model.seams import Result
from orchestrator.model.steps import Inspected

P = TypeVar("P", bound=Record)


@dataclass(frozen=True)
class Job(AnyJob[Parts]):
    """A step of the live update."""


class Handler(AnyHandler[Job, P]):
    """Of one of its kinds."""


class OnceHandler(Handler[P]):
    """A step whose effect is that it was passed, in this boot, before workloads were stopped.

    Done again after a crash it could only fail: it looks at workloads that do not run by then.
    """

    def inspect(self, job: Job, params: P) -> Inspected:
        record = job.records.read(self._name(job))
        if record is None or record.get("boot_id") != job.parts.machine.place().boot_id:
            return absent("no record that it was passed in this boot")
        return present("recorded as passed in this boot", record["result"])

    def revert(self, job: Job, params: P) -> Result:
        self.forget(job)
        return {}

    def forget(self, job: Job) -> None:
        """It is not passed, or not any more. Called before each attempt."""
        job.records.drop(self._name(job))

    def passed(self, job: Job, result: Result) -> Result:
        """Record it."""
        boot_id = job.parts.machine.place().boot_id
        job.records.write(self._name(job), {"boot_id": boot_id, "result": result})
        return result

    @staticmethod
    def _name(job: Job) -> str:
        return f"passed.{job.step.kind}"
