"""The state directory is removed, moved away or replaced in mid-flight.

SQLite would go on writing to files that have no name any more, and report success.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.engine.journal import FILE, Journal
from orchestrator.engine.transaction import Engine
from orchestrator.model.errors import JournalError
from orchestrator.model.outcomes import Outcome

STEPS = ["a", "b", "c", "d"]


def replace(state_dir: Path) -> None:
    """A backup is copied over it, as by cp or rsync."""
    new = state_dir / "new"
    new.write_bytes((state_dir / FILE).read_bytes())
    new.replace(state_dir / FILE)


LOSSES: dict[str, Callable[[Path], object]] = {
    "removed": shutil.rmtree,
    "moved": lambda state_dir: state_dir.rename(state_dir.with_name("away")),
    "replaced": replace,
    "without its log": lambda state_dir: (state_dir / f"{FILE}-wal").unlink(),
}


@pytest.mark.parametrize("how", LOSSES)
def test_nothing_more_is_done_when_the_journal_is_no_longer_in_its_place(
    driver: Any, state_dir: Path, tools: Any, how: str
) -> None:
    driver.on["perform", "b"] = lambda _: LOSSES[how](state_dir) and None
    with Journal.open(state_dir, volatile=None) as journal, Engine(driver, journal) as engine:
        transaction = engine.begin(tools.graph(STEPS, "chain"))
        with pytest.raises(JournalError, match="moved, removed or replaced") as lost:
            engine.run(transaction)
        assert lost.value.next_command == f"ls -la {state_dir}"
        with pytest.raises(JournalError, match="it failed before"):
            engine.resume(transaction)
    assert driver.of("perform") == ["a", "b"]


def test_moved_back_it_is_whole_and_goes_on(driver: Any, state_dir: Path, tools: Any) -> None:
    driver.on["perform", "b"] = lambda _: LOSSES["moved"](state_dir) and None
    with Journal.open(state_dir, volatile=None) as journal, Engine(driver, journal) as engine:
        transaction = engine.begin(tools.graph(STEPS, "chain"))
        with pytest.raises(JournalError):
            engine.run(transaction)
    state_dir.with_name("away").rename(state_dir)
    with Journal.open(state_dir, volatile=None) as journal, Engine(driver, journal) as engine:
        assert engine.resume(transaction).outcome is Outcome.COMMITTED
        assert journal.verify().problem is None
    assert driver.of("perform") == ["a", "b", "c", "d"]
