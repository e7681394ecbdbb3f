"""Proof of the journal: `mkupgrade history --verify`."""

from __future__ import annotations

import json
import sqlite3
from hashlib import sha256

from orchestrator.model.base import Record

GENESIS = "0" * 64
"""`prev_hash` of the first event."""


class Verified(Record):
    """What `verify` found. `bad_seq` names the first event that does not fit, if any."""

    events: int
    head: str
    """Hash of the last good event."""
    bad_seq: int | None = None
    problem: str | None = None
    note: str | None = None
    """What could not be looked at."""


def verify(connection: sqlite3.Connection) -> Verified:
    """Walk the chain from the first event; stop at the first that does not fit.

    A changed, added, removed or exchanged event is found, and so is a changed plan. A
    journal cut off at its end is whole in itself: see `anchor`.
    """
    plans = {
        row[0]: (row[1], sha256(row[2].encode()).hexdigest())
        for row in connection.execute("SELECT id, plan_digest, plan FROM transactions")
    }
    head, count = GENESIS, 0
    for seq, tx, kind, body, digest in connection.execute(
        "SELECT seq, tx, type, body, hash FROM events ORDER BY seq"
    ):
        problem = _problem((seq, tx, kind, body, digest), head, count + 1, plans)
        if problem:
            return Verified(events=count, head=head, bad_seq=seq, problem=problem)
        head, count = digest, count + 1
    if plans:
        unknown = ", ".join(sorted(plans))
        problem = f"transactions without a first event: {unknown}"
        return Verified(events=count, head=head, bad_seq=count + 1, problem=problem)
    return Verified(events=count, head=head)


def _problem(
    row: tuple[int, str, str, str, str],
    head: str,
    expected: int,
    plans: dict[str, tuple[str, str]],
) -> str | None:
    """Why the event does not fit behind `head`. Takes the plan of a `began` off `plans`."""
    seq, tx, kind, body, digest = row
    if sha256(body.encode()).hexdigest() != digest:
        return "its text does not match its hash"
    try:
        content = json.loads(body)
        event = content["event"]
        if content["prev_hash"] != head:
            return "it does not follow the event before it"
        if (content["seq"], content["transaction"], event["type"]) != (expected, tx, kind):
            return "its number, transaction or type was changed"
        if kind == "began":
            stored = plans.pop(tx, None)
            if stored != (event["plan_digest"], event["plan_digest"]):
                return f"the stored plan of transaction {tx} is missing or was changed"
    except (ValueError, KeyError, TypeError):
        return f"event {seq} is not in our format"
    return None
