"""Reading the journal: what is read is held to its hash, and to what stands around it, first."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from orchestrator.engine import anchor, damage, events
from orchestrator.engine.troubles import damaged, translated
from orchestrator.engine.verify import Verified, verify
from orchestrator.model.base import Record, json_string
from orchestrator.model.errors import MkupgradeError
from orchestrator.model.steps import StepGraph

ROWS_AT_ONCE = 256


class StoredTransaction(Record):
    """A row of `transactions`, without the plan."""

    id: str
    name: str
    plan_digest: str
    intent_digest: str
    started: float


class Reading:
    """The half of `journal.Journal` that changes nothing."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self.state_dir = path.parent
        self._connection = connection
        self._known: dict[str, StepGraph] = {}
        """The plan that was written or read last, by its digest."""

    def transactions(self) -> list[StoredTransaction]:
        """All transactions, oldest first."""
        rows = self._read(
            "SELECT id, name, plan_digest, intent_digest, started FROM transactions"
            " ORDER BY started, id"
        )
        names = ("id", "name", "plan_digest", "intent_digest", "started")
        return [StoredTransaction(**dict(zip(names, row, strict=True))) for row in rows]

    def length(self) -> int:
        """How many events there are, of all transactions."""
        return int(self._read("SELECT COALESCE(MAX(seq), 0) FROM events")[0][0])

    def plan(self, transaction: str) -> tuple[StepGraph, str]:
        """The stored plan and its digest. The last one that was written or read is kept; its
        text is held to the digest again, but not read into a graph again."""
        rows = self._read("SELECT plan, plan_digest FROM transactions WHERE id = ?", transaction)
        if not rows:
            raise MkupgradeError(
                f'the journal knows no transaction "{transaction}"',
                where=str(self.path),
                state="nothing was changed",
                next_command="mkupgrade history",
            )
        text, plan_digest = rows[0]
        if not damage.is_whole(text, plan_digest):
            raise damaged(self.path, f"the plan of transaction {transaction} was changed")
        if plan_digest not in self._known:
            try:
                self._known = {plan_digest: StepGraph.model_validate_json(text)}
            except ValidationError as error:
                raise damaged(
                    self.path, f"the plan of transaction {transaction} cannot be read{_at(error)}"
                ) from error
        return self._known[plan_digest], plan_digest

    def log(self, transaction: str) -> Iterator[events.Envelope]:
        """The events of one transaction, in order. Each is held to its own hash, to the event
        before it, whosever that is, and the first to the plan; none may have been put elsewhere.

        Read as they are asked for: those of 100,000 steps are 100 MB.
        """
        first = True
        for seq, body, digest, before, plan_digest in self._rows_of(transaction):
            if first:
                self._refuse_strays(transaction, seq)
                first = False
            envelope = _envelope(self.path, transaction, seq, body, digest)
            if envelope.prev_hash != before:
                raise damaged(self.path, f"event {seq} does not follow the one before it")
            began = envelope.event
            if isinstance(began, events.Began) and began.plan_digest != plan_digest:
                raise damaged(self.path, f"the plan of transaction {transaction} was exchanged")
            yield envelope

    def _rows_of(self, transaction: str) -> Iterator[tuple[int, str, str, str, str]]:
        """What `log` reads: number, body, hash, hash of the event before, digest of the plan."""
        with translated(self.path):
            rows = self._connection.execute(_LOG, (transaction,))
        while True:
            with translated(self.path):
                some = list(islice(rows, ROWS_AT_ONCE))
            if not some:
                return
            yield from some

    def _refuse_strays(self, transaction: str, first: int) -> None:
        """An event whose row names another transaction than its text would not be missed."""
        end = f'"transaction":{json_string(transaction)}}}'
        strays = self._read(
            "SELECT seq FROM events WHERE seq > ? AND tx != ? AND substr(body, ?) = ? LIMIT 1",
            first, transaction, -len(end), end,
        )  # fmt: skip
        if strays:
            raise damaged(self.path, f"event {strays[0][0]} stands in the wrong place")

    def last(self, transaction: str) -> events.Envelope | None:
        """The last event of a transaction."""
        rows = self._read(
            "SELECT seq, body, hash FROM events WHERE tx = ? ORDER BY seq DESC LIMIT 1", transaction
        )
        return _envelope(self.path, transaction, *rows[0]) if rows else None

    def verify(self) -> Verified:
        """Walk the whole chain, hold every plan to the digest in its first event, and the end to
        the anchor.

        Raises:
            JournalError: journal or anchor cannot be read.
        """
        known = anchor.read(self.state_dir)
        with translated(self.path):
            return anchor.hold(verify(self._connection), known, self._hash_of)

    def _hash_of(self, seq: int) -> str | None:
        query = "SELECT hash FROM events WHERE seq = ?"
        with translated(self.path):
            row = self._connection.execute(query, (seq,)).fetchone()
        return row[0] if row else None

    def _read(self, query: str, *values: str | int) -> list[Any]:
        with translated(self.path):
            return self._connection.execute(query, values).fetchall()


_LOG = (
    "SELECT seq, body, hash, CASE seq WHEN 1 THEN printf('%064d', 0) ELSE"
    " (SELECT hash FROM events before WHERE before.seq = here.seq - 1) END,"
    " (SELECT plan_digest FROM transactions WHERE id = tx)"
    " FROM events here WHERE tx = ? ORDER BY seq"
)
"""Each event, the hash of the one before it in the journal, and the digest of its plan."""


def _at(error: ValidationError) -> str:
    """ " (steps.0.id: Field required)": the first thing that is wrong."""
    first = error.errors(include_url=False, include_input=False)[0]
    return f" ({'.'.join(str(part) for part in first['loc'])}: {first['msg']})"


def _envelope(path: Path, transaction: str, seq: int, body: str, digest: str) -> events.Envelope:
    """The event of a row, whose other columns say nothing that its text does not say."""
    if not damage.is_whole(body, digest):
        raise damaged(path, f"event {seq} was changed")
    try:
        envelope = events.parse(body, digest)
    except ValidationError as error:
        raise damaged(path, f"event {seq} cannot be read{_at(error)}") from error
    if (envelope.seq, envelope.transaction) != (seq, transaction):
        raise damaged(path, f"event {seq} stands in the wrong place")
    return envelope
