"""The journal: durable, ordered, hash-chained. One SQLite file in the state directory.

WAL with synchronous=FULL: a commit that was acknowledged survives a kexec without sync and a
cut of power (EXTRA adds nothing in WAL mode; it is used where the file is made, in rollback
mode). After the first error of a write or fsync nothing more is written through this
connection: a second fsync may report success for pages that are gone.
"""

from __future__ import annotations

import os
import sqlite3
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import Any

from orchestrator.engine import anchor, damage, events, reserve, schema
from orchestrator.engine.places import (
    Volatile,
    df,
    inodes_of,
    own_directory,
    own_file,
    require_own_directory,
    write_again,
)
from orchestrator.engine.reading import Reading
from orchestrator.engine.troubles import damaged, gone, translated, unwritable
from orchestrator.engine.verify import GENESIS
from orchestrator.model.errors import JournalError
from orchestrator.model.steps import StepGraph

FILE = "journal.db"

MOST_AT_ONCE = 4
"""Events that one statement writes; the usual commit holds two."""
_INSERT = {
    n: "INSERT INTO events VALUES " + ", ".join(["(?, ?, ?, ?, ?)"] * n)  # noqa: S608 - of marks
    for n in range(1, MOST_AT_ONCE + 1)
}


def _unwritten(path: Path) -> str:
    """SQLite reads a WAL journal by a file beside it, which it makes if need be; where it cannot,
    and nothing waits in the log, the journal itself is all there is (sqlite.org/wal.html, 5)."""
    if os.access(path.parent, os.W_OK, effective_ids=True):
        return ""
    log = path.with_name(f"{path.name}-wal")
    return "" if log.exists() and log.stat().st_size else "&immutable=1"


class _Writing:
    """After an error inside, the journal is broken. A class: entered at every step, it costs a
    third of what a generator does."""

    __slots__ = ("_journal",)

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, (sqlite3.Error, OSError)):
            raise self._journal._break(str(error)) from error


