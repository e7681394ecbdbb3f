"""The journal: who may touch it, what it refuses, and that a change in it is found."""

from __future__ import annotations

import os
import sqlite3
import stat
from pathlib import Path
from typing import Any

import pytest

from orchestrator.engine import anchor, schema
from orchestrator.engine.events import Stamp
from orchestrator.engine.journal import FILE, Journal
from orchestrator.engine.queries import history, report_of, unfinished
from orchestrator.engine.transaction import Engine
from orchestrator.model.errors import JournalError, MkupgradeError

STAMP = Stamp(time=1.0, boot_id="b", release="1", pid=1)


def not_volatile(_: Path) -> None:
    return None


def test_directory_and_files_are_for_us_alone(state_dir: Path, engine: Engine, tools: Any) -> None:
    previous = os.umask(0)
    try:
        engine.run(engine.begin(tools.graph(["a", "b"])))
    finally:
        os.umask(previous)
    assert stat.S_IMODE(state_dir.stat().st_mode) == 0o700
    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in state_dir.iterdir()}
    assert set(modes) == {FILE, f"{FILE}-wal", f"{FILE}-shm", "lock", anchor.FILE}
    assert set(modes.values()) == {0o600}


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o701])
def test_a_directory_that_others_may_enter_is_refused(state_dir: Path, mode: int) -> None:
    state_dir.mkdir()
    state_dir.chmod(mode)
    with pytest.raises(JournalError, match="others may use it") as refused:
        Journal.open(state_dir, volatile=not_volatile)
    assert refused.value.next_command == f"chmod 0700 {state_dir}"
    assert list(state_dir.iterdir()) == []


def test_links_are_not_followed(state_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    state_dir.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(JournalError, match="cannot be used"):
        Journal.open(state_dir, volatile=not_volatile)
    state_dir.unlink()
    state_dir.mkdir(mode=0o700)
    (state_dir / FILE).symlink_to(tmp_path / "target")
    with pytest.raises(JournalError):
        Journal.open(state_dir, volatile=not_volatile)
    with pytest.raises(JournalError):
        Journal.open_readonly(state_dir)
    assert not (tmp_path / "target").exists()


def test_a_second_name_of_the_file_is_refused(state_dir: Path, tmp_path: Path) -> None:
    Journal.open(state_dir, volatile=not_volatile).close()
    (tmp_path / "other").hardlink_to(state_dir / FILE)
    with pytest.raises(JournalError, match="one name"):
        Journal.open(state_dir, volatile=not_volatile)


def test_a_file_system_that_a_reset_empties_is_refused_unless_allowed(state_dir: Path) -> None:
    with pytest.raises(JournalError, match="tmpfs") as refused:
        Journal.open(state_dir, volatile=lambda _: "tmpfs")
    assert "host.allow_volatile_state: true" in refused.value.details[0]
    Journal.open(state_dir, volatile=None).close()


def test_no_journal_is_no_error_for_readers(state_dir: Path) -> None:
    assert Journal.open_readonly(state_dir) is None
    state_dir.mkdir(mode=0o700)
    assert Journal.open_readonly(state_dir) is None
    assert list(state_dir.iterdir()) == []


def make_foreign(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE t (x)")
    connection.close()


def make_future(path: Path) -> None:
    schema.ensure_file(path)
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version={schema.VERSION + 1}")
    connection.close()


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda p: p.write_bytes(b"hello" * 100), "not an SQLite database"),
        (lambda p: p.write_bytes(b""), "not an SQLite database"),
        (lambda p: p.write_bytes(b"SQLite format 3\x00"), "not an SQLite database"),
        (make_foreign, "another program"),
        (make_future, "format version 2"),
    ],
)
def test_a_file_that_is_no_journal_of_ours_is_refused_and_left_as_it_is(
    state_dir: Path, make: Any, why: str
) -> None:
    state_dir.mkdir(mode=0o700)
    path = state_dir / FILE
    make(path)
    path.chmod(0o600)
    before = path.read_bytes()
    for opening in (lambda: Journal.open(state_dir, volatile=not_volatile),
                    lambda: Journal.open_readonly(state_dir)):  # fmt: skip
        with pytest.raises(JournalError, match=why):
            opening()
    assert path.read_bytes() == before
    assert list(state_dir.iterdir()) == [path]


