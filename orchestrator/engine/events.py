"""The events of a transaction: all that is ever written to the journal while it runs.

State is the fold of these (`fold.py`); nothing else is remembered. An event says what was
decided or seen, never what follows from it.

Plain dataclasses: made many thousand times a second, from our own data, without validation.
Read back from the journal, which may be damaged, they are validated (`parse`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from orchestrator.model.base import Flat, Plain, canonical_json, json_string
from orchestrator.model.outcomes import Outcome
from orchestrator.model.steps import Inspection, Section


@dataclass(frozen=True, slots=True, kw_only=True)
class Began(Flat):
    """The plan itself is stored once, beside the events; its digest ties it to them."""

    type: Literal["began"] = "began"
    name: str
    plan_digest: str
    intent_digest: str
    driver: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SectionEntered(Flat):
    type: Literal["section_entered"] = "section_entered"
    section: Section
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StepIntended(Flat):
    """Durable before the driver is asked to perform."""

    type: Literal["intended"] = "intended"
    step: str
    attempt: int

    def canonical(self) -> str:
        step = json_string(self.step)
        return f'{{"attempt":{self.attempt},"step":{step},"type":"intended"}}'


@dataclass(frozen=True, slots=True, kw_only=True)
class StepPerformed(Flat):
    type: Literal["performed"] = "performed"
    step: str
    attempt: int
    result: dict[str, Any] = field(default_factory=dict)
    seconds: float
    """How long the driver took; the envelope's time is when it was back."""

    def canonical(self) -> str:
        result = canonical_json(self.result) if self.result else "{}"
        return (
            f'{{"attempt":{self.attempt},"result":{result},"seconds":{self.seconds!r},'
            f'"step":{json_string(self.step)},"type":"performed"}}'
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StepFailed(Flat):
    type: Literal["failed"] = "failed"
    step: str
    attempt: int
    error: dict[str, Any]
    """`MkupgradeError.as_dict()`."""
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StepInspected(Flat):
    """What the driver found. On a step that counted as performed, ABSENT means that its
    effect has lapsed."""

    type: Literal["inspected"] = "inspected"
    step: str
    verdict: Inspection
    reason: str
    result: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnedBack(Flat):
    """From here on the section's performed steps are reverted, last first."""

    type: Literal["turned_back"] = "turned_back"
    section: Section
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RevertIntended(Flat):
    """Durable before the driver is asked to revert."""

    type: Literal["revert_intended"] = "revert_intended"
    step: str
    attempt: int
    """Counts the attempts to revert, from 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepReverted(Flat):
    type: Literal["reverted"] = "reverted"
    step: str
    attempt: int
    result: dict[str, Any] = field(default_factory=dict)
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RevertFailed(Flat):
    type: Literal["revert_failed"] = "revert_failed"
    step: str
    attempt: int
    error: dict[str, Any]
    seconds: float


RequestedBy = Literal["operator", "interrupt", "abort", "deadline"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RollbackRequested(Flat):
    type: Literal["rollback_requested"] = "rollback_requested"
    reason: str
    by: RequestedBy


@dataclass(frozen=True, slots=True, kw_only=True)
class Interrupted(Flat):
    """The transaction stands still and can be resumed."""

    type: Literal["interrupted"] = "interrupted"
    reason: str
    waiting: bool = False
    """It waits for the operator's decision: resume (try on) or rollback."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed(Flat):
    """Another process took over: whatever was in flight before is in doubt."""

    type: Literal["resumed"] = "resumed"
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended(Flat):
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp(Flat):
    """When and where an event was written."""

    time: float
    """Unix seconds."""
    boot_id: str
    release: str
    """`uname -r` of the kernel that ran."""
    pid: int

    def canonical(self) -> str:
        return f"{_origin(self.boot_id, self.release, self.pid)}{self.time!r}}}"


@lru_cache(maxsize=16)
def _origin(boot_id: str, release: str, pid: int) -> str:
    """The part of a stamp's text that is the same in all events of a process."""
    return (
        f'{{"boot_id":{json_string(boot_id)},"pid":{pid},"release":{json_string(release)},"time":'
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope(Plain):
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


def body(seq: int, transaction: str, stamp: Stamp, event: Event, prev_hash: str) -> str:
    """What the journal keeps of an event and what its hash is taken over: the canonical JSON
    of an envelope without `hash`."""
    return (
        f'{{"event":{event.canonical()},"prev_hash":"{prev_hash}","seq":{seq},'
        f'"stamp":{stamp.canonical()},"transaction":{json_string(transaction)}}}'
    )


def parse(body: str, digest: str) -> Envelope:
    """The envelope of a text that `body` made and its hash.

    Raises:
        pydantic.ValidationError: it is none.
    """
    return _adapter().validate_json(f'{body[:-1]},"hash":"{digest}"}}')


@cache
def _adapter() -> TypeAdapter[Envelope]:
    return TypeAdapter(Envelope)
