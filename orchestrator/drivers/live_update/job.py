"""What every step kind of the driver is made of: a job to do, and a handler that does it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from orchestrator.drivers.live_update.parts import Parts
from orchestrator.drivers.records import Records
from orchestrator.model.base import Record
from orchestrator.model.seams import Result, StepContext
from orchestrator.model.steps import Inspected, Inspection, Section, Step

P = TypeVar("P", bound=Record)


@dataclass(frozen=True)
class Job:
    """A step, the circumstances, and the parts of the host to do it with."""

    step: Step
    context: StepContext
    parts: Parts

    @property
    def records(self) -> Records:
        """The records of this step's own section."""
        return self.records_of(self.context.section)

    def records_of(self, section: Section) -> Records:
        return Records(self.context.state_dir, self.context.transaction, section)

    def say(self, text: str, fraction: float | None = None) -> None:
        self.context.control.progress(text, fraction)


class Handler(Generic[P]):
    """Perform, inspect and revert one kind of step. Stateless: what is held is in the parts.

    As it stands: a step without an effect. There is nothing to find and nothing to take back,
    so that after a crash it is simply done again.
    """

    def perform(self, job: Job, params: P) -> Result:
        raise NotImplementedError

    def inspect(self, job: Job, params: P) -> Inspected:
        return absent("a step of this kind leaves nothing behind")

    def revert(self, job: Job, params: P) -> Result:
        return {}


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


def present(reason: str, result: dict[str, Any] | None = None) -> Inspected:
    return Inspected(verdict=Inspection.PRESENT, reason=reason, result=result or {})


def absent(reason: str) -> Inspected:
    return Inspected(verdict=Inspection.ABSENT, reason=reason)


def partial(reason: str) -> Inspected:
    return Inspected(verdict=Inspection.PARTIAL, reason=reason)


def unknown(reason: str) -> Inspected:
    return Inspected(verdict=Inspection.UNKNOWN, reason=reason)
