"""What is left of generations that are gone for good.

STATE_DIR/transactions/<id>/<section>/agent.NAME.json     the key of an agent: goes with it
STATE_DIR/transactions/<id>                               records, logs of consoles: stay for
                                                          the newest transactions
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from contextlib import suppress
from pathlib import Path

from orchestrator.drivers.leftovers import ended_well, whole_ones
from orchestrator.drivers.multikernel import keeping
from orchestrator.drivers.multikernel.kernel import Kernel
from orchestrator.drivers.multikernel.seeing import look
from orchestrator.drivers.records import Records, drop_tree, transaction_dir
from orchestrator.model.outcomes import Outcome
from orchestrator.model.steps import Section

_KEY = "agent."
"""How the record of an agent's key begins (`agents`)."""


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
    left = [it for it in ended_well(over) if transaction_dir(state_dir, it).exists()]
    if not left:
        return []
    there = look(kernel).instances
    whole = whole_ones(over, lambda it: keeping.needed(state_dir, it))
    pruned = []
    for transaction in left:
        tree = transaction_dir(state_dir, transaction)
        with suppress(OSError):
            if transaction in whole:
                drop_tree(tree)
                pruned.append(transaction)
                continue
            for section in Section:
                _forget_keys(Records(state_dir, transaction, section), there)
    return pruned


def _forget_keys(records: Records, there: Container[str]) -> None:
    """Of agents in generations that are not there any more: their names are never used again."""
    for path in records.dir.glob(f"{_KEY}*.json"):
        if path.stem.removeprefix(_KEY) not in there:
            records.drop(path.stem)
