"""What an effect is given, and what all effects have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from orchestrator.drivers.simulated.world import Owner, World
from orchestrator.model.base import Record
from orchestrator.model.errors import ErrorClass, MkupgradeError
from orchestrator.model.landing import mark_for
from orchestrator.model.seams import Result, StepContext
from orchestrator.model.steps import Inspected, Inspection, Section, Step

P = TypeVar("P", bound=Record)


@dataclass(frozen=True)
class Job:
    """One step on behalf of one transaction by one process."""

    step: Step
    context: StepContext
    process: Owner

    @property
    def key(self) -> str:
        """Where this section of the transaction keeps its things."""
        return self.key_of(self.context.section)

    def key_of(self, section: Section) -> str:
        return f"{self.context.transaction}/{section.value}"

    @property
    def mark(self) -> str:
        """The kernel parameter by which the landing is recognised."""
        return mark_for(self.context.transaction, self.context.section)

    @property
    def effect(self) -> str:
        return f"{self.context.transaction}:{self.step.id}"

    @property
    def was_performed(self) -> bool:
        return self.step.id in self.context.results


class Effect(ABC, Generic[P]):
    """What a kind of step does to a pretend host."""

    params: type[P]

    def parse(self, step: Step) -> P:
        return self.params.model_validate(step.params)

    @abstractmethod
    def perform(self, world: World, p: P, job: Job) -> Result: ...

    def confirm(self, result: Result, job: Job) -> None:
        """Raise if the effect, now on record, is not what was wanted."""

    @abstractmethod
    def inspect(self, world: World, p: P, job: Job) -> Inspected: ...

    @abstractmethod
    def revert(self, world: World, p: P, job: Job) -> Result: ...


class Look(Effect[P]):
    """A step that only looks: no effect, so nothing to lapse and nothing to take back."""

    def inspect(self, world: World, p: P, job: Job) -> Inspected:
        if job.was_performed:
            return present("it was done, and leaves nothing that could be lost")
        return absent("it leaves nothing behind, so that it can be done again")

    def revert(self, world: World, p: P, job: Job) -> Result:
        return {}


def present(reason: str, **result: Any) -> Inspected:
    return Inspected(verdict=Inspection.PRESENT, reason=reason, result=result)


def absent(reason: str) -> Inspected:
    return Inspected(verdict=Inspection.ABSENT, reason=reason)


def partial(reason: str) -> Inspected:
    return Inspected(verdict=Inspection.PARTIAL, reason=reason)


def unknown(reason: str) -> Inspected:
    return Inspected(verdict=Inspection.UNKNOWN, reason=reason)


def refused(what: str, job: Job) -> MkupgradeError:
    """The pretend kernel says no."""
    return MkupgradeError(what, where=job.step.id, error_class=ErrorClass.REFUSED)
