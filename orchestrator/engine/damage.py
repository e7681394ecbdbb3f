"""Is the file whole? Asked at every opening, before a word of it is believed.

SQLite keeps no checksums: a flipped bit in an index hides an event, one in the list of free pages
has events written over others later. So its own check runs (`PRAGMA integrity_check`: records,
indexes, and that each page is used once), and what our hashes do not cover is held to what they
do. Takes 0.2 ms for some hundred events, half a second for 100,000.
"""

from __future__ import annotations

import sqlite3
from hashlib import sha256
from typing import Any

from orchestrator.model.base import read_json

_FIRST_EVENTS = """
SELECT t.id, t.name, t.plan_digest, t.intent_digest, t.started, e.body, e.hash
FROM transactions t LEFT JOIN events e
ON e.seq = (SELECT seq FROM events WHERE tx = t.id ORDER BY seq LIMIT 1)
"""


def find(connection: sqlite3.Connection) -> str | None:
    """What is wrong with the file; None: nothing that can be told without reading every event.

    Raises:
        sqlite3.Error: it cannot even be looked at.
    """
    [said] = connection.execute("PRAGMA integrity_check(1)").fetchone()
    if said != "ok":
        return str(said).removeprefix("*** in database main ***\n")
    count, last = connection.execute("SELECT count(*), max(seq) FROM events").fetchone()
    if count != (last or 0):
        return f"there are {count} events, and the last has number {last}"
    for *line, body, digest in connection.execute(_FIRST_EVENTS):
        said = _said(body) if is_whole(body, digest) else None
        if line != said:
            named = [
                n for n, one, other in zip(_NAMES, line, said or (), strict=False) if one != other
            ]
            which = f" ({', '.join(named)})" if named else ""
            return f"the line of transaction {line[0]} does not fit its first event{which}"
    return None


_NAMES = ("id", "name", "plan_digest", "intent_digest", "started")


def is_whole(body: object, digest: object) -> bool:
    """The text of an event is the one that was hashed."""
    return isinstance(body, str) and sha256(body.encode()).hexdigest() == digest


def _said(body: str) -> list[Any] | None:
    """What the event `began` says of the line in `transactions`; None: it is no such event. A hash
    proves nothing against somebody who can write one."""
    try:
        content = read_json(body)
        event = content["event"]
        names = ("name", "plan_digest", "intent_digest")
        return [content["transaction"], *(event[n] for n in names), content["stamp"]["time"]]
    except (ValueError, KeyError, TypeError):
        return None
