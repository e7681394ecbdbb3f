"""What is left of generations that are gone for good.

STATE_DIR/agents/NAME.json      the key of an agent: goes with it
STATE_DIR/handover/<id>         copies of state that was carried: go with the way back
STATE_DIR/transactions/<id>     records, logs of consoles: stay for the newest transactions
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from orchestrator.drivers.leftovers import ended_well, whole_ones
from orchestrator.drivers.multikernel import agents, keeping
from orchestrator.drivers.multikernel.kernel import Kernel
from orchestrator.drivers.multikernel.seeing import look
from orchestrator.drivers.records import drop_tree, transaction_dir
from orchestrator.model.outcomes import Outcome


def prune(kernel: Kernel, state_dir: Path, over: Sequence[tuple[str, Outcome]]) -> list[str]:
    """Remove it. Call it with the host lock held.

    Args:
        over: id and outcome of every transaction that has ended, oldest first.

    Returns:
        The transactions of which everything was removed. What cannot be removed stays, and is
        tried again the next time.

    Raises:
        MkupgradeError: what the kernel says cannot be read; nothing was removed.
    """
    _drop_copies(state_dir, over)
    left = [it for it in ended_well(over) if transaction_dir(state_dir, it).exists()]
    if not left:
        return []
    if len(ended_well(over)) == len(over):
        # Whatever goes on yet may make a generation again, and load it with its key.
        agents.forget_others(state_dir, look(kernel).instances)
    whole = whole_ones(over, lambda it: keeping.needed(state_dir, it))
    pruned = []
    for transaction in left:
        tree = transaction_dir(state_dir, transaction)
        with suppress(OSError):
            if transaction in whole:
                drop_tree(tree)
                pruned.append(transaction)
    return pruned


def _drop_copies(state_dir: Path, over: Sequence[tuple[str, Outcome]]) -> None:
    """Of state that was carried: their workloads run, and there is no way back any more."""
    for transaction in ended_well(over):
        copies = state_dir / "handover" / transaction
        if copies.is_dir() and not keeping.needed(state_dir, transaction):
            with suppress(OSError):
                drop_tree(copies)
