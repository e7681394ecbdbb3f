"""A journal with a flipped bit, or cut off: refused, or an earlier state that once was durable.

Never half believed: what can be read is a beginning of the true log that ends with a commit, and
what cannot is an error that says what to do next. SQLite's log (the file -wal) has checksums, so
that damage there loses its end; the database itself has none.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

import pytest

from orchestrator.engine.journal import FILE, Journal
from orchestrator.engine.queries import history, report_of, rolled_back_before
from orchestrator.engine.transaction import Engine
from orchestrator.model.errors import JournalError, MkupgradeError
from orchestrator.model.outcomes import Outcome
from tests.support.memory import in_memory
from tests.support.profile import slow
from tests.support.transactions import fails

PAGE, FRAME_HEADER, WAL_HEADER = 4096, 24, 32
WAL = f"{FILE}-wal"
IN_THE_LOG, CHECKPOINTED = "in the log", "checkpointed"


@dataclass(frozen=True)
class Original:
    """An undamaged journal, as files, and what it says."""

    files: dict[str, bytes]
    hashes: list[str]
    """Of all events, in order."""
    commits: set[int]
    """After how many events something was durable."""
    transactions: list[str]

    def write(self, directory: Path, **changed: bytes) -> None:
        """`changed`: "db" and "wal"."""
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(mode=0o700)
        for name, content in self.files.items():
            found = changed.get("wal" if name == WAL else "db", content)
            handle = os.open(directory / name, os.O_WRONLY | os.O_CREAT, 0o600)
            os.write(handle, found)
            os.close(handle)


def write_history(state_dir: Path, tools: Any, driver: Any) -> Original:
    """Two transactions that are over, and one that stopped in the middle."""
    counts: set[int] = {0}
    with Journal.open(state_dir, volatile=None) as journal:
        write = journal._write

        def counting(first: Any) -> Any:
            done = write(first)
            counts.add(journal._seq)
            return done

        journal._write = counting  # type: ignore[method-assign]
        with Engine(driver, journal) as engine:
            done = [f"a{i}" for i in range(12)]
            engine.run(engine.begin(tools.graph(done, "chain", name="first", intent_digest="1")))
            driver.on["perform", "b7"] = fails()
            back = [f"b{i}" for i in range(9)]
            engine.run(engine.begin(tools.graph(back, "chain", name="second", intent_digest="2")))
            driver.on["perform", "c3"] = fails()
            driver.on["inspect", "c3"] = fails()
            open_ = [f"c{i}" for i in range(5)]
            engine.run(engine.begin(tools.graph(open_, "chain", name="third", intent_digest="3")))
        names = [t.id for t in journal.transactions()]
        hashes = [e.hash for name in names for e in journal.log(name)]
        files = {name: (state_dir / name).read_bytes() for name in (FILE, WAL)}
    return Original(files, hashes, counts, names)


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    with in_memory(tmp_path) as directory:
        yield directory


@pytest.fixture
def state_dir(memory: Path) -> Path:
    return memory / "state"


@pytest.fixture
def written(state_dir: Path, tools: Any, driver: Any) -> Original:
    """Its events are in -wal; in `state_dir`, where it was closed, all are in the database."""
    return write_history(state_dir, tools, driver)


@pytest.fixture(params=[IN_THE_LOG, CHECKPOINTED])
def original(request: Any, state_dir: Path, written: Original) -> Original:
    if request.param == IN_THE_LOG:
        return written
    return replace(written, files={FILE: (state_dir / FILE).read_bytes()})


def read_all(state_dir: Path) -> tuple[list[str], list[str]]:
    """Ids and event hashes by way of everything that status, history and resume ask."""
    with Journal.open(state_dir, volatile=None) as journal:
        names = [t.id for t in journal.transactions()]
        hashes = [e.hash for name in names for e in journal.log(name)]
        for name in names:
            report_of(journal, name)
        found = history(journal)
        assert [s.transaction for s in found] == names
        outcomes = [s.outcome for s in found if s.ended is not None]
        ends = [Outcome.COMMITTED, Outcome.ROLLED_BACK, Outcome.UNKNOWN]
        assert outcomes == ends[: len(outcomes)]
        if len(outcomes) > 1:
            assert rolled_back_before(journal, "2") is not None
    return names, hashes


def hold(original: Original, state_dir: Path, where: str) -> str:
    """ "refused" with an error that helps, or a durable state of once: "shorter" or "same"."""
    try:
        names, hashes = read_all(state_dir)
    except MkupgradeError as error:
        assert isinstance(error, JournalError), (where, error)
        assert error.next_command, (where, error)
        assert error.state, (where, error)
        assert error.where, (where, error)
        return "refused"
    assert hashes == original.hashes[: len(hashes)], where
    assert len(hashes) in original.commits, where
    assert names == original.transactions[: len(names)], where
    return "same" if hashes == original.hashes else "shorter"


def verify(state_dir: Path) -> str | None:
    """The problem that `history --verify` tells of."""
    try:
        journal = Journal.open_readonly(state_dir, damaged=True)
        assert journal is not None
        with journal:
            return journal.verify().problem
    except JournalError as error:
        return error.what


def flipped(content: bytes, offset: int, bit: int) -> bytes:
    return content[:offset] + bytes([content[offset] ^ 1 << bit]) + content[offset + 1 :]


def bits_of_pages(content: bytes, header: int, unit: int, each: int, random: Random) -> Any:
    """`each` random bits of every page, and all of the header's if there are to be many."""
    for start in range(header, len(content), unit):
        for _ in range(each):
            yield start + random.randrange(min(unit, len(content) - start)), random.randrange(8)
    if each > 1:
        yield from ((offset, bit) for offset in range(100) for bit in range(8))


