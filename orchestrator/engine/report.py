"""What a transaction did, from its events alone: for people, `--json` and the HTML page.

Works on a journal that is opened for reading only, while the transaction still runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from pydantic import Field

from orchestrator.engine import events
from orchestrator.engine.fold import apply, start
from orchestrator.engine.state import Status, TransactionState
from orchestrator.model.base import Plain, Record
from orchestrator.model.outcomes import ExitCode, Outcome
from orchestrator.model.steps import Inspection, Section, Step, StepGraph


@dataclass(slots=True, kw_only=True)
class Attempt(Plain):
    """One call of the driver: to perform, or to revert. Complete once the story is told."""

    number: int
    kind: str
    """"perform" or "revert"."""
    started: float
    """Unix seconds; `boot_id` and `release` say by which kernel's clock."""
    seconds: float | None = None
    """None: it never came back (still running, or a crash). Of a pivot that did not come
    back: until the landing was recognised."""
    answer: str = "none"
    """"done", "failed", or "none" so far; where only an inspection knew: its verdict."""
    error: dict[str, Any] | None = None
    reason: str | None = None
    """What the inspection saw, if one decided."""
    result: dict[str, Any] | None = None
    """Of a revert, what the driver says of it. That of a step that stays is the step's."""
    boot_id: str
    release: str

    @property
    def ended(self) -> float | None:
        return None if self.seconds is None else self.started + self.seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class StepReport(Plain):
    id: str
    title: str
    kind: str
    section: Section
    state: str
    """A `Status`."""
    blackout: bool
    estimate: float
    attempts: list[Attempt] = field(default_factory=list)
    lapses: int = 0
    """How often the effect was found gone after a restart and performed again."""
    error: dict[str, Any] | None = None
    result: dict[str, Any] | None = None

    @property
    def started(self) -> float | None:
        return self.attempts[0].started if self.attempts else None

    @property
    def ended(self) -> float | None:
        return self.attempts[-1].ended if self.attempts else None


class Boot(Record):
    """A kernel that worked on the transaction."""

    boot_id: str
    release: str
    first: float
    """Unix seconds of the first and the last event written under it."""
    last: float


class TransactionReport(Record):
    transaction: str
    name: str
    driver: str
    plan_digest: str
    intent_digest: str
    outcome: Outcome | None
    """None: not ended (running, crashed or interrupted)."""
    interrupted: bool
    waiting: bool
    """It waits for the operator: resume or rollback."""
    exit_code: ExitCode
    reason: str
    rollback_cause: str | None
    """Why it was or is being rolled back."""
    section: Section
    reverting: bool
    committed: bool
    started: float
    ended: float | None
    steps: list[StepReport]
    boots: list[Boot]
    blackout: float
    """Seconds in which steps marked `blackout` kept workloads from running: from the start of
    the first to the end of the last, once for the way there and once for the way back. Without
    the seconds in which the first said that they ran on."""
    next_command: str | None

    @property
    def seconds(self) -> float | None:
        return None if self.ended is None else self.ended - self.started

    def step(self, step_id: str) -> StepReport | None:
        return next((s for s in self.steps if s.id == step_id), None)


class Summary(Record):
    """A line of the history."""

    transaction: str
    name: str
    started: float
    ended: float | None
    outcome: Outcome | None
    reason: str
    intent_digest: str
    plan_digest: str


class Story:
    """Collects the attempts of each step while the events go by: in a live run as they are
    written, otherwise from the log."""

    def __init__(self) -> None:
        self.started = self.ended = 0.0
        """Times of the first and the last event."""
        self.attempts: dict[str, list[Attempt]] = {}
        self.lapses: dict[str, int] = {}
        self.boots: dict[str, tuple[str, float, float]] = {}
        """Boot id -> release, first and last time."""

    def see(self, state: TransactionState, envelope: events.Envelope) -> None:
        """Take an event into account that is not yet folded into the state."""
        stamp, event = envelope.stamp, envelope.event
        self.started, self.ended = self.started or stamp.time, stamp.time
        release, first, _ = self.boots.get(stamp.boot_id, (stamp.release, stamp.time, 0.0))
        self.boots[stamp.boot_id] = release, first, stamp.time
        tell = _TELL.get(event.type)
        if tell is not None:
            tell(self, state, event, stamp)

    def _begun(
        self,
        state: TransactionState,
        event: events.StepIntended | events.RevertIntended,
        stamp: events.Stamp,
    ) -> None:
        attempt = Attempt(
            number=event.attempt,
            kind="perform" if event.type == "intended" else "revert",
            started=stamp.time,
            boot_id=stamp.boot_id,
            release=stamp.release,
        )
        self.attempts.setdefault(event.step, []).append(attempt)

    def _done(
        self,
        state: TransactionState,
        event: events.StepPerformed | events.StepReverted,
        stamp: events.Stamp,
    ) -> None:
        attempts = self.attempts.get(event.step)
        if attempts:
            last = attempts[-1]
            last.answer, last.seconds = "done", event.seconds
            if event.type == "reverted":
                last.result = event.result or None

    def _failed(
        self,
        state: TransactionState,
        event: events.StepFailed | events.RevertFailed,
        stamp: events.Stamp,
    ) -> None:
        attempts = self.attempts.get(event.step)
        if attempts:
            last = attempts[-1]
            last.answer, last.seconds, last.error = "failed", event.seconds, event.error

    def _inspected(
        self, state: TransactionState, event: events.StepInspected, stamp: events.Stamp
    ) -> None:
        s, verdict = state.steps[event.step], event.verdict
        attempts = self.attempts.get(event.step)
        if s.status is Status.PERFORMED:
            if verdict in {Inspection.ABSENT, Inspection.PARTIAL}:
                self.lapses[event.step] = self.lapses.get(event.step, 0) + 1
        elif attempts:
            last = attempts[-1]
            last.reason = event.reason
            if last.answer == "none":
                last.answer = verdict.value
                if s.is_pivot:
                    last.seconds = stamp.time - last.started


