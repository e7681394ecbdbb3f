"""The state of a transaction: what the events so far amount to.

Only `fold.apply` changes what is said of steps; only `core.decide` hands out work, and notes
that in `resources` and `looking`, which die with the process.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from heapq import heappush
from typing import Any, Final

from orchestrator.engine.agenda import Agenda, Resources
from orchestrator.engine.order import Neighbours
from orchestrator.model.outcomes import Outcome
from orchestrator.model.steps import Section, Step, StepGraph


class Status(StrEnum):
    """What is known of a step's effect."""

    PENDING = "pending"
    """Absent: never tried, lapsed, or tried and seen to be absent."""
    INTENDED = "intended"
    FAILED = "failed"
    """An attempt failed; nobody has looked at the effect yet."""
    PARTIAL = "partial"
    PERFORMED = "performed"
    REVERTING = "reverting"
    REVERT_FAILED = "revert-failed"
    REVERTED = "reverted"
    GIVEN_UP = "given-up"
    """Absent, and not tried again."""
    STUCK = "stuck"
    """Its effect, or a part of it, is there and could not be taken back."""
    LOST = "lost"
    """A pivot that happened and was undone by a reset."""


# Bound once: Python 3.11 takes five times as long to find a member in its class, and these are
# asked for some twenty times an event.
PENDING: Final = Status.PENDING
INTENDED: Final = Status.INTENDED
FAILED: Final = Status.FAILED
PARTIAL: Final = Status.PARTIAL
PERFORMED: Final = Status.PERFORMED
REVERTING: Final = Status.REVERTING
REVERT_FAILED: Final = Status.REVERT_FAILED
REVERTED: Final = Status.REVERTED
GIVEN_UP: Final = Status.GIVEN_UP
STUCK: Final = Status.STUCK
LOST: Final = Status.LOST
_FORWARD, _RECOVER = Section.FORWARD, Section.RECOVER
_WITH_EFFECT = frozenset({PERFORMED, PARTIAL})


@dataclass(slots=True)
class StepState:
    step: Step
    is_pivot: bool
    is_commit: bool
    status: Status = PENDING
    attempt: int = 0
    """Number of the last attempt to perform."""
    tries: int = 0
    """Attempts that count for the retry policy."""
    reverts: int = 0
    """Attempts to revert, likewise."""
    crashes: int = 0
    """How often the process died while working on it."""
    error: dict[str, Any] | None = None
    """Of the last attempt to perform, if it failed."""
    revert_error: dict[str, Any] | None = None
    doubt: bool = False
    """To be inspected before anything else happens."""
    behind: bool = False
    """Performed before a pivot that is performed by now: no longer looked at."""
    waits: bool = False
    """In `retries` or `repairs`: not to be touched before its time."""
    intended_boot_id: str | None = None

    @property
    def has_effect(self) -> bool:
        return self.status in _WITH_EFFECT


@dataclass(slots=True)
class TransactionState:
    """Made by `fold.start`; see there."""

    graph: StepGraph
    steps: dict[str, StepState]
    before: Neighbours
    after: Neighbours
    resources: Resources

    limited_from: float = 0.0
    """Unix seconds from which the deadline of the whole counts: the start, plus the time in
    which it stood still on request, plus the time between two kernels, whose clocks may
    differ by anything; anew when an operator lets it try on."""
    seen_boot: str = ""
    seen_at: float = 0.0
    """Boot id and time of the last event."""
    section: Section = Section.FORWARD
    section_boot_id: str = ""
    """The boot under which the section was entered."""
    reverting: bool = False
    results: dict[str, dict[str, Any]] = field(default_factory=dict)

    failure: str | None = None
    """Why the running section cannot be finished."""
    requested: str | None = None
    """Why somebody wants the transaction rolled back."""
    cause: str = ""
    """Why it was rolled back, once it is being rolled back."""
    unknown: str | None = None
    crossed: str | None = None
    """The forward pivot, once performed."""
    lost: str | None = None
    """The pivot that was found lost."""
    committed: bool = False
    outcome: Outcome | None = None
    reason: str = ""
    interrupted: bool = False
    waiting: bool = False
    stopped_at: float | None = None
    """When it was interrupted or ended, unix seconds."""
    agenda: Agenda | None = None
    looking: set[str] = field(default_factory=set)
    """Inspections in flight."""
    to_inspect: dict[str, None] = field(default_factory=dict)
    retries: list[tuple[float, str]] = field(default_factory=list)
    """Heap of (unix seconds, step): attempts to be made again then."""
    repairs: list[tuple[float, str]] = field(default_factory=list)
    """Likewise: partial effects to be reverted then."""
    doubts: int = 0

    def of_section(self) -> list[StepState]:
        here = self.section
        return [s for s in self.steps.values() if s.step.section is here]

    @property
    def best_effort(self) -> bool:
        """A failure here keeps back only what depends on it."""
        return self.section is _RECOVER or self.cleaning_up

    @property
    def cleaning_up(self) -> bool:
        return self.committed and self.requested is None and self.section is _FORWARD

    @property
    def turning_back(self) -> bool:
        """Nothing of the section is to be started any more."""
        return bool(self.failure or self.requested or self.lost) and not self.best_effort

    @property
    def lost_here(self) -> bool:
        """The kernel that this section worked in is gone: nothing of it is touched any more."""
        return self.lost is not None and self.section is not _RECOVER

    @property
    def in_flight(self) -> bool:
        return bool(self.resources.holders or self.looking)

    @property
    def stopped(self) -> bool:
        """No more commands until somebody resumes."""
        return self.outcome is not None or self.interrupted

    def due(self) -> float | None:
        """When something that waits is to be done, unix seconds."""
        if not (self.repairs or self.retries) or self.lost_here:
            return None
        heaps = [self.repairs] if self.turning_back else [self.repairs, self.retries]
        return min((heap[0][0] for heap in heaps if heap), default=None)

    def deadline(self) -> float | None:
        """When the transaction must be committed, unix seconds; None: no longer limited."""
        if self.section is not _FORWARD or self.committed or self.reverting:
            return None
        if self.failure or self.requested:
            return None
        return self.limited_from + self.graph.deadline

    # -- what fold and core share

    def try_again_at(self, queue: list[tuple[float, str]], time: float, s: StepState) -> None:
        """Put a step into `retries` or `repairs`."""
        s.waits = True
        heappush(queue, (time, s.step.id))

    def finish(self, step_id: str) -> None:
        if self.agenda is not None:
            self.agenda.finish(step_id)

    def put_back(self, step_id: str) -> None:
        if self.agenda is not None:
            self.agenda.put_back(step_id)

    def release(self, step_id: str) -> None:
        names = self.resources.release(step_id)
        if self.agenda is not None:
            self.agenda.freed(names)
