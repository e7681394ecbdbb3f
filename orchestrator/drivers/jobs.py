"""What every step kind of a driver on real parts is made of: a job to do, a handler that does it,
and what it may say that it has found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from orchestrator.drivers.records import Records
from orchestrator.model.base import Record
from orchestrator.model.seams import Result, StepContext
from orchestrator.model.steps import Inspected, Inspection, Section, Step

A = TypeVar("A")
J = TypeVar("J")
P = TypeVar("P", bound=Record)


@dataclass(frozen=True)
class AnyJob(Generic[A]):
    """A step, the circumstances, and the driver's parts to do it with."""

    step: Step
    context: StepContext
    parts: A

    @property
    def records(self) -> Records:
        """The records of this step's own section."""
        return self.records_of(self.context.section)

    def records_of(self, section: Section) -> Records:
        return Records(self.context.state_dir, self.context.transaction, section)

    def say(self, text: str, fraction: float | None = None) -> None:
        """Progress, for whoever watches."""
        self.context.control.progress(text, fraction)


class AnyHandler(Generic[J, P]):
    """Perform, inspect and revert one kind of step. Stateless: what is held is in the parts.

    As it stands: a step without an effect. There is nothing to find and nothing to take back,
    so that after a crash it is simply done again.
    """

    def perform(self, job: J, params: P) -> Result:
        raise NotImplementedError

    def inspect(self, job: J, params: P) -> Inspected:
        return absent("a step of this kind leaves nothing behind")

    def revert(self, job: J, params: P) -> Result:
        return {}


def present(reason: str, result: dict[str, Any] | None = None) -> Inspected:
    return Inspected(verdict=Inspection.PRESENT, reason=reason, result=result or {})


def absent(reason: str) -> Inspected:
    return Inspected(verdict=Inspection.ABSENT, reason=reason)


def partial(reason: str) -> Inspected:
    return Inspected(verdict=Inspection.PARTIAL, reason=reason)


def unknown(reason: str) -> Inspected:
    return Inspected(verdict=Inspection.UNKNOWN, reason=reason)