class Journal(Reading):
    """Opened with `open` (one writer, the holder of the host lock) or `open_readonly`."""

    def __init__(self, path: Path, connection: sqlite3.Connection, *, readonly: bool) -> None:
        super().__init__(path, connection)
        self.readonly = readonly
        self._staged: list[events.Envelope] = []
        self._rows: list[tuple[int, str, str, str, str]] = []
        self._broken: str | None = None
        self._files = (str(path), f"{path}-wal")
        self._inodes: list[tuple[int, int] | None] | None = None
        self._seq, self._head = 0, GENESIS
        self._guard = _Writing(self)

    @classmethod
    def open(cls, state_dir: Path, *, volatile: Volatile | None) -> Journal:
        """Open for writing; make directory (0700) and file (0600) if they are missing.

        Args:
            volatile: says whether a reset empties the directory; None: it may.

        Raises:
            JournalError: the directory or file is not ours alone, is on a file system that a
                reset empties, or the file is not a journal of this version, or is damaged.
        """
        own_directory(state_dir)
        lost_with = volatile(state_dir) if volatile is not None else None
        if lost_with is not None:
            raise JournalError(
                f"the state directory is on {lost_with}: a reset would take the journal with it",
                where=str(state_dir),
                state="nothing was changed",
                details=(
                    "name a host.state_dir on a disk, or take this one with "
                    "host.allow_volatile_state: true",
                ),
            )
        path = state_dir / FILE
        with translated(path):
            schema.ensure_file(path)
            connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        return cls.over(path, connection)

    @classmethod
    def over(cls, path: Path, connection: sqlite3.Connection) -> Journal:
        """For writing, over a connection to the journal at `path`; closed when it is refused.

        Raises:
            JournalError: SQLite does not give the durability that we need, or cannot read.
        """
        with translated(path):
            try:
                mode = connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
                connection.execute("PRAGMA synchronous=FULL")
                level = connection.execute("PRAGMA synchronous").fetchone()[0]
                if mode != "wal" or level != 2:
                    raise JournalError(
                        f"SQLite gave journal mode {mode}, synchronous {level}: not durable",
                        where=str(path),
                    )
                connection.execute(f"PRAGMA wal_autocheckpoint={reserve.CHECKPOINT_PAGES}")
                connection.execute("PRAGMA trusted_schema=OFF")
                journal = cls(path, connection, readonly=False)
                journal.refuse_damage()
                journal.reload()
                journal._inodes = inodes_of(*journal._files)
            except BaseException:
                connection.close()
                raise
            return journal

    @classmethod
    def open_readonly(
        cls, state_dir: Path, *, damaged: bool = False, still: bool = False
    ) -> Journal | None:
        """Open for reading, beside a writer if need be; None when there is no journal yet.

        Args:
            damaged: take a damaged one, too, for `verify`.
            still: also where this process may not write to the directory and nobody has the
                journal open. What a writer does from then on is not seen: `places.stamp_of` before
                and after tells of one.
        """
        path = state_dir / FILE
        try:
            if not path.is_symlink() and not path.exists():
                return None
        except OSError as error:
            raise JournalError(
                f"cannot be read: {error.strerror}",
                where=str(path),
                next_command="sudo mkupgrade status",
            ) from error
        require_own_directory(state_dir)
        own_file(path)
        with translated(path):
            schema.check_header(path)
            connection = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode=ro{_unwritten(path) if still else ''}",
                uri=True,
                isolation_level=None,
                check_same_thread=False,
            )
            try:
                connection.execute("PRAGMA trusted_schema=OFF")
                journal = cls(path, connection, readonly=True)
                if not damaged:
                    journal.refuse_damage()
                else:
                    with translated(path):
                        schema.check_tables(connection, path)
            except BaseException:
                connection.close()
                raise
            return journal

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def refuse_damage(self) -> None:
        """Raise JournalError unless the tables are ours (`schema.check_tables`) and the file is
        whole (`damage.find`)."""
        with translated(self.path):
            schema.check_tables(self._connection, self.path)
            found = damage.find(self._connection)
        if found is not None:
            raise damaged(self.path, found)

    # -- writing

    def take_over(self) -> None:
        """Read the chain's head again, once we have the lock: another process may have written
        before. And if an fsync of its failed, what we read would be lost by a reset, whatever
        our own fsyncs say: so its log is written again."""
        with translated(self.path):
            write_again(self.path.with_name(self.path.name + "-wal"))
        self.reload()

    def reload(self) -> None:
        """Read the chain's head."""
        with translated(self.path):
            row = self._connection.execute(
                "SELECT seq, hash FROM events ORDER BY seq DESC LIMIT 1"
            ).fetchone()
        self._seq, self._head = row or (0, GENESIS)

    def begin(self, transaction: str, graph: StepGraph, stamp: events.Stamp) -> events.Envelope:
        """Store the plan and the event `began`, durably, in one commit.

        Room for the rest of the transaction is reserved before, so that a disk that fills up
        meanwhile does not keep the way back from being written down.
        """
        text = "".join(graph.pieces())
        plan_digest = sha256(text.encode()).hexdigest()
        began = events.Began(
            name=graph.name,
            plan_digest=plan_digest,
            intent_digest=graph.intent_digest,
            driver=graph.driver,
        )
        try:
            with self._writing():
                reserve.reserve(self._connection, self.path, len(graph.steps))
        except JournalError as error:
            error.state, error.next_command = "nothing was changed", df(self.path)
            raise
        envelope = self.stage(transaction, began, stamp)
        row = (transaction, graph.name, text, plan_digest, graph.intent_digest, stamp.time)
        self._write(("INSERT INTO transactions VALUES (?, ?, ?, ?, ?, ?)", row))
        self._known = {plan_digest: graph}
        return envelope

    def stage(self, transaction: str, event: events.Event, stamp: events.Stamp) -> events.Envelope:
        """Put an event behind the last one, in memory. Durable only after `commit`."""
        seq, head = self._seq + 1, self._head
        body = events.body(seq, transaction, stamp, event, head)
        digest = sha256(body.encode()).hexdigest()
        envelope = events.Envelope(
            seq=seq, transaction=transaction, stamp=stamp, event=event, prev_hash=head, hash=digest
        )
        self._seq, self._head = seq, digest
        self._staged.append(envelope)
        self._rows.append((seq, transaction, event.type, body, digest))
        return envelope

    def commit(self) -> list[events.Envelope]:
        """Make all staged events durable, in one commit, and return them.

        Raises:
            JournalError: they may or may not be durable; this journal writes no more.
        """
        return self._write(None) if self._staged else []

    def _write(self, first: tuple[str, tuple[Any, ...]] | None) -> list[events.Envelope]:
        staged, rows = self._staged, self._rows
        self._staged, self._rows = [], []
        with self._writing():
            run = self._connection.execute
            if first is None and len(rows) <= MOST_AT_ONCE:
                # A statement is a transaction of its own: two calls less.
                run(_INSERT[len(rows)], tuple(chain.from_iterable(rows)))
            else:
                run("BEGIN IMMEDIATE")
                if first is not None:
                    run(*first)
                self._connection.executemany(_INSERT[1], rows)
                run("COMMIT")
        if staged[-1].event.type in anchor.KEPT:
            anchor.advance(self.state_dir, self._seq, self._head, self._hash_of)
        return staged

    def _writing(self) -> _Writing:
        """Around whatever writes.

        Raises:
            JournalError: nothing may be written (any more), or what is inside failed.
        """
        if self.readonly:
            raise JournalError("the journal was opened for reading only", where=str(self.path))
        if self._broken is not None:
            raise unwritable(self.path, f"it failed before ({self._broken})")
        if self._inodes is not None and inodes_of(*self._files) != self._inodes:
            self._broken = "it is no longer in its place"
            raise gone(self.path)
        return self._guard

    def _break(self, why: str) -> JournalError:
        """From here on nothing more is written."""
        self._broken = why
        return unwritable(self.path, why)
