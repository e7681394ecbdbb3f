"""What transactions that are over have left: records and logs of consoles in
STATE_DIR/transactions/<id> stay for the newest ones. An agent's key goes with its generation
(`agents`), copies of carried state with the transaction (`keeping`)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from orchestrator.drivers.leftovers import whole_ones
from orchestrator.drivers.multikernel import keeping
from orchestrator.drivers.records import drop_tree, transaction_dir
from orchestrator.model.outcomes import Outcome


def prune(state_dir: Path, over: Sequence[tuple[str, Outcome]]) -> list[str]:
    """Remove it. Call it with the host lock held.

    Args:
        over: id and outcome of every transaction that has ended, oldest first.

    Returns:
        The transactions of which everything was removed. What cannot be removed stays, and is
        tried again the next time.
    """
    pruned = []
    for transaction in whole_ones(over, lambda it: keeping.needed(state_dir, it)):
        tree = transaction_dir(state_dir, transaction)
        if tree.exists():
            with suppress(OSError):
                drop_tree(tree)
                pruned.append(transaction)
    return sorted(pruned)
