"""The seams: what the engine asks of a driver, and whom it tells.

The engine knows no step kind; a driver knows no journal. They meet here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from orchestrator.model.host import HostState
from orchestrator.model.spec import UpgradeSpec
from orchestrator.model.steps import Inspected, Section, Step

Result = dict[str, Any]
"""What a step leaves for later steps and for the report: JSON, kept in the journal.

What it has under "text" and "note" (a string) and "warnings", "problems" and "notes" (lists of
strings) is shown to people."""


class Control(Protocol):
    """How a running step hears of its limits and speaks of its progress."""

    def remaining(self) -> float:
        """Seconds until the attempt's deadline; 0 or less: it is over. For tools' timeouts."""
        ...

    def stopped(self) -> bool:
        """True once the operator wants the step to end early; a step that can, then raises."""
        ...

    def progress(self, text: str, fraction: float | None = None) -> None:
        """Tell what is going on; `fraction` of 0..1 if known."""
        ...


@dataclass(frozen=True)
class StepContext:
    """What a driver is told along with a step."""

    transaction: str
    plan_digest: str
    state_dir: Path
    section: Section
    attempt: int
    """1 for the first."""
    results: Mapping[str, Result]
    """Results of the steps performed so far, by step id (all sections)."""
    control: Control
    intended_boot_id: str | None = None
    """For `inspect`: the boot id under which the attempt was intended. A pivot is recognised
    by the difference between this and the present one."""


class Driver(Protocol):
    """One way to run kernels. Calls block; the engine runs them in threads, several at once.

    Any method may raise `MkupgradeError`; anything else is taken for a bug of ours and treated
    as an effect that must be inspected.
    """

    name: str

    def observe(self, spec: UpgradeSpec) -> HostState:
        """See the host, as far as this spec is concerned. Changes nothing."""
        ...

    def perform(self, step: Step, context: StepContext) -> Result:
        """Bring the effect about. A pivot that succeeds on real hardware never returns."""
        ...

    def inspect(self, step: Step, context: StepContext) -> Inspected:
        """Is the effect there? Changes nothing. Says UNKNOWN rather than guess."""
        ...

    def revert(self, step: Step, context: StepContext) -> Result:
        """Take the effect back. Must work on a partial effect, and when called again."""
        ...

    def close(self) -> None:
        """Let go of what the driver holds (sessions, watchdog)."""
        ...


class Reporter(Protocol):
    """Whom the engine tells, from one thread at a time, not always the same. Never raises into
    the engine."""

    def event(self, event: Any) -> None:
        """An event that is durable by now (`orchestrator.engine.events`)."""
        ...

    def progress(self, step: Step, text: str, fraction: float | None) -> None: ...