_TELL: dict[str, Callable[..., None]] = {
    "intended": Story._begun,
    "revert_intended": Story._begun,
    "performed": Story._done,
    "reverted": Story._done,
    "failed": Story._failed,
    "revert_failed": Story._failed,
    "inspected": Story._inspected,
}


def report(
    transaction: str, graph: StepGraph, plan_digest: str, log: Iterable[events.Envelope]
) -> TransactionReport:
    """Fold the events of one transaction into a report.

    Args:
        log: its events in order, `Journal.log(transaction)`.
    """
    state, story = start(graph), Story()
    for envelope in log:
        story.see(state, envelope)
        apply(state, envelope)
    return report_of_state(transaction, plan_digest, state, story)


def report_of_state(
    transaction: str, plan_digest: str, state: TransactionState, story: Story
) -> TransactionReport:
    """The report of a transaction whose events are all folded and seen."""
    graph = state.graph
    steps = [_step_report(state, story, s.step) for s in state.steps.values()]
    return TransactionReport(
        transaction=transaction,
        name=graph.name,
        driver=graph.driver,
        plan_digest=plan_digest,
        intent_digest=graph.intent_digest,
        outcome=state.outcome,
        interrupted=state.interrupted,
        waiting=state.waiting,
        exit_code=state.outcome.exit_code if state.outcome else ExitCode.INTERRUPTED,
        reason=state.reason,
        rollback_cause=state.cause or state.requested or state.failure,
        section=state.section,
        reverting=state.reverting,
        committed=state.committed,
        started=story.started,
        ended=story.ended if state.outcome else None,
        steps=steps,
        boots=[Boot(boot_id=b, release=r, first=f, last=t) for b, (r, f, t) in story.boots.items()],
        blackout=_blackout(steps, state.lost is not None),
        next_command=_next_command(state, transaction),
    )


def _step_report(state: TransactionState, story: Story, step: Step) -> StepReport:
    s = state.steps[step.id]
    return StepReport(
        id=step.id,
        title=step.title,
        kind=step.kind,
        section=step.section,
        state=s.status.value,
        blackout=step.blackout,
        estimate=step.estimate,
        attempts=story.attempts.get(step.id, []),
        lapses=story.lapses.get(step.id, 0),
        error=s.revert_error or s.error,
        result=state.results.get(step.id),
    )


def _next_command(state: TransactionState, transaction: str) -> str | None:
    if state.waiting:
        return f"mkupgrade rollback {transaction}"
    if state.outcome is None or state.outcome in {Outcome.UNKNOWN, Outcome.ROLLBACK_INCOMPLETE}:
        return f"mkupgrade resume {transaction}"
    return None


class Window(Record):
    """A time in which something stood still. `until` None: it still does."""

    since: float
    until: float | None = None

    @property
    def seconds(self) -> float | None:
        return None if self.until is None else self.until - self.since


class Blackout(Record):
    """The windows of one workload."""

    windows: list[Window] = Field(default_factory=list)

    @property
    def seconds(self) -> float:
        """The sum of those that are over."""
        return sum(w.seconds or 0.0 for w in self.windows)


def blackout_of(
    steps: Iterable[StepReport], stops: Iterable[str], starts: Iterable[str]
) -> Blackout:
    """When something stood still, that certain steps stop and others start again.

    Args:
        stops: ids of steps that stop it when performed, and start it when reverted
            (checkpoints of one workload, in every section).
        starts: ids of steps that start it when performed (its restores). One that is among both
            does both, in each of its attempts.
    """
    stopping, starting = set(stops), set(starts)
    marks: list[tuple[float, bool]] = []
    for step in steps:
        if step.id not in stopping and step.id not in starting:
            continue
        for attempt in step.attempts:
            both = step.id in stopping and step.id in starting
            down = (step.id in stopping) is (attempt.kind == "perform")
            if down or both:
                marks.append((_stopped(step, attempt), True))
            if (both or not down) and attempt.ended is not None and attempt.answer == "done":
                marks.append((attempt.ended, False))
    windows: list[Window] = []
    for time, down in sorted(marks):
        if down and not (windows and windows[-1].until is None):
            windows.append(Window(since=time))
        elif not down and windows and windows[-1].until is None:
            windows[-1] = Window(since=windows[-1].since, until=time)
    return Blackout(windows=windows)


def _stopped(step: StepReport, attempt: Attempt) -> float:
    """When what a step stops stood still. A step may have worked before, and says how long
    (`ran_on_seconds` of its result); of one that has failed it is not known."""
    ran_on = (step.result or {}).get("ran_on_seconds") if attempt.answer == "done" else None
    if attempt.kind != "perform" or not isinstance(ran_on, int | float):
        return attempt.started
    return attempt.started + min(max(0.0, ran_on), attempt.seconds or 0.0)


def _blackout(steps: list[StepReport], lost: bool) -> float:
    """See `TransactionReport.blackout`. When the pivot was lost, both ways are one window."""
    total = 0.0
    ways = [(Section.FORWARD,), (Section.RETURN, Section.RECOVER)]
    if lost and not any(s.attempts for s in steps if s.section is Section.RETURN):
        ways = [(Section.FORWARD, Section.RECOVER)]
    for way in ways:
        attempts = [(s, a) for s in steps if s.blackout and s.section in way for a in s.attempts]
        if attempts:
            last = max(a.ended or a.started for _, a in attempts)
            total += last - min(_stopped(s, a) for s, a in attempts)
    return total
