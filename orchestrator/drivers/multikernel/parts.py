"""What the handlers of the driver stand on, and a job for one of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from orchestrator.drivers.jobs import AnyHandler, AnyJob
from orchestrator.drivers.multikernel.consoles import Consoles
from orchestrator.drivers.multikernel.kernel import Kernel
from orchestrator.drivers.multikernel.living import Named, Patience
from orchestrator.drivers.multikernel.seeing import Status, look, transactions
from orchestrator.drivers.multikernel.trees.changes import Tag
from orchestrator.model.base import Record
from orchestrator.model.errors import MkupgradeError
from orchestrator.model.params.side_by_side import Generation

P = TypeVar("P", bound=Record)


@dataclass(frozen=True)
class Parts:
    """The kernel, time (seconds of any beginning), and whom this process listens to."""

    kernel: Kernel
    now: Callable[[], float]
    sleep: Callable[[float], None]
    consoles: Consoles = field(default_factory=Consoles)


@dataclass(frozen=True)
class Job(AnyJob[Parts]):
    """A step beside the running kernel."""

    @property
    def kernel(self) -> Kernel:
        return self.parts.kernel

    def patience(self, *, kept: float = 0.0) -> Patience:
        """Until the attempt's deadline, or until the operator wants it to end.

        Args:
            kept: seconds before the deadline that are for something else; half of what there is
                at most.
        """
        control, began = self.context.control, self.parts.now()
        budget = control.remaining()
        kept = min(kept, budget / 2)

        def remaining() -> float:
            return min(budget - (self.parts.now() - began), control.remaining()) - kept

        def sleep(seconds: float) -> None:
            if control.stopped():
                raise MkupgradeError("stopped on request while waiting", where=self.step.id)
            self.parts.consoles.take()
            self.parts.sleep(seconds)
            self.parts.consoles.take()

        return Patience(remaining, sleep)

    def listen(self, generation: Generation) -> None:
        """To its console from now on: `console.NAME.log` beside the records."""
        if self.kernel.no_console() is None:
            path = self.records.dir / f"console.{generation.name}.log"
            number = generation.id
            self.parts.consoles.listen(number, lambda: self.kernel.console(number), path)

    def tag(self, *, undoing: bool = False) -> Tag:
        """One that was never used: attempts of reverts are counted by the kernel's own memory."""
        name = f"undo.{self.step.id}" if undoing else self.step.id
        return next_tag(self.kernel, self.context.transaction, name)


class Handler(AnyHandler[Job, P]):
    """Of one of its kinds."""


def next_tag(kernel: Kernel, transaction: str, step: str) -> Tag:
    """One that was never used."""
    used = [
        found.tag.attempt
        for found in transactions(kernel)
        if found.tag is not None and (found.tag.transaction, found.tag.step) == (transaction, step)
    ]
    return Tag(transaction, step, max(used, default=0) + 1)


def named(generation: Generation) -> Named:
    return Named(generation.name, generation.id)


def status_of(job: Job, generation: Generation) -> Status | None:
    """None: there is none of this name and id."""
    seen = look(job.kernel).instances.get(generation.name)
    return seen.status if seen is not None and seen.tree.id == generation.id else None