def test_a_damaged_page_is_a_journal_error(engine: Engine, state_dir: Path, tools: Any) -> None:
    transaction = engine.run(engine.begin(tools.graph([f"s{i}" for i in range(30)]))).transaction
    engine._around.journal.close()
    path = state_dir / FILE
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(path.stat().st_size - 4096))
    with pytest.raises(JournalError, match="the journal"):
        reader = Journal.open_readonly(state_dir)
        assert reader is not None
        report_of(reader, transaction)


TAMPERINGS = {
    "a changed text": (
        "UPDATE events SET body = replace(body, '\"s1\"', '\"s2\"') WHERE seq = 4",
        "its text does not match its hash",
    ),
    "a removed event": (
        "DELETE FROM events WHERE seq = 4",
        "it does not follow the event before it",
    ),
    "an exchanged pair": (
        "UPDATE events SET seq = CASE seq WHEN 4 THEN -5 ELSE -4 END"
        " WHERE seq IN (4, 5); UPDATE events SET seq = -seq WHERE seq < 0",
        "it does not follow the event before it",
    ),
    "another type": (
        "UPDATE events SET type = 'ended' WHERE seq = 4",
        "its type is 'ended' in the table, 'intended' in its text",
    ),
    "another transaction": (
        "UPDATE events SET tx = 'other' WHERE seq = 4",
        "its tx is 'other' in the table, ",
    ),
    "no JSON": ("UPDATE events SET body = 'x' WHERE seq = 4", "its text does not match its hash"),
    "another hash": (
        "UPDATE events SET hash = 'x' WHERE seq = 4",
        "its text does not match its hash",
    ),
}


@pytest.mark.parametrize("how", TAMPERINGS)
def test_verify_names_the_first_event_that_was_tampered_with_and_its_field(
    engine: Engine, state_dir: Path, tools: Any, how: str
) -> None:
    transaction = engine.run(engine.begin(tools.graph([f"s{i}" for i in range(5)], "chain")))
    reader = Journal.open_readonly(state_dir)
    assert reader is not None
    whole = reader.verify()
    assert (whole.bad_seq, whole.problem) == (None, None)
    statements, problem = TAMPERINGS[how]
    with sqlite3.connect(state_dir / FILE) as connection:
        connection.executescript(statements)
    found = reader.verify()
    assert found.bad_seq in {4, 5}
    assert found.events == 3
    assert problem in str(found.problem)
    if how != "another type":  # the column is for people who look with sqlite3; nothing reads it
        with pytest.raises(JournalError, match=r"the journal is damaged: event [45]"):
            report_of(reader, transaction.transaction)


@pytest.mark.parametrize(
    ("column", "value"),
    [("name", "'x'"), ("intent_digest", "'x'"), ("plan_digest", "'x'"), ("started", "7.5")],
)
def test_verify_names_the_column_of_a_transaction_that_was_tampered_with(
    engine: Engine, state_dir: Path, tools: Any, column: str, value: str
) -> None:
    """`intent_digest` decides whether an upgrade was rolled back before."""
    engine.run(engine.begin(tools.graph(["a"])))
    with sqlite3.connect(state_dir / FILE) as connection:
        connection.execute(f"UPDATE transactions SET {column} = {value}")  # noqa: S608
    with pytest.raises(JournalError, match="the journal is damaged"):
        Journal.open_readonly(state_dir)
    reader = Journal.open_readonly(state_dir, damaged=True)
    assert reader is not None
    problem = str(reader.verify().problem)
    if column == "plan_digest":
        assert "the stored plan of transaction" in problem
    else:
        assert problem.endswith(f"does not fit its first event ({column})")


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TRIGGER t AFTER INSERT ON events BEGIN DELETE FROM events; END",
        "CREATE VIEW v AS SELECT 1",
        "CREATE TABLE further (x)",
        "DROP INDEX events_by_transaction",
        "DROP TABLE events; CREATE VIEW events AS WITH RECURSIVE n(seq) AS (SELECT 1 UNION ALL"
        " SELECT seq + 1 FROM n) SELECT seq, 't' tx, 't' type, 't' body, 't' hash FROM n",
    ],
)
def test_a_journal_with_tables_that_are_not_ours_is_refused(
    journal: Journal, state_dir: Path, statement: str
) -> None:
    journal.close()
    with sqlite3.connect(state_dir / FILE) as connection:
        connection.executescript(statement)
    for opening in (lambda: Journal.open(state_dir, volatile=not_volatile),
                    lambda: Journal.open_readonly(state_dir)):  # fmt: skip
        with pytest.raises(JournalError, match="is not a journal that can be used"):
            opening()


