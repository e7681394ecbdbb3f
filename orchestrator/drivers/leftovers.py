"""What transactions that are over have left in the state directory: of which may something go?

Only what the journal knows to have ended well is touched. One that is unfinished, unknown or not
wholly rolled back may go on, and what the journal does not know may be all that is left of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from orchestrator.model.outcomes import Outcome

KEPT = 20
"""Transactions, besides those that may still be rolled back, of which records stay."""

Over = Sequence[tuple[str, Outcome]]
"""Id and outcome of every transaction that has ended, oldest first."""


def ended_well(over: Over) -> list[str]:
    """Those that nobody goes on with but by `mkupgrade rollback`."""
    return [t for t, outcome in over if outcome in {Outcome.COMMITTED, Outcome.ROLLED_BACK}]


def whole_ones(over: Over, needed: Callable[[str], bool]) -> set[str]:
    """Of which everything may go: neither among the newest nor the last that was committed.

    Args:
        needed: may this one still be rolled back, or is there something of it to give back?
    """
    well = ended_well(over)
    committed = [t for t, outcome in over if outcome is Outcome.COMMITTED]
    stay = {*well[-KEPT:], *committed[-1:]}
    return {t for t in well if t not in stay and not needed(t)}
