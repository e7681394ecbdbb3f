"""Carries out what `core.decide` says: writes it down first, then has it done.

One turn: take the answers that are there, fold them, decide, fold that too, commit all of
it at once, then start what was intended. So the answer of one step and the intention of the
next share a commit, and no effect is ever ahead of the journal.

Turns are taken one at a time, by whoever has something new: the thread of the pool whose call
is over, or the thread that called `run`, on time and on requests from outside.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty
from threading import Lock
from typing import Any

from orchestrator.engine import events, interrupts
from orchestrator.engine.core import Command, Inspect, Note, Revert, Start, decide
from orchestrator.engine.fold import apply
from orchestrator.engine.identity import Clock, IdentityProvider
from orchestrator.engine.interrupts import Interrupts
from orchestrator.engine.journal import Journal
from orchestrator.engine.pool import ThreadPool
from orchestrator.engine.report import Story, TransactionReport, report_of_state
from orchestrator.engine.state import TransactionState
from orchestrator.engine.workers import (
    Answer,
    Flight,
    FlightControl,
    Pool,
    Progress,
    call,
    describe,
)
from orchestrator.model.errors import DeadlineError, JournalError
from orchestrator.model.quantities import format_duration
from orchestrator.model.seams import Driver, Reporter, StepContext
from orchestrator.model.steps import Inspection, Section, Step

POLL = 0.5
"""Seconds between looks at the abort file and at deadlines."""


@dataclass(frozen=True)
class Surroundings:
    """What a runner needs beside the transaction; tests put their own in."""

    driver: Driver
    journal: Journal
    reporter: Reporter
    identity: IdentityProvider
    clock: Clock
    interrupts: Interrupts
    pool: Pool
    grace: float
    """Seconds that a call may go on after its deadline before it is left alone."""


class Results(Mapping[str, dict[str, Any]]):
    """The results so far, safe to read while they grow."""

    def __init__(self, results: dict[str, dict[str, Any]]) -> None:
        self._results = results

    def __getitem__(self, step_id: str) -> dict[str, Any]:
        return self._results[step_id]

    def __len__(self) -> int:
        return len(self._results)

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._results))


class Runner:
    """Runs one transaction until it ends or stands still."""

    def __init__(
        self,
        transaction: str,
        plan_digest: str,
        state: TransactionState,
        around: Surroundings,
        story: Story,
    ) -> None:
        self.state = state
        self._story = story
        self._transaction, self._plan_digest = transaction, plan_digest
        self._around = around
        self._mail = around.pool.mailbox()
        self._flights: dict[Flight, None] = {}
        self._left_alone: set[Flight] = set()
        self._next_poll = 0.0
        self._heard = 0
        self._wish: tuple[str, events.RequestedBy] | None = None
        self._results = Results(state.results)
        self._baton = Lock()
        """Held during a turn, by the thread that takes it."""
        self._trouble: BaseException | None = None
        self._patience = POLL
        """Seconds until something must be looked at even without mail."""

    @property
    def abandoned(self) -> bool:
        """Calls are still running that nobody waits for any more."""
        return bool(self._flights or self._left_alone)

    def run(self) -> None:
        """Returns when the transaction has ended or was interrupted (`state.stopped`).

        Raises:
            JournalError: the journal can no longer be written; calls in flight were given
                until their deadlines to end.
        """
        around, self._heard = self._around, 0
        around.interrupts.listen(lambda: self._mail.put(None))
        if isinstance(around.pool, ThreadPool):
            around.pool.attend(self._turn_of_worker)
        try:
            self._turn(None)
            while not self._over:
                self._turn(self._next_mail())
            if self._trouble is not None:
                raise self._trouble
        except JournalError:
            self._wind_down()
            raise
        finally:
            around.interrupts.listen(lambda: None)
            if isinstance(around.pool, ThreadPool):
                around.pool.attend(None)

    def report(self) -> TransactionReport:
        """What was done so far, by this process and by those before it."""
        return report_of_state(self._transaction, self._plan_digest, self.state, self._story)

    def note(self, event: events.Event) -> None:
        """Write one event at once."""
        self._stage(event)
        self._commit()

    # -- turns

    @property
    def _over(self) -> bool:
        return self.state.stopped or self._trouble is not None

    def _next_mail(self) -> Answer | Progress | None:
        try:
            return self._mail.get(timeout=self._patience)
        except Empty:
            return None

    def _turn(self, first: Answer | Progress | None) -> None:
        """Take `first` and all other mail into account, and do what follows."""
        with self._baton:
            if self._over:
                return
            try:
                self._collect(first)
                commands = self._listen_and_decide()
                self._commit()
                for command in commands:
                    self._dispatch(command)
                self._patience = self._time_until_due()
            except BaseException as trouble:
                self._trouble = trouble
                raise

    def _turn_of_worker(self) -> None:
        """After a call, in its thread. What concerns the waiting thread, wakes that one."""
        with suppress(BaseException):  # kept in `_trouble`: `run` raises it
            self._turn(None)
        if self._over or self._patience < POLL:
            self._mail.put(None)

    # -- deciding and writing

    def _listen_and_decide(self) -> list[Command]:
        self._listen()
        commands: list[Command] = []
        while True:
            decided = decide(self.state, self._around.clock())
            for command in decided:
                self._write_down(command)
            if not (decided and isinstance(decided[0], Note)):  # a note comes alone
                commands += decided
                break
        if self._flights and (self.state.turning_back or self.state.unknown is not None):
            for flight in self._flights:
                flight.stopped = flight.stopped or self._should_stop(flight)
        return commands

    def _write_down(self, command: Command) -> None:
        if isinstance(command, Start):
            self._stage(events.StepIntended(step=command.step.id, attempt=command.attempt))
        elif isinstance(command, Revert):
            self._stage(events.RevertIntended(step=command.step.id, attempt=command.attempt))
        elif isinstance(command, Note):
            self._stage(command.event)

    def _stage(self, event: events.Event) -> None:
        around = self._around
        identity = around.identity()
        stamp = events.Stamp(
            time=around.clock(),
            boot_id=identity.boot_id,
            release=identity.release,
            pid=identity.pid,
        )
        envelope = around.journal.stage(self._transaction, event, stamp)
        self._story.see(self.state, envelope)
        apply(self.state, envelope)

    def _commit(self) -> None:
        tell = self._around.reporter.event
        for envelope in self._around.journal.commit():
            try:  # noqa: SIM105 - a context for each event costs more than the telling
                tell(envelope)
            except Exception:  # noqa: S110
                pass

    # -- calling the driver

    def _dispatch(self, command: Command) -> None:
        if isinstance(command, Start):
            self._call("perform", command.step, command.attempt)
        elif isinstance(command, Revert):
            self._call("revert", command.step, command.attempt)
        elif isinstance(command, Inspect):
            step = command.step
            self._call("inspect", step, max(1, self.state.steps[step.id].attempt))

    def _call(self, verb: str, step: Step, attempt: int) -> None:
        now = time.monotonic()
        limit = step.deadline if step.retry.deadline is None else step.retry.deadline
        flight = Flight(step, verb, attempt, started=now, deadline=now + limit)
        self._flights[flight] = None
        around = self._around
        context = StepContext(
            transaction=self._transaction,
            plan_digest=self._plan_digest,
            state_dir=around.journal.state_dir,
            section=step.section,
            attempt=attempt,
            results=self._results,
            control=FlightControl(flight, self._mail),
            intended_boot_id=self.state.steps[step.id].intended_boot_id,
        )
        around.pool.submit(lambda: call(around.driver, flight, context, self._mail))

    def _should_stop(self, flight: Flight) -> bool:
        """Asked while we turn back, or do not know: work that leads away from where we go now
        may end early; the way back may not."""
        return flight.verb == "perform" and not self.state.reverting

    # -- hearing

    def _collect(self, first: Answer | Progress | None) -> None:
        """Take what has arrived."""
        mail = first if first is not None else self._mail.take()
        while mail is not None:
            self._take(mail)
            mail = self._mail.take()

    def _time_until_due(self) -> float:
        due = self.state.due()
        if due is None:
            return POLL
        now = self._around.clock()
        return min(POLL, due - now) if due > now else POLL

    def _take(self, mail: Answer | Progress) -> None:
        if isinstance(mail, Progress):
            with suppress(Exception):
                self._around.reporter.progress(mail.flight.step, mail.text, mail.fraction)
        elif mail.flight in self._left_alone:
            self._left_alone.remove(mail.flight)
        elif mail.flight in self._flights:
            del self._flights[mail.flight]
            if mail.crash is not None:
                raise mail.crash
            self._stage(_event_of(mail))

    def _listen(self) -> None:
        """Requests from outside, and time."""
        if self._around.interrupts.count != self._heard:
            self._heard = self._around.interrupts.count
            self._interrupt()
        if time.monotonic() >= self._next_poll:
            self._next_poll = time.monotonic() + POLL
            self._poll_abort()
            self._check_deadlines()
        if self._wish is not None:
            self._roll_back_on_request()

    def _interrupt(self) -> None:
        if self._heard < 2:
            self._wish = ("interrupted by the operator", "interrupt")
            return
        for flight in self._flights:
            flight.stopped = True
        running = ", ".join(f.step.id for f in self._flights) or "nothing"
        self._stage(events.Interrupted(reason=f"stopped on request; was running: {running}"))

    def _poll_abort(self) -> None:
        state_dir = self._around.journal.state_dir
        reason = interrupts.read_abort(state_dir, self._transaction)
        if reason is not None:
            self._wish = (reason, "abort")

    def _roll_back_on_request(self) -> None:
        """Not while a pivot is in flight: it cannot be called back, and a signal then comes
        from the shutdown that it started. What is committed, or on its way back, goes on."""
        state = self.state
        if self._wish is None or state.stopped or self._pivot_in_flight:
            return
        (reason, by), self._wish = self._wish, None
        if state.section is Section.FORWARD and not (state.committed or state.reverting):
            self.note(events.RollbackRequested(reason=reason, by=by))
        if by == "abort":
            interrupts.clear_abort(self._around.journal.state_dir)

    @property
    def _pivot_in_flight(self) -> bool:
        return any(self.state.steps[f.step.id].is_pivot for f in self._flights)

    def _check_deadlines(self) -> None:
        deadline = self.state.deadline()
        if deadline is not None and self._around.clock() > deadline and self._wish is None:
            limit = format_duration(self.state.graph.deadline)
            self._wish = (f"not committed within {limit}", "deadline")
        now = time.monotonic()
        for flight in list(self._flights):
            if now > flight.deadline + self._around.grace:
                del self._flights[flight]
                self._left_alone.add(flight)
                self._leave_alone(flight)

    def _leave_alone(self, flight: Flight) -> None:
        """The call does not come back: nobody can say what it has done or will yet do."""
        limit = format_duration(round(flight.deadline - flight.started, 3))
        what = f"{flight.verb} did not end within {limit} and {self._around.grace:g}s more"
        if self.state.steps[flight.step.id].is_pivot and flight.verb == "perform":
            # It may still happen. Left unanswered, it is recognised after a restart.
            self._stage(events.Interrupted(reason=f"{flight.step.id}: {what}"))
            return
        seconds = time.monotonic() - flight.started
        if flight.verb != "inspect":
            error = describe(DeadlineError(what, where=flight.step.id))
            self._stage(_event_of(Answer(flight, seconds, error=error)))
        self._stage(
            events.StepInspected(
                step=flight.step.id,
                verdict=Inspection.UNKNOWN,
                reason=f"{what}, and may still be at work",
            )
        )

    def _wind_down(self) -> None:
        """The journal is gone: let what runs end, so that it is not cut off in the middle."""
        for flight in self._flights:
            flight.stopped = True
        last = max((f.deadline for f in self._flights), default=0.0)
        while self._flights and time.monotonic() < last and self._around.interrupts.count < 2:
            with suppress(Empty):
                mail = self._mail.get(timeout=POLL) or self._mail.take()
                while mail is not None:
                    if isinstance(mail, Answer):
                        self._flights.pop(mail.flight, None)
                    mail = self._mail.take()


def _event_of(answer: Answer) -> events.Event:
    flight, error, found = answer.flight, answer.error, answer.inspected
    step, attempt, seconds = flight.step.id, flight.attempt, round(answer.seconds, 6)
    if found is not None:
        return events.StepInspected(
            step=step, verdict=found.verdict, reason=found.reason, result=found.result
        )
    if error is not None:
        failed = events.StepFailed if flight.verb == "perform" else events.RevertFailed
        return failed(step=step, attempt=attempt, error=error, seconds=seconds)
    done = events.StepPerformed if flight.verb == "perform" else events.StepReverted
    return done(step=step, attempt=attempt, result=answer.result, seconds=seconds)
