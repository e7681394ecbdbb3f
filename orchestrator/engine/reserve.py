"""Room on the disk for the whole transaction, taken before its first effect.

Workloads must not stay down because the disk filled up and the revert could not be written.
SQLite keeps the room once it has it: the WAL is written from its start again after a
checkpoint, and pages of deleted rows are used before the file grows
(https://www.sqlite.org/wal.html#avoiding_excessively_large_wal_files).
"""

from __future__ import annotations

import sqlite3

WAL_BYTES = 6 * 2**20
"""1000 pages until a checkpoint, and half as many again for readers that hold it up."""
BYTES_PER_STEP = 8 * 2**10
"""Intended, performed and their like, twice: there and back."""
MOST = 256 * 2**20


def reserve(connection: sqlite3.Connection, steps: int) -> None:
    """Grow database and WAL; raises sqlite3.Error when there is no room, changing nothing."""
    room = min(WAL_BYTES + steps * BYTES_PER_STEP, MOST)
    pages = connection.execute("PRAGMA freelist_count").fetchone()[0]
    size = connection.execute("PRAGMA page_size").fetchone()[0]
    if pages * size >= room:
        return
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("CREATE TABLE reserve (ballast BLOB)")
    connection.execute("INSERT INTO reserve VALUES (zeroblob(?))", (room,))
    connection.execute("COMMIT")
    connection.execute("PRAGMA wal_checkpoint(FULL)")
    connection.execute("DROP TABLE reserve")