def flips(original: Original, each: int, random: Random) -> Iterator[tuple[str, int, int]]:
    for name, content in original.files.items():
        header, unit = (WAL_HEADER, PAGE + FRAME_HEADER) if name == WAL else (0, PAGE)
        for offset, bit in bits_of_pages(content, header, unit, each, random):
            yield ("wal" if name == WAL else "db"), offset, bit


@pytest.mark.parametrize("each", [slow(1), slow(6)])
def test_a_flipped_bit_in_any_page_is_never_half_believed(
    original: Original, memory: Path, each: int
) -> None:
    found: Counter[str] = Counter()
    directory = memory / "damaged"
    for file, offset, bit in flips(original, each, Random(each)):
        name = WAL if file == "wal" else FILE
        original.write(directory, **{file: flipped(original.files[name], offset, bit)})
        problem = verify(directory)
        where = f"{name} byte {offset} bit {bit}: {problem}"
        became = hold(original, directory, where)
        found[became] += 1
        assert problem is not None or became != "refused", where
    pages = sum(len(content) // PAGE for content in original.files.values())
    # In -wal every bit counts, but those of pages that were written again later; in the database
    # some are in no use.
    assert found["shorter" if WAL in original.files else "refused"] > pages * each / 3, found


EVERY_BYTE = [slow(first, 4) for first in range(4)]
"""In four parts, for four processes."""


def cuts(content: bytes, last: int, first: int, step: int) -> Iterator[bytes]:
    """Without up to `last` bytes of its end."""
    for length in range(len(content) - last + first, len(content), step):
        yield content[:length]


@pytest.mark.parametrize("original", [IN_THE_LOG], indirect=True)
@pytest.mark.parametrize(("first", "step"), [(0, 101), *EVERY_BYTE])
def test_a_log_cut_off_in_its_last_event_is_as_before_that_event(
    original: Original, memory: Path, first: int, step: int
) -> None:
    directory = memory / "damaged"
    known = len(original.hashes)
    for cut in cuts(original.files[WAL], 2 * (PAGE + FRAME_HEADER), first, step):
        original.write(directory, wal=cut)
        with Journal.open(directory, volatile=None) as journal:
            found = [e.hash for t in journal.transactions() for e in journal.log(t.id)]
            assert found == original.hashes[: len(found)], len(cut)
            assert len(found) in original.commits, len(cut)
            assert known - 5 < len(found) < known, len(cut)
            assert journal.verify().problem is None


@pytest.mark.parametrize("original", [CHECKPOINTED], indirect=True)
@pytest.mark.parametrize(("first", "step"), [(0, 101), *EVERY_BYTE])
def test_a_database_cut_off_anywhere_in_its_last_pages_is_refused(
    original: Original, memory: Path, first: int, step: int
) -> None:
    directory = memory / "damaged"
    database = original.files[FILE]
    for cut in cuts(database, 2 * PAGE, first, step):
        original.write(directory, db=cut)
        assert verify(directory), len(cut)
        assert hold(original, directory, f"cut at {len(cut)}") == "refused"


@pytest.mark.parametrize("name", ["events_by_transaction", "transactions_by_intent"])
def test_an_index_that_would_hide_an_event_is_refused(
    state_dir: Path, written: Original, name: str
) -> None:
    """What is asked by way of the index is answered without the event, and without an error."""
    with closing(sqlite3.connect(state_dir / FILE)) as connection:
        query = "SELECT rootpage FROM sqlite_schema WHERE name = ?"
        root = connection.execute(query, (name,)).fetchone()[0]
    database = (state_dir / FILE).read_bytes()
    page = database[(root - 1) * PAGE : root * PAGE]
    first_cell = int.from_bytes(page[5:7], "big")
    found: Counter[str] = Counter()
    for offset in range(first_cell, PAGE, 1 + (PAGE - first_cell) // 60):
        written.write(state_dir, db=flipped(database, (root - 1) * PAGE + offset, 0), wal=b"")
        found[hold(written, state_dir, f"byte {offset} of {name}")] += 1
    assert found["refused"] > 30, found


LINES = {
    "name": "UPDATE transactions SET name = 'frist' WHERE name = 'first'",
    "time": "UPDATE transactions SET started = started + 1 WHERE name = 'first'",
    "intent": "UPDATE transactions SET intent_digest = '3' WHERE name = 'first'",
    "a missing event": "DELETE FROM events WHERE seq = 4",
    "no first event": "DELETE FROM events WHERE tx ="
    " (SELECT id FROM transactions WHERE name = 'third')",
    "the end's text": "UPDATE events SET body = replace(body, 'unknown', 'committed')"
    " WHERE seq = (SELECT max(seq) FROM events)",
    "the end's place": "UPDATE events SET tx = (SELECT id FROM transactions WHERE name = 'first')"
    " WHERE seq = (SELECT max(seq) FROM events)",
}


@pytest.mark.parametrize("body", ["[]", "{}", "[" * 100_000, '{"event": 1}', "no JSON"])
def test_a_first_event_that_is_none_is_refused_whoever_hashed_it(
    state_dir: Path, written: Original, body: str
) -> None:
    with closing(sqlite3.connect(state_dir / FILE, isolation_level=None)) as connection:
        row = (body, sha256(body.encode()).hexdigest())
        connection.execute("UPDATE events SET body = ?, hash = ? WHERE seq = 1", row)
    assert verify(state_dir)
    assert hold(written, state_dir, body[:20]) == "refused"


@pytest.mark.parametrize("what", LINES)
def test_a_line_that_no_event_bears_out_is_refused(
    state_dir: Path, written: Original, what: str
) -> None:
    with closing(sqlite3.connect(state_dir / FILE, isolation_level=None)) as connection:
        connection.execute(LINES[what])
    assert verify(state_dir)
    assert hold(written, state_dir, what) == "refused"


@pytest.mark.usefixtures("room")
def test_events_are_never_written_over_by_way_of_a_damaged_list_of_free_pages(
    state_dir: Path, written: Original, tools: Any, driver: Any
) -> None:
    """The room that is reserved is such a list. One wrong number in it, and SQLite would hand out
    a page that holds events."""
    database = (state_dir / FILE).read_bytes()
    trunk = int.from_bytes(database[32:36], "big") - 1
    count = int.from_bytes(database[trunk * PAGE + 4 : trunk * PAGE + 8], "big")
    assert count > 100
    refused = 0
    for number in range(0, count, count // 12):
        offset = trunk * PAGE + 8 + 4 * number + 3
        written.write(state_dir, db=flipped(database, offset, number % 6), wal=b"")
        if hold(written, state_dir, f"free page {number}") == "refused":
            refused += 1
            continue
        with Journal.open(state_dir, volatile=None) as journal, Engine(driver, journal) as engine:
            engine.run(engine.begin(tools.graph([f"d{i}" for i in range(40)], intent_digest="4")))
            assert journal.verify().problem is None
    assert refused > 10
