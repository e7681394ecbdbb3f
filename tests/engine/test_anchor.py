"""A journal that was cut off at its end is older than its anchor."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from orchestrator.engine import anchor
from orchestrator.engine.journal import FILE, Journal
from orchestrator.engine.transaction import Engine
from orchestrator.engine.verify import Verified
from orchestrator.model.errors import JournalError


def run(engine: Engine, tools: Any) -> str:
    return engine.run(engine.begin(tools.graph(["a", "b"], "chain"), again=True)).transaction


def verify(state_dir: Path) -> Verified:
    with Journal.open_readonly(state_dir) as reader:  # type: ignore[union-attr]
        return reader.verify()


def cut(state_dir: Path, left: int) -> None:
    """Remove everything behind event `left`."""
    with sqlite3.connect(state_dir / FILE) as connection:
        connection.execute("DELETE FROM events WHERE seq > ?", (left,))
        connection.execute("DELETE FROM transactions WHERE id NOT IN (SELECT tx FROM events)")
    connection.close()


def test_it_holds_the_end_of_each_transaction(engine: Engine, state_dir: Path, tools: Any) -> None:
    for _ in range(2):
        run(engine, tools)
        found, known = verify(state_dir), anchor.read(state_dir)
        assert known is not None
        assert (found.events, found.head) == (known.seq, known.hash)
        assert (found.problem, found.note) == (None, None)


@pytest.mark.parametrize("left", [1, 3])
def test_events_removed_at_the_end_are_found(
    engine: Engine, state_dir: Path, tools: Any, left: int
) -> None:
    run(engine, tools)
    cut(state_dir, left)
    found = verify(state_dir)
    assert (found.events, found.bad_seq) == (left, left + 1)
    assert "events were removed at its end" in str(found.problem)


def test_and_still_are_when_others_were_written_in_their_place(
    engine: Engine, state_dir: Path, tools: Any
) -> None:
    run(engine, tools)
    known = anchor.read(state_dir)
    assert known is not None
    run(engine, tools)
    noted = anchor.read(state_dir)
    cut(state_dir, known.seq)
    engine._around.journal.reload()
    run(engine, tools)
    run(engine, tools)
    assert known != noted == anchor.read(state_dir), "it is not replaced by what denies it"
    assert "others put in their place" in str(verify(state_dir).problem)


def test_a_whole_new_journal_does_not_fit_either(
    engine: Engine, state_dir: Path, tools: Any
) -> None:
    run(engine, tools)
    cut(state_dir, 0)
    assert verify(state_dir).bad_seq == 1


def test_one_that_is_behind_is_what_a_crash_leaves(
    engine: Engine, state_dir: Path, tools: Any
) -> None:
    run(engine, tools)
    before = (state_dir / anchor.FILE).read_bytes()
    run(engine, tools)
    (state_dir / anchor.FILE).write_bytes(before)
    assert verify(state_dir).problem is None


def test_none_is_a_note_and_the_next_transaction_makes_one(
    engine: Engine, state_dir: Path, tools: Any
) -> None:
    run(engine, tools)
    (state_dir / anchor.FILE).unlink()
    found = verify(state_dir)
    assert found.problem is None
    assert "would look whole" in str(found.note)
    run(engine, tools)
    assert verify(state_dir).note is None


def test_one_that_cannot_be_read_or_is_open_to_others_is_told(
    engine: Engine, state_dir: Path, tools: Any
) -> None:
    run(engine, tools)
    path = state_dir / anchor.FILE
    path.chmod(0o644)
    with pytest.raises(JournalError, match="others may use it"):
        verify(state_dir)
    path.chmod(0o600)
    path.write_bytes(b'{"seq": 0}')
    with pytest.raises(JournalError, match="not an anchor"):
        verify(state_dir)
    run(engine, tools)
    assert path.read_bytes() == b'{"seq": 0}'


def test_a_disk_that_is_full_stops_no_transaction(
    engine: Engine, state_dir: Path, tools: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(anchor, "_write", full)
    run(engine, tools)
    assert verify(state_dir).problem is None


def test_it_is_written_twice_in_a_transaction_however_many_steps(
    engine: Engine, tools: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(engine, tools)  # takes the lock, and syncs for it
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    engine.run(engine.begin(tools.graph([f"s{i}" for i in range(20)])))
    assert len(synced) == 4, "the file and its directory, at the beginning and at the end"