def test_a_process_that_died_while_it_took_room_leaves_a_journal_that_can_be_used(
    journal: Journal, state_dir: Path, tools: Any
) -> None:
    with sqlite3.connect(state_dir / FILE) as connection:
        connection.execute("CREATE TABLE reserve (ballast BLOB)")
    journal.begin("t", tools.graph(["a"]), STAMP)
    assert journal.verify().problem is None


def test_a_plan_exchanged_together_with_its_digest_is_not_executed(
    engine: Engine, state_dir: Path, tools: Any
) -> None:
    from hashlib import sha256

    transaction = engine.begin(tools.graph(["a", "b"]))
    with sqlite3.connect(state_dir / FILE) as connection:
        [plan] = connection.execute("SELECT plan FROM transactions").fetchone()
        plan = plan.replace('"test"', '"evil"')
        digest = sha256(plan.encode()).hexdigest()
        connection.execute("UPDATE transactions SET plan = ?, plan_digest = ?", (plan, digest))
    with pytest.raises(JournalError, match="was exchanged"):
        engine.resume(transaction)


def test_the_last_event_put_elsewhere_is_missed(
    engine: Engine, state_dir: Path, tools: Any
) -> None:
    transaction = engine.begin(tools.graph(["a", "b"]))
    engine.run(transaction)
    with sqlite3.connect(state_dir / FILE) as connection:
        connection.execute(
            "UPDATE events SET tx = 'other' WHERE seq = (SELECT max(seq) FROM events)"
        )
    with pytest.raises(JournalError, match="stands in the wrong place"):
        engine.resume(transaction)


def test_verify_finds_a_text_changed_together_with_its_hash(
    engine: Engine, state_dir: Path, tools: Any
) -> None:
    from hashlib import sha256

    engine.run(engine.begin(tools.graph([f"s{i}" for i in range(5)], "chain")))
    with sqlite3.connect(state_dir / FILE) as connection:
        body = connection.execute("SELECT body FROM events WHERE seq = 4").fetchone()[0]
        body = body.replace('"pid":', '"pid":1')
        digest = sha256(body.encode()).hexdigest()
        connection.execute("UPDATE events SET body = ?, hash = ? WHERE seq = 4", (body, digest))
    reader = Journal.open_readonly(state_dir)
    assert reader is not None
    assert reader.verify().bad_seq == 5


def test_a_changed_plan_is_found_and_not_executed(
    engine: Engine, journal: Journal, state_dir: Path, tools: Any
) -> None:
    transaction = engine.begin(tools.graph(["a", "b"]))
    with sqlite3.connect(state_dir / FILE) as connection:
        connection.execute("UPDATE transactions SET plan = replace(plan, 'test', 'evil')")
    assert journal.verify().bad_seq == 1
    with pytest.raises(JournalError, match="was changed"):
        engine.run(transaction)


