"""Room on the disk for the whole transaction, taken before its first effect.

Workloads must not stay down because the disk filled up and the revert could not be written.
SQLite keeps the room once it has it, as long as the file is open or the process was killed:
the WAL is written from its start again after a checkpoint, and pages of deleted rows are used
before the database grows (https://www.sqlite.org/wal.html#avoiding_excessively_large_wal_files).
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

CHECKPOINT_PAGES = 256
"""The WAL is copied into the database when it has grown to this (1 MiB)."""
WAL_BYTES = 3 * 2**19
"""Half as much again as that, for readers that hold the checkpoint up."""
BYTES_PER_STEP = 8 * 2**10
"""Intended, performed and their like, twice: there and back."""
MOST = 256 * 2**20
TABLE = "CREATE TABLE reserve (ballast BLOB)"


def reserve(connection: sqlite3.Connection, path: Path, steps: int) -> None:
    """Grow the database at `path` and its WAL; raises sqlite3.Error when there is no room."""
    room = min(max(WAL_BYTES, steps * BYTES_PER_STEP), MOST)
    free = connection.execute("PRAGMA freelist_count").fetchone()[0]
    page = connection.execute("PRAGMA page_size").fetchone()[0]
    if free * page >= room and _size(path.with_name(path.name + "-wal")) >= WAL_BYTES:
        return
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("DROP TABLE IF EXISTS reserve")  # of a process that died before it did
    connection.execute(TABLE)
    connection.execute("INSERT INTO reserve VALUES (zeroblob(?))", (room,))
    connection.execute("COMMIT")
    connection.execute("PRAGMA wal_checkpoint(FULL)")
    connection.execute("DROP TABLE reserve")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
