"""The fast level of the journal's disk: SQLite in memory, a commit is there or it is not."""

from __future__ import annotations

import sqlite3
from functools import cache
from pathlib import Path
from typing import Any

from orchestrator.engine import reserve, schema
from orchestrator.engine.journal import Journal
from tests.crash.simulation import Simulation

ROWS = "SELECT seq, hash, type FROM events ORDER BY seq"


@cache
def _connection() -> sqlite3.Connection:
    """One for all schedules of this process: making the tables costs more than a schedule."""
    connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    schema.make_tables(connection)
    return connection


@cache
def _reader() -> Journal:
    return Journal(Path("/nowhere/journal.db"), _connection(), readonly=True)


class MemoryDisk:
    """A commit that failed at its fsync can be read, and is gone after a reset."""

    name = "memory"
    checkpoint_pages = reserve.CHECKPOINT_PAGES

    def __init__(self, sim: Simulation) -> None:
        self.sim = sim
        self.real = _connection()
        if self.real.in_transaction:
            self.real.rollback()
        self.real.execute("DELETE FROM events")
        self.real.execute("DELETE FROM transactions")
        self._dirty: int | None = None
        """The first event that no fsync has seen yet."""
        self._gone: int | None = None
        """The first event of which a fsync has failed: later ones know nothing of it."""

    def connect(self) -> MemoryDisk:
        """The connection of a new process (this very object)."""
        return self

    def kill(self) -> None:
        if self.real.in_transaction:
            self.real.rollback()

    def cut(self) -> None:
        self.kill()
        lost = min((n for n in (self._dirty, self._gone) if n is not None), default=None)
        if lost is not None:
            self.real.execute("DELETE FROM events WHERE seq >= ?", (lost,))
            if lost == 1:
                self.real.execute("DELETE FROM transactions")
        self._dirty = self._gone = None

    def write_again(self, path: Path) -> None:
        """All that can be read, so that the next fsync is told of it."""
        self._dirty = min((n for n in (self._dirty, self._gone) if n is not None), default=None)
        self._gone = None

    def rows(self) -> list[Any]:
        return self.real.execute(ROWS).fetchall()

    def reader(self) -> Journal:
        return _reader()

    # -- as the journal's connection

    @property
    def in_transaction(self) -> bool:
        return self.real.in_transaction

    def execute(self, sql: str, values: tuple[Any, ...] = ()) -> Any:
        if sql == "COMMIT":
            self._commit(self.sim.fault("journal", 0.3))
            return None
        if sql.startswith("INSERT") and not self.real.in_transaction:
            # A statement is a transaction of its own.
            fault = self.sim.fault("journal", 0.3)
            if fault is not None:
                self.real.execute("BEGIN")
            self.real.execute(sql, values)
            if fault is not None:
                self._commit(fault)
            else:
                self._dirty = None
            return None
        return self.real.execute(sql, values)

    def executemany(self, sql: str, rows: list[Any]) -> Any:
        return self.real.executemany(sql, rows)

    def close(self) -> None:
        pass

    def _commit(self, fault: str | None) -> None:
        match fault:
            case "die-before" | "die-lost":
                self.real.execute("ROLLBACK")
                self.sim.die()
            case "die-kept":
                self._dirty = self._commit_unsynced(self._dirty)
                self.sim.die()
            case "die-after":
                self._sync()
                self.sim.die()
            case "enospc":
                self.real.execute("ROLLBACK")
                raise sqlite3.OperationalError("database or disk is full")
            case "eio-write":
                self.real.execute("ROLLBACK")
                raise sqlite3.OperationalError("disk I/O error")
            case "eio-fsync":
                self._gone = self._commit_unsynced(self._gone)
                raise sqlite3.OperationalError("disk I/O error")
        self._sync()

    def _sync(self) -> None:
        self.real.execute("COMMIT")
        self._dirty = None

    def _commit_unsynced(self, first: int | None) -> int | None:
        """What is written can be read; the first event that a reset then takes."""
        known = self.sim.ledger.count
        self.real.execute("COMMIT")
        if first is None and self.sim.choices.chance(0.5):
            first = known + 1
        return first
