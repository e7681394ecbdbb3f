"""What transactions that are over have left behind, and is no longer needed."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from orchestrator.model.errors import LockedError, MkupgradeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.model.outcomes import Outcome
    from orchestrator.model.seams import Driver


@runtime_checkable
class Pruning(Protocol):
    """A driver that leaves something behind."""

    def prune(self, over: Sequence[tuple[str, Outcome]]) -> list[str]:
        """Remove it; the host lock is held. What was removed, by name."""
        ...


@runtime_checkable
class Expiring(Pruning, Protocol):
    """A driver that keeps something of worth for a time."""

    def expired(self, over: Sequence[tuple[str, Outcome]]) -> bool:
        """Is the time of any of it over?"""
        ...


def over(state_dir: Path) -> list[tuple[str, Outcome]]:
    """Id and outcome of every transaction that has ended, oldest first."""
    from orchestrator.cli.journals import reading
    from orchestrator.engine.queries import history

    with reading(state_dir) as journal:
        found = history(journal) if journal is not None else []
    return [(s.transaction, s.outcome) for s in found if s.outcome]


def prune(driver: Driver, state_dir: Path) -> None:
    """With the lock held, and before anything is performed. Untidiness is no reason to fail."""
    from orchestrator.cli.logs import logger

    if not isinstance(driver, Pruning):
        return
    try:
        pruned = driver.prune(over(state_dir))
    except (MkupgradeError, OSError) as error:
        logger().warning("earlier transactions were not pruned", error=str(error))
    else:
        logger().debug("pruned", pruned=pruned)


def give_back_expired(driver: Driver, state_dir: Path) -> None:
    """Before a plan is made: what is given back has room for it."""
    from orchestrator.engine.lock import holding

    if not isinstance(driver, Expiring):
        return
    with suppress(MkupgradeError, OSError):
        if not driver.expired(over(state_dir)):
            return
    with suppress(LockedError), holding(state_dir, "clean-up"):
        prune(driver, state_dir)
