"""What is in doubt after another process took over (rules 3, 4 and 6).

First the pivot, for it says in which kernel we are; then every step whose effect may have
gone, or come, while nobody looked.
"""

from __future__ import annotations

from heapq import heappush

from orchestrator.engine.state import Status, StepState, TransactionState
from orchestrator.model.steps import Section

_UNANSWERED = frozenset({Status.INTENDED, Status.FAILED, Status.REVERTING, Status.REVERT_FAILED})


def forget(state: TransactionState) -> None:
    """Drop what was to be looked at or tried again: the section or the direction changes."""
    state.agenda = None
    state.resources.clear()
    for queue in (state.looking, state.to_inspect, state.retries, state.repairs):
        queue.clear()
    for s in state.steps.values():
        s.doubt = False
    state.doubts = 0


def raise_all(state: TransactionState, boot_id: str, *, crashed: bool) -> None:
    """Put in doubt what the process before us left.

    Args:
        boot_id: of the present boot.
        crashed: it did not stop in order, so what it was at may be what killed it.
    """
    forget(state)
    if crashed:
        for s in state.of_section():
            s.crashes += s.status in {Status.INTENDED, Status.REVERTING}
    if state.lost is not None and state.section is not Section.RECOVER:
        return
    pivot = _doubtful_pivot(state, boot_id)
    if pivot is not None:
        _doubt(state, pivot)
    else:
        _raise_steps(state, 0.0)


def after_pivot(state: TransactionState, now: float) -> None:
    """The pivot is known: go on with the steps, unless its verdict made them meaningless."""
    if state.lost is None:
        _raise_steps(state, now)


def reopen(state: TransactionState) -> None:
    """An operator lets a transaction try on that had stopped for good or for a decision:
    what was given up may be tried again."""
    state.unknown = state.failure = state.lost = None
    if state.section is Section.RETURN:
        state.reverting = False
    for s in state.of_section():
        s.tries = s.reverts = s.crashes = 0
        if s.status is Status.STUCK:
            s.status = Status.REVERT_FAILED
            s.revert_error = None
        elif s.status is Status.LOST:
            s.status = Status.INTENDED
        elif s.status is Status.GIVEN_UP or (s.status is Status.REVERTED and not state.reverting):
            s.status, s.error = Status.PENDING, None


def _doubtful_pivot(state: TransactionState, boot_id: str) -> StepState | None:
    """The pivot whose verdict says where we are, if that is in question."""
    pivots = [s for s in state.of_section() if s.is_pivot]
    for s in pivots:
        if s.status in _UNANSWERED:
            return s
    if state.crossed is None or state.section is Section.RECOVER:
        return None
    if state.section is Section.RETURN and any(s.status is Status.PERFORMED for s in pivots):
        return None
    if state.committed and (state.section is Section.FORWARD or boot_id == state.section_boot_id):
        # The new kernel is the default by now: however it was booted, we are there.
        return None
    return state.steps[state.crossed]


def _raise_steps(state: TransactionState, now: float) -> None:
    for s in state.of_section():
        performed = s.status is Status.PERFORMED and not (s.behind or s.is_pivot or s.is_commit)
        if performed or s.status in _UNANSWERED:
            _doubt(state, s)
        elif s.status is Status.PARTIAL:
            heappush(state.repairs, (now, s.step.id))


def _doubt(state: TransactionState, s: StepState) -> None:
    s.doubt = True
    state.doubts += 1
    state.to_inspect[s.step.id] = None
