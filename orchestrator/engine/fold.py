"""State = fold(events). Pure: no clock, no file; the same for a live run and for recovery.

Each event type has one function here. The rules' numbers are those of docs/transactions.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from orchestrator.engine import doubts, events
from orchestrator.engine.agenda import Resources
from orchestrator.engine.order import order_of
from orchestrator.engine.retry import for_revert, pause_before_next
from orchestrator.engine.state import (
    FAILED,
    GIVEN_UP,
    INTENDED,
    LOST,
    PARTIAL,
    PENDING,
    PERFORMED,
    REVERT_FAILED,
    REVERTED,
    REVERTING,
    STUCK,
    StepState,
    TransactionState,
)
from orchestrator.model.errors import JournalError
from orchestrator.model.steps import Inspection, Reversibility, Section, StepGraph

# Bound once, as those of `Status` are.
_FORWARD = Section.FORWARD
_PIVOT, _COMMIT = Reversibility.PIVOT, Reversibility.COMMIT
_ABSENT, _PRESENT, _PARTLY = Inspection.ABSENT, Inspection.PRESENT, Inspection.PARTIAL
_IS_LOST, _UNKNOWN = Inspection.LOST, Inspection.UNKNOWN
MOST_CRASHES = 3
"""A step under which the process died this often is not tried again by itself: it may be what
kills the machine, and resuming at every boot would go on for ever."""


def start(graph: StepGraph, *, parallel: int = 16) -> TransactionState:
    """The state before the first event.

    Args:
        graph: the plan; its sections must be acyclic and its edges stay within them.
        parallel: how many steps may be in flight at once, whatever their resources.

    Raises:
        PlanError: the graph cannot be executed.
    """
    order = order_of(graph)
    steps = {
        s.id: StepState(s, s.reversibility is _PIVOT, s.reversibility is _COMMIT)
        for s in graph.steps
    }
    resources = Resources(graph.limits, parallel)
    return TransactionState(graph, steps, order.before, order.after, resources)


def fold(state: TransactionState, log: Iterable[events.Envelope]) -> TransactionState:
    for envelope in log:
        apply(state, envelope)
    return state


def apply(state: TransactionState, envelope: events.Envelope) -> None:
    """Take one event into account."""
    stamp, event = envelope.stamp, envelope.event
    if stamp.boot_id != state.seen_boot or state.stopped_at is not None:
        state.limited_from += stamp.time - state.seen_at
    state.seen_boot, state.seen_at = stamp.boot_id, stamp.time
    _APPLY[event.type](state, event, envelope)


# -- the transaction


def _began(state: TransactionState, event: events.Began, at: events.Envelope) -> None:
    state.limited_from = at.time
    state.section_boot_id = at.stamp.boot_id


def _section_entered(
    state: TransactionState, event: events.SectionEntered, at: events.Envelope
) -> None:
    state.section, state.section_boot_id = event.section, at.stamp.boot_id
    state.cause = state.cause or event.reason
    state.reverting, state.failure, state.requested = False, None, None
    doubts.forget(state)


def _turned_back(state: TransactionState, event: events.TurnedBack, at: events.Envelope) -> None:
    state.reverting = True
    state.cause = state.cause or event.reason
    doubts.forget(state)
    for s in state.of_section():
        s.crashes = 0


def _rollback_requested(
    state: TransactionState, event: events.RollbackRequested, at: events.Envelope
) -> None:
    if state.section is not Section.FORWARD or state.reverting:
        return
    if event.by == "deadline":
        state.failure = state.failure or event.reason
        return
    state.requested = state.requested or event.reason
    if state.committed:
        state.outcome, state.failure, state.stopped_at = None, None, None
        doubts.forget(state)


def _interrupted(state: TransactionState, event: events.Interrupted, at: events.Envelope) -> None:
    state.interrupted, state.waiting, state.reason = True, event.waiting, event.reason
    state.stopped_at = at.time


def _resumed(state: TransactionState, event: events.Resumed, at: events.Envelope) -> None:
    crashed = state.stopped_at is None
    if state.outcome is not None or state.waiting:
        state.limited_from = at.time
        doubts.reopen(state)
    state.outcome, state.stopped_at, state.reason = None, None, ""
    state.interrupted = state.waiting = False
    doubts.raise_all(state, at.stamp.boot_id, crashed=crashed)


def _ended(state: TransactionState, event: events.Ended, at: events.Envelope) -> None:
    state.outcome, state.reason, state.stopped_at = event.outcome, event.reason, at.time


# -- performing


def _intended(state: TransactionState, event: events.StepIntended, at: events.Envelope) -> None:
    s = _step(state, event.step)
    s.status, s.attempt, s.error = INTENDED, event.attempt, None
    s.tries += 1
    s.intended_boot_id = at.stamp.boot_id


def _performed(state: TransactionState, event: events.StepPerformed, at: events.Envelope) -> None:
    s = _step(state, event.step)
    state.release(event.step)
    _now_performed(state, s, event.result)


def _now_performed(state: TransactionState, s: StepState, result: dict[str, Any]) -> None:
    s.status, s.crashes, s.reverts = PERFORMED, 0, 0
    state.results[s.step.id] = result
    state.finish(s.step.id)
    if s.is_pivot and s.step.section is _FORWARD:
        state.crossed = s.step.id
    if s.is_commit:
        state.committed = True
    if s.is_pivot or s.is_commit:
        for other in state.of_section():
            other.behind = other.behind or other.status is PERFORMED


def _failed(state: TransactionState, event: events.StepFailed, at: events.Envelope) -> None:
    s = _step(state, event.step)
    state.release(event.step)
    s.status, s.error = FAILED, event.error
    state.to_inspect[event.step] = None


# -- reverting


def _revert_intended(
    state: TransactionState, event: events.RevertIntended, at: events.Envelope
) -> None:
    s = _step(state, event.step)
    s.status, s.revert_error = REVERTING, None
    s.reverts += 1


def _reverted(state: TransactionState, event: events.StepReverted, at: events.Envelope) -> None:
    s = _step(state, event.step)
    state.release(event.step)
    _now_absent(state, s, at)


def _revert_failed(
    state: TransactionState, event: events.RevertFailed, at: events.Envelope
) -> None:
    s = _step(state, event.step)
    state.release(event.step)
    s.status, s.revert_error = REVERT_FAILED, event.error
    state.to_inspect[event.step] = None


# -- inspecting (rules 3.2 to 3.7, 4.5 and 6.1)


def _inspected(state: TransactionState, event: events.StepInspected, at: events.Envelope) -> None:
    s, verdict = _step(state, event.step), event.verdict
    state.looking.discard(event.step)
    state.to_inspect.pop(event.step, None)
    if verdict is _UNKNOWN and doubts.ask_the_other_pivot(state, s):
        return
    if verdict is _UNKNOWN or _makes_no_sense(state, s, verdict):
        # The doubt stays: resumed by an operator who has looked, we look again.
        state.to_inspect[event.step] = None
        state.unknown = f"{s.step.id}: {event.reason}"
        return
    doubted, s.doubt = s.doubt, False
    state.doubts -= doubted
    if verdict is _IS_LOST:
        _now_lost(state, s)
    elif verdict is _ABSENT:
        _now_absent(state, s, at, lapsed=s.status is PERFORMED, at_once=doubted)
    elif verdict is _PRESENT and s.status is PERFORMED:
        state.results[s.step.id] = event.result or state.results[s.step.id]
    elif verdict is _PRESENT and not state.reverting:
        _now_performed(state, s, event.result)
    else:
        _still_there(state, s, at, at_once=doubted)
    if doubted and (s.is_pivot or s.is_commit):
        doubts.after_landmark(state, s, at)


def _makes_no_sense(state: TransactionState, s: StepState, verdict: Inspection) -> bool:
    """Answers that a driver must not give, or after which nothing can be done from here; taken as
    unknown rather than interpreted."""
    if s.is_pivot and state.section is Section.RECOVER:
        return verdict is not _IS_LOST
    if s.is_pivot:
        gone = verdict is _ABSENT and s.status is PERFORMED
        return gone or verdict is _PARTLY
    return verdict is _IS_LOST


def _now_lost(state: TransactionState, s: StepState) -> None:
    s.status = LOST
    state.lost = s.step.id
    state.failure = state.failure or f"{s.step.id}: the host came back to the kernel before it"


def _now_absent(
    state: TransactionState,
    s: StepState,
    at: events.Envelope,
    *,
    lapsed: bool = False,
    at_once: bool = False,
) -> None:
    """The effect is not there: is the step to be performed again? `at_once`: without a pause."""
    state.results.pop(s.step.id, None)
    if state.reverting:
        s.status = REVERTED
        state.finish(s.step.id)
        return
    s.status = PENDING
    if lapsed:
        s.tries = s.reverts = 0
        state.put_back(s.step.id)
    elif s.crashes >= MOST_CRASHES:
        _give_up(state, s, f"the process died {s.crashes} times while working on it")
    elif s.error is None:
        state.put_back(s.step.id)
    else:
        _retry_or_give_up(state, s, s.error, at, at_once=at_once)


def _retry_or_give_up(
    state: TransactionState,
    s: StepState,
    error: dict[str, Any],
    at: events.Envelope,
    *,
    at_once: bool,
) -> None:
    seed = f"{at.transaction}/{s.step.id}/{s.attempt}"
    pause = pause_before_next(s.step.retry, s.tries, str(error.get("class")), seed=seed)
    if pause is None or state.turning_back:
        _give_up(state, s, str(error.get("what")))
    else:
        state.try_again_at(state.retries, at.time + (0.0 if at_once else pause), s)


def _still_there(
    state: TransactionState, s: StepState, at: events.Envelope, *, at_once: bool
) -> None:
    """An effect that must be taken back; not for the first time if a revert failed."""
    pause: float | None = 0.0
    if s.status is REVERT_FAILED and s.revert_error is not None:
        seed = f"{at.transaction}/{s.step.id}/revert/{s.reverts}"
        error_class = str(s.revert_error.get("class"))
        pause = pause_before_next(for_revert(s.step.retry), s.reverts, error_class, seed=seed)
    elif s.status is REVERTING and s.crashes >= MOST_CRASHES:
        pause = None
    elif s.status is PERFORMED:
        s.tries, s.reverts, s.error = 0, 0, None
    s.status = PARTIAL
    if pause is None:
        _stuck(state, s)
    else:
        state.try_again_at(state.repairs, at.time + (0.0 if at_once else pause), s)


def _stuck(state: TransactionState, s: StepState) -> None:
    s.status = STUCK
    why = (s.revert_error or {}).get("what", "the process died each time")
    if state.reverting:
        state.finish(s.step.id)
    elif not state.best_effort:
        state.failure = state.failure or f"{s.step.id}: could not be taken back: {why}"


def _give_up(state: TransactionState, s: StepState, why: str) -> None:
    s.status = GIVEN_UP
    if not state.best_effort:
        state.failure = state.failure or f"{s.step.id}: {why}"


def _step(state: TransactionState, step_id: str) -> StepState:
    try:
        return state.steps[step_id]
    except KeyError:
        raise JournalError(f'the journal names a step "{step_id}" that the plan lacks') from None


_APPLY: dict[str, Callable[..., None]] = {
    "began": _began,
    "section_entered": _section_entered,
    "intended": _intended,
    "performed": _performed,
    "failed": _failed,
    "inspected": _inspected,
    "turned_back": _turned_back,
    "revert_intended": _revert_intended,
    "reverted": _reverted,
    "revert_failed": _revert_failed,
    "rollback_requested": _rollback_requested,
    "interrupted": _interrupted,
    "resumed": _resumed,
    "ended": _ended,
}
