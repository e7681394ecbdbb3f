"""What is in doubt after another process took over (rules 4.1 to 4.8 and 6.5).

First the landmarks, one by one, for they say in which kernel we are: the commit, if it is
unanswered, then the pivot. After them every step whose effect may have gone, or come, while
nobody looked.
"""

from __future__ import annotations

from orchestrator.engine.events import Envelope
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
from orchestrator.model.steps import Section

_UNANSWERED = frozenset({INTENDED, FAILED, REVERTING, REVERT_FAILED})


def forget(state: TransactionState) -> None:
    """Drop what was to be looked at or tried again: the section or the direction changes."""
    state.agenda = None
    state.resources.clear()
    for queue in (state.looking, state.to_inspect, state.retries, state.repairs):
        queue.clear()
    for s in state.steps.values():
        s.doubt = s.waits = False
    state.doubts = 0


def raise_all(state: TransactionState, boot_id: str, *, crashed: bool) -> None:
    """Put in doubt what the process before us left.

    Args:
        boot_id: of the present boot.
        crashed: it did not stop in order, so what it was at may be what killed it.
    """
    forget(state)
    state.unknown = None  # the process that did not know is gone; we look for ourselves
    if crashed:
        for s in state.of_section():
            s.crashes += s.status is INTENDED or s.status is REVERTING
    if state.lost is not None and state.section is not Section.RECOVER:
        return
    landmark = _doubtful_landmark(state, boot_id)
    if landmark is not None:
        _doubt(state, landmark)
    else:
        _raise_steps(state, 0.0)


def ask_the_other_pivot(state: TransactionState, s: StepState) -> bool:
    """A pivot back whose landing is not recognised: the host may be in the old kernel all the
    same, through a reset. The forward pivot knows that one: it is lost then."""
    asked_back = s.is_pivot and s.doubt and s.step.section is Section.RETURN
    if not asked_back or state.crossed is None:
        return False
    s.doubt = False
    state.doubts -= 1
    _doubt(state, state.steps[state.crossed])
    return True


def after_landmark(state: TransactionState, s: StepState, at: Envelope) -> None:
    """It is known: on to the next, or to the steps, unless its verdict made them
    meaningless."""
    if state.lost_here:
        return
    if s.is_commit:
        pivot = _doubtful_landmark(state, at.stamp.boot_id)
        if pivot is not None:
            _doubt(state, pivot)
            return
    for other in state.of_section():
        if other is not s and other.is_pivot and other.status in _UNANSWERED:
            state.unknown = f"{other.step.id}: neither there nor back: this kernel is not known"
            return
    _raise_steps(state, at.time, but=s)


def reopen(state: TransactionState) -> None:
    """An operator lets a transaction try on that had stopped for good or for a decision:
    what was given up may be tried again."""
    state.unknown = state.failure = state.lost = None
    if state.section is Section.RETURN:
        state.reverting = False
    for s in state.of_section():
        s.tries = s.reverts = s.crashes = 0
        if s.status is STUCK:
            s.status = REVERT_FAILED
            s.revert_error = None
        elif s.status is LOST:
            s.status = INTENDED
        elif s.status is GIVEN_UP or (s.status is REVERTED and not state.reverting):
            s.status, s.error = PENDING, None


def _doubtful_landmark(state: TransactionState, boot_id: str) -> StepState | None:
    """The commit or pivot whose verdict says where we are, if that is in question."""
    for s in state.of_section():
        # A commit goes first: once the new kernel is the default, a reset ends in it without
        # the mark by which the pivot would be recognised.
        if s.is_commit and s.status in _UNANSWERED:
            return s
    pivots = [s for s in state.of_section() if s.is_pivot]
    for s in pivots:
        if s.status in _UNANSWERED:
            return s
    returned = any(s.status is PERFORMED for s in pivots if s.step.section is Section.RETURN)
    restarted = boot_id != state.section_boot_id
    settled = state.section is Section.RECOVER or state.committed
    if state.crossed is None or returned or (settled and not restarted):
        return None
    if state.committed and state.section is Section.FORWARD:
        return None
    return state.steps[state.crossed]


def _raise_steps(state: TransactionState, now: float, *, but: StepState | None = None) -> None:
    for s in state.of_section():
        if s is but:
            continue
        performed = s.status is PERFORMED and not (s.behind or s.is_pivot or s.is_commit)
        if performed or s.status in _UNANSWERED:
            _doubt(state, s)
        elif s.status is PARTIAL and not state.reverting:
            state.try_again_at(state.repairs, now, s)


def _doubt(state: TransactionState, s: StepState) -> None:
    s.doubt = True
    state.doubts += 1
    state.to_inspect[s.step.id] = None
