"""What is to be done next. Pure: a state and a time in, commands out.

The rules of docs/transactions.md, in the order of this file. Their numbers with a point (4.2) are
those of its paragraphs; the fold (`fold.py`, `doubts.py`) and the runner refer to them as well.

1. The log is the transaction. Commands come from the state alone, and the state from durable
   events: `decide` is asked after every event, in a live run and after a crash alike.
2. The intention comes before the effect. Start and Revert become an event before they become an
   effect (the runner sees to it). What may run runs; a pivot, and the commit, run alone.
3. What was not answered is looked at. A partial effect is taken back. Unknown stops everything.
4. Another process looks first. While anything that it left is in doubt, nothing new is started.
5. Failure before the pivot: what was performed is reverted. Last first.
6. A pivot is recognised after the restart. A lost one leads to section `recover`.
7. Failure behind the pivot: the way back. Section `return`, or the operator decides; then
   `recover`. What fails on that way makes the rollback incomplete.
8. What is committed stays. Behind the commit, and in `recover`, a failure keeps back only what
   depends on it.
9. Requests and time. They come in as events, from the runner.
"""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heappop, heappush

from orchestrator.engine import events
from orchestrator.engine.agenda import Agenda, Fitness
from orchestrator.engine.state import (
    PARTIAL,
    PENDING,
    PERFORMED,
    STUCK,
    StepState,
    TransactionState,
)
from orchestrator.model.outcomes import Outcome
from orchestrator.model.steps import Section, Step


@dataclass(frozen=True, slots=True)
class Start:
    step: Step
    attempt: int


@dataclass(frozen=True, slots=True)
class Revert:
    step: Step
    attempt: int


@dataclass(frozen=True, slots=True)
class Inspect:
    step: Step


@dataclass(frozen=True, slots=True)
class Note:
    """Write this event, then ask again."""

    event: events.SectionEntered | events.TurnedBack | events.Interrupted | events.Ended


Command = Start | Revert | Inspect | Note


def decide(state: TransactionState, now: float) -> list[Command]:
    """The commands that can be carried out at once, in parallel; each is given once.

    An empty list: wait for an answer, or until `state.due()`, or it is over
    (`state.stopped`).
    """
    if state.stopped:
        return []
    if state.unknown is None:
        commands = _inspections(state) if state.to_inspect else []
        if not (state.doubts or state.lost_here):
            if state.repairs:
                commands += _repairs(state, now)
            commands += _reverts(state) if state.reverting else _starts(state, now)
        if commands or state.due() is not None:
            return commands
    if state.in_flight:
        return []
    return [Note(_turn(state))]


# -- rules 2 to 5: steps


def _inspections(state: TransactionState) -> list[Command]:
    ids = list(state.to_inspect)
    state.looking.update(ids)
    state.to_inspect.clear()
    return [Inspect(state.steps[i].step) for i in ids]


def _repairs(state: TransactionState, now: float) -> list[Command]:
    """Reverts of partial effects while the section goes on, and second tries of reverts
    (3.5 and 3.6)."""
    commands: list[Command] = []
    kept: list[tuple[float, str]] = []
    while state.repairs and state.repairs[0][0] <= now:
        entry = heappop(state.repairs)
        s = state.steps[entry[1]]
        s.waits = False
        if s.status is not PARTIAL or s.step.id in state.resources.holders:
            continue
        if state.reverting:
            state.put_back(s.step.id)
        elif state.resources.full or state.resources.lacking(s.step):
            kept.append(entry)
        else:
            state.resources.take(s.step)
            commands.append(Revert(s.step, s.reverts + 1))
    for entry in kept:
        heappush(state.repairs, entry)
    return commands


def _starts(state: TransactionState, now: float) -> list[Command]:
    if state.turning_back:
        return []
    while state.retries and state.retries[0][0] <= now:
        step_id = heappop(state.retries)[1]
        state.steps[step_id].waits = False
        state.put_back(step_id)
    if state.agenda is None:
        state.agenda = _agenda_of_starts(state)
    idle = not (state.in_flight or state.to_inspect or state.retries or state.repairs)
    taken = state.agenda.take(state.resources, idle=idle)
    return [Start(step, state.steps[step.id].attempt + 1) for step in taken]


