"""Proof of the journal: `mkupgrade history --verify`."""

from __future__ import annotations

import sqlite3

from orchestrator.engine import damage
from orchestrator.model.base import Record, read_json

GENESIS = "0" * 64
"""`prev_hash` of the first event."""


class Verified(Record):
    """What `verify` found. `bad_seq` names the first event that does not fit, if it is an event
    that does not."""

    events: int
    head: str
    """Hash of the last good event."""
    bad_seq: int | None = None
    problem: str | None = None
    note: str | None = None
    """What could not be looked at."""


def verify(connection: sqlite3.Connection) -> Verified:
    """Walk the chain from the first event; stop at the first that does not fit.

    A changed, added, removed or exchanged event is found, and so is a changed plan, and damage
    to the file beside them (`damage.find`). A journal cut off at its end is whole in itself:
    see `anchor`.
    """
    head, count = GENESIS, 0
    try:
        plans = {
            row[0]: row[1] if damage.is_whole(row[2], row[1]) else None
            for row in connection.execute("SELECT id, plan_digest, plan FROM transactions")
        }
        for row in connection.execute("SELECT seq, tx, type, body, hash FROM events ORDER BY seq"):
            problem = _problem(row, head, plans)
            if problem:
                return Verified(events=count, head=head, bad_seq=row[0], problem=problem)
            head, count = row[4], count + 1
        if plans:
            unknown = ", ".join(sorted(plans))
            problem = f"transactions without a first event: {unknown}"
            return Verified(events=count, head=head, bad_seq=count + 1, problem=problem)
        return Verified(events=count, head=head, problem=damage.find(connection))
    except (sqlite3.Error, UnicodeDecodeError) as error:
        problem = f"the file cannot be read on: {error}"
        return Verified(events=count, head=head, bad_seq=count + 1, problem=problem)


def _problem(
    row: tuple[int, str, str, str, str],
    head: str,
    plans: dict[str, str | None],
) -> str | None:
    """Why the event does not fit behind `head`. Takes the plan of a `began` off `plans`."""
    seq, tx, kind, body, digest = row
    if not damage.is_whole(body, digest):
        return "its text does not match its hash"
    try:
        content = read_json(body)
        event = content["event"]
        if content["prev_hash"] != head:
            return "it does not follow the event before it"
        said = {"seq": content["seq"], "tx": content["transaction"], "type": event["type"]}
        for column, value in {"seq": seq, "tx": tx, "type": kind}.items():
            if said[column] != value:
                return f"its {column} is {value!r} in the table, {said[column]!r} in its text"
        if kind == "began" and plans.pop(tx, None) != event["plan_digest"]:
            return f"the stored plan of transaction {tx} is missing or was changed"
    except (ValueError, KeyError, TypeError):
        return f"event {seq} is not in our format"
    return None
