"""The journal's SQLite file: how it is made, and how it is told from any other file.

Everything here happens before the file is opened for writing.
"""

from __future__ import annotations

import os
import shlex
import sqlite3
from pathlib import Path

from orchestrator.engine import reserve
from orchestrator.engine.places import own_file, sync_directory
from orchestrator.model.errors import JournalError

APPLICATION_ID = 0x6D6B7570  # "mkup"
VERSION = 1
HEADER = 100

TABLES = """
CREATE TABLE transactions (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    plan TEXT NOT NULL,
    plan_digest TEXT NOT NULL,
    intent_digest TEXT NOT NULL,
    started REAL NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX transactions_by_intent ON transactions (intent_digest);
CREATE TABLE events (
    seq INTEGER PRIMARY KEY,
    tx TEXT NOT NULL,
    type TEXT NOT NULL,
    body TEXT NOT NULL,
    hash TEXT NOT NULL
) STRICT;
CREATE INDEX events_by_transaction ON events (tx, seq);
"""


def ensure_file(path: Path) -> None:
    """Make an empty journal at `path` unless there is one; check the one that is there.

    It is made under another name and then renamed, so that a crash leaves all or nothing. It is in
    WAL mode before that: the change of mode goes through a rollback journal, and a reader cannot
    open a file beside which a cut of power has left one of those.
    """
    if path.is_symlink() or path.exists():
        own_file(path)
        check_header(path)
        return
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    os.close(os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_WRONLY, 0o600))
    connection = sqlite3.connect(fresh, isolation_level=None)
    try:
        make_tables(connection)
        connection.execute("PRAGMA journal_mode=WAL")
    finally:
        connection.close()
    fresh.rename(path)
    sync_directory(path.parent)


def make_tables(connection: sqlite3.Connection) -> None:
    """Make an empty database a journal, durably and in one commit."""
    connection.execute("PRAGMA synchronous=EXTRA")
    connection.execute("BEGIN IMMEDIATE")
    connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version={VERSION}")
    for statement in TABLES.split(";"):
        connection.execute(statement)
    connection.execute("COMMIT")


def check_tables(connection: sqlite3.Connection, path: Path) -> None:
    """Raise JournalError unless the tables are those above and nothing else: a view or a trigger
    in their place would have us read, or do, what somebody else wrote down."""
    expected = {statement.strip() for statement in TABLES.split(";") if statement.strip()}
    for kind, name, made_by in connection.execute("SELECT type, name, sql FROM sqlite_master"):
        if made_by in expected:
            expected.remove(made_by)
        elif not (
            (kind, made_by) == ("index", None)  # what PRIMARY KEY makes of itself
            or made_by == reserve.TABLE
        ):
            raise _not_ours(path, f"{kind} {name} in it was not made by us")
    if expected:
        raise _not_ours(path, "a table or an index is missing")


def check_header(path: Path) -> None:
    """Raise JournalError unless the file is a journal of a version that we know.

    Read from the file itself (https://www.sqlite.org/fileformat.html, 1.3): opening a foreign
    database with SQLite might already change it.
    """
    with path.open("rb") as file:
        head = file.read(HEADER)
    if len(head) < HEADER or head[:16] != b"SQLite format 3\x00":
        raise _not_ours(path, "it is not an SQLite database")
    if int.from_bytes(head[68:72], "big") != APPLICATION_ID:
        raise _not_ours(path, "it belongs to another program")
    version = int.from_bytes(head[60:64], "big")
    if version != VERSION:
        raise _not_ours(
            path, f"it has format version {version}; this mkupgrade knows version {VERSION}"
        )


def _not_ours(path: Path, why: str) -> JournalError:
    return JournalError(
        f"this file is not a journal that can be used: {why}",
        where=str(path),
        state="nothing was changed",
        next_command=f"ls -l {shlex.quote(str(path.parent))}",
    )