def _reverts(state: TransactionState) -> list[Command]:
    if state.agenda is None:
        state.agenda = _agenda_of_reverts(state)
    taken = state.agenda.take(state.resources, idle=False)
    return [Revert(step, state.steps[step.id].reverts + 1) for step in taken]


def _agenda_of_starts(state: TransactionState) -> Agenda:
    def fitness(step: Step) -> Fitness:
        s = state.steps[step.id]
        if s.status is PERFORMED:
            # Skipped, not left out: what comes behind one waits for those before it, too, if
            # their effects have lapsed.
            return "skip"
        if s.status is not PENDING or s.waits:
            return "wait"
        return "alone" if s.is_pivot or s.is_commit else "start"

    steps = (s.step for s in state.of_section())
    return Agenda(steps, state.before, state.after, fitness)


def _agenda_of_reverts(state: TransactionState) -> Agenda:
    steps = (s.step for s in reversed(state.of_section()))
    return Agenda(steps, state.after, state.before, lambda step: _of_revert(state.steps[step.id]))


def _of_revert(s: StepState) -> Fitness:
    if not s.has_effect or s.is_pivot or s.behind:
        return "skip"
    return "wait" if s.waits else "start"


# -- rules 5 to 8, by 1.6: the section is over, one way or another


def _turn(
    state: TransactionState,
) -> events.SectionEntered | events.TurnedBack | events.Interrupted | events.Ended:
    """Nothing is in flight and nothing can be started: where to from here?"""
    if state.unknown is not None:
        return events.Ended(outcome=Outcome.UNKNOWN, reason=state.unknown)
    if state.reverting:
        return _reverting_over(state)
    match state.section:
        case Section.FORWARD:
            return _forward_over(state)
        case Section.RETURN:
            return _return_over(state)
        case Section.RECOVER:
            return _recover_over(state)


def _forward_over(
    state: TransactionState,
) -> events.SectionEntered | events.TurnedBack | events.Interrupted | events.Ended:
    why = state.requested or state.failure or ""
    if state.lost is not None:
        return events.SectionEntered(section=Section.RECOVER, reason=why)
    if not state.turning_back:
        return _committed(state)
    if state.crossed is None and not state.committed:
        return events.TurnedBack(section=Section.FORWARD, reason=why)
    if state.requested is None and not state.graph.automatic_rollback:
        return events.Interrupted(reason=why, waiting=True)
    return events.SectionEntered(section=Section.RETURN, reason=why)


def _committed(state: TransactionState) -> events.Ended:
    left = [s.step.id for s in state.of_section() if s.status is not PERFORMED]
    reason = f"committed; not done behind it: {', '.join(left)}" if left else "committed"
    return events.Ended(outcome=Outcome.COMMITTED, reason=reason)


def _return_over(
    state: TransactionState,
) -> events.SectionEntered | events.TurnedBack | events.Ended:
    if not state.turning_back:
        if state.of_section():
            return events.SectionEntered(section=Section.RECOVER, reason=state.cause)
        return _incomplete(state, "the plan holds no way back from here")
    if state.lost is not None and state.lost == state.crossed:
        return events.SectionEntered(section=Section.RECOVER, reason=state.failure or "")
    if state.lost is not None or any(s.behind for s in state.of_section()):
        return _incomplete(state, state.failure or "")
    return events.TurnedBack(section=Section.RETURN, reason=state.failure or "")


def _recover_over(state: TransactionState) -> events.Ended:
    left = [s.step.id for s in state.of_section() if s.status is not PERFORMED]
    if left:
        return _incomplete(state, f"not recovered: {', '.join(left)}")
    return events.Ended(outcome=Outcome.ROLLED_BACK, reason=state.cause)


def _reverting_over(state: TransactionState) -> events.Ended:
    stuck = [s.step.id for s in state.of_section() if s.status is STUCK]
    if stuck:
        return _incomplete(state, f"could not be reverted: {', '.join(stuck)}")
    if state.section is Section.RETURN:
        return _incomplete(state, f"the way back failed: {state.failure}")
    return events.Ended(outcome=Outcome.ROLLED_BACK, reason=state.cause)


def _incomplete(state: TransactionState, why: str) -> events.Ended:
    reason = f"{state.cause}; {why}" if state.cause and state.cause != why else why
    return events.Ended(outcome=Outcome.ROLLBACK_INCOMPLETE, reason=reason)
