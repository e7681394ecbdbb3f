"""What is left of transactions that are over: kept for a while, then removed.

STATE_DIR/transactions/<id>     records, tools' logs; state, where a clean-up failed
STATE_DIR/handover/<id>         payloads, where a clean-up failed
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from orchestrator.drivers.leftovers import ended_well, whole_ones
from orchestrator.drivers.live_update.closing import COMMIT, STATE_TREES
from orchestrator.drivers.records import Records, drop_tree, transaction_dir
from orchestrator.model.errors import MkupgradeError
from orchestrator.model.outcomes import Outcome
from orchestrator.model.steps import Section


def prune(state_dir: Path, over: Sequence[tuple[str, Outcome]]) -> list[str]:
    """Remove what no transaction needs any more. Call it with the host lock held.

    Of the newest one nothing is removed; of the others that are kept, the state of workloads,
    which their clean-up would have removed.

    Args:
        over: id and outcome of every transaction that has ended, oldest first.

    Returns:
        The transactions of which something was removed. What cannot be removed stays, and is
        tried again the next time.
    """
    pruned = []
    for transaction, whole in _doomed(state_dir, over):
        found = [p for p in _trees(state_dir, transaction, whole=whole) if p.exists()]
        for tree in found:
            with suppress(OSError):
                drop_tree(tree)
        if any(not tree.exists() for tree in found):
            pruned.append(transaction)
    return pruned


def _doomed(state_dir: Path, over: Sequence[tuple[str, Outcome]]) -> list[tuple[str, bool]]:
    """The transactions of which something may go, and whether all of it may."""
    whole = whole_ones(over, lambda t: _old_kernel_kept(state_dir, t))
    return [(t, t in whole) for t in ended_well(over)[:-1]]


def _old_kernel_kept(state_dir: Path, transaction: str) -> bool:
    """May it still be rolled back? A record that cannot be read says nothing against it."""
    try:
        record = Records(state_dir, transaction, Section.FORWARD).read(COMMIT)
    except MkupgradeError:
        return True
    until = (record or {}).get("old_kernel_until", 0.0)
    return not isinstance(until, int | float) or until > time.time()


def _trees(state_dir: Path, transaction: str, *, whole: bool) -> list[Path]:
    records = transaction_dir(state_dir, transaction)
    payloads = state_dir / "handover" / transaction
    if whole:
        return [payloads, records]
    return [payloads, *(records / s.value / tree for s in Section for tree in STATE_TREES)]
