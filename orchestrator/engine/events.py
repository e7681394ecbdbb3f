"""The events of a transaction: all that is ever written to the journal while it runs.

State is the fold of these (`fold.py`); nothing else is remembered. An event says what was
decided or seen, never what follows from it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from orchestrator.model.base import Record
from orchestrator.model.outcomes import Outcome
from orchestrator.model.steps import Inspection, Section


class Began(Record):
    """The plan itself is stored once, beside the events; its digest ties it to them."""

    type: Literal["began"] = "began"
    name: str
    plan_digest: str
    intent_digest: str
    driver: str


class SectionEntered(Record):
    type: Literal["section_entered"] = "section_entered"
    section: Section
    reason: str


class StepIntended(Record):
    """Durable before the driver is asked to perform."""

    type: Literal["intended"] = "intended"
    step: str
    attempt: int


class StepPerformed(Record):
    type: Literal["performed"] = "performed"
    step: str
    attempt: int
    result: dict[str, Any] = {}
    seconds: float
    """How long the driver took; the envelope's time is when it was back."""


class StepFailed(Record):
    type: Literal["failed"] = "failed"
    step: str
    attempt: int
    error: dict[str, Any]
    """`MkupgradeError.as_dict()`."""
    seconds: float


class StepInspected(Record):
    """What the driver found. On a step that counted as performed, ABSENT means that its
    effect has lapsed."""

    type: Literal["inspected"] = "inspected"
    step: str
    verdict: Inspection
    reason: str
    result: dict[str, Any] = {}


class TurnedBack(Record):
    """From here on the section's performed steps are reverted, last first."""

    type: Literal["turned_back"] = "turned_back"
    section: Section
    reason: str


class RevertIntended(Record):
    """Durable before the driver is asked to revert."""

    type: Literal["revert_intended"] = "revert_intended"
    step: str
    attempt: int
    """Counts the attempts to revert, from 1."""


class StepReverted(Record):
    type: Literal["reverted"] = "reverted"
    step: str
    attempt: int
    result: dict[str, Any] = {}
    seconds: float


class RevertFailed(Record):
    type: Literal["revert_failed"] = "revert_failed"
    step: str
    attempt: int
    error: dict[str, Any]
    seconds: float


RequestedBy = Literal["operator", "interrupt", "abort", "deadline"]


class RollbackRequested(Record):
    type: Literal["rollback_requested"] = "rollback_requested"
    reason: str
    by: RequestedBy


class Interrupted(Record):
    """The transaction stands still and can be resumed."""

    type: Literal["interrupted"] = "interrupted"
    reason: str
    waiting: bool = False
    """It waits for the operator's decision: resume (try on) or rollback."""


class Resumed(Record):
    """Another process took over: whatever was in flight before is in doubt."""

    type: Literal["resumed"] = "resumed"
    reason: str


class Ended(Record):
    type: Literal["ended"] = "ended"
    outcome: Outcome
    reason: str


Event = Annotated[
    Began
    | SectionEntered
    | StepIntended
    | StepPerformed
    | StepFailed
    | StepInspected
    | TurnedBack
    | RevertIntended
    | StepReverted
    | RevertFailed
    | RollbackRequested
    | Interrupted
    | Resumed
    | Ended,
    Field(discriminator="type"),
]


class Stamp(Record):
    """When and where an event was written."""

    time: float
    """Unix seconds."""
    boot_id: str
    release: str
    """`uname -r` of the kernel that ran."""
    pid: int


class Envelope(Record):
    """An event as the journal holds it. `hash` is SHA-256 over the canonical JSON of all
    other fields, `prev_hash` among them: a change anywhere breaks every later link."""

    seq: int
    transaction: str
    stamp: Stamp
    event: Event
    prev_hash: str
    hash: str

    @property
    def time(self) -> float:
        return self.stamp.time