def test_a_changed_event_is_not_folded(
    engine: Engine, journal: Journal, state_dir: Path, tools: Any
) -> None:
    transaction = engine.begin(tools.graph(["a", "b"]))
    engine.run(transaction)
    with sqlite3.connect(state_dir / FILE) as connection:
        connection.execute("UPDATE events SET body = replace(body, '\"a\"', '\"b\"')")
    with pytest.raises(JournalError, match="damaged"):
        report_of(journal, transaction)


def test_readers_see_a_transaction_while_it_is_written(
    engine: Engine, driver: Any, state_dir: Path, tools: Any
) -> None:
    seen: list[Any] = []

    def look(context: Any) -> None:
        with Journal.open_readonly(state_dir) as reader:  # type: ignore[union-attr]
            seen.append((unfinished(reader), report_of(reader, context.transaction)))

    driver.on["perform", "b"] = look
    transaction = engine.run(engine.begin(tools.graph(["a", "b"], "chain"))).transaction
    [(running, report)] = seen
    assert running == transaction
    assert [s.state for s in report.steps] == ["performed", "intended"]


def test_readers_cannot_write(state_dir: Path, tools: Any) -> None:
    Journal.open(state_dir, volatile=not_volatile).close()
    reader = Journal.open_readonly(state_dir)
    assert reader is not None
    with pytest.raises(JournalError, match="reading only"):
        reader.begin("t", tools.graph(["a"]), STAMP)
    assert history(reader) == []


def test_an_unknown_transaction_is_a_clear_error(journal: Journal) -> None:
    with pytest.raises(MkupgradeError, match='no transaction "nope"') as error:
        report_of(journal, "nope")
    assert error.value.next_command == "mkupgrade history"


def test_after_the_first_failed_write_nothing_more_is_written(journal: Journal, tools: Any) -> None:
    journal.begin("t", tools.graph(["a"]), STAMP)
    journal._connection.execute("PRAGMA query_only=ON")  # a disk that says no
    from orchestrator.engine.events import Resumed

    journal.stage("t", Resumed(reason="x"), STAMP)
    with pytest.raises(JournalError, match="cannot be written"):
        journal.commit()
    journal._connection.execute("PRAGMA query_only=OFF")
    journal.stage("t", Resumed(reason="x"), STAMP)
    with pytest.raises(JournalError, match="failed before"):
        journal.commit()
    assert len(list(journal.log("t"))) == 1


def test_a_journal_that_fails_stops_the_run_before_the_next_effect(
    engine: Engine, driver: Any, journal: Journal, tools: Any
) -> None:
    def break_it(context: Any) -> None:
        journal._connection.execute("PRAGMA query_only=ON")

    driver.on["perform", "b"] = break_it
    with pytest.raises(JournalError) as error:
        engine.run(engine.begin(tools.graph(["a", "b", "c"], "chain")))
    assert "resume" in str(error.value.state)
    assert driver.of("perform") == ["a", "b"]


def test_whoever_takes_the_lock_writes_again_what_a_failed_fsync_may_have_left_unsynced(
    journal: Journal, driver: Any, tools: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is believed that was read: a reset would take it."""
    with Engine(driver, journal) as engine:
        engine.begin(tools.graph(["a"]))
    log = journal.path.with_name(f"{FILE}-wal")
    before, written, synced = log.read_bytes(), [], []
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: written.append(data) or len(data))
    monkeypatch.setattr(
        os, "fsync", lambda fd: synced.append(Path(f"/proc/self/fd/{fd}").readlink())
    )
    journal.take_over()
    assert b"".join(written) == before
    assert synced == [log]


def test_no_cut_of_power_leaves_a_rollback_journal_beside_a_journal(state_dir: Path) -> None:
    """A reader cannot open such a file: taking the rollback journal in would be writing."""
    state_dir.mkdir(mode=0o700)
    path = state_dir / "journal.db"
    schema.ensure_file(path)
    assert path.read_bytes()[18:20] == b"\2\2", "it is in WAL mode under its name"
    assert [p.name for p in state_dir.iterdir()] == ["journal.db"]
