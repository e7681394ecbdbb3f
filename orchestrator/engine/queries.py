"""Questions to a journal, open for reading or writing: status, history, reports."""

from __future__ import annotations

from orchestrator.engine import events
from orchestrator.engine.journal import Journal
from orchestrator.engine.report import Summary, TransactionReport, report
from orchestrator.model.base import Record
from orchestrator.model.outcomes import Outcome


class RolledBack(Record):
    """An earlier transaction for the same upgrade that did not stay."""

    transaction: str
    name: str
    outcome: Outcome
    reason: str
    ended: float
    """Unix seconds."""


def report_of(journal: Journal, transaction: str) -> TransactionReport:
    """The report of one transaction, finished or not.

    Raises:
        MkupgradeError: there is no such transaction.
        JournalError: its plan or events were changed.
    """
    graph, plan_digest = journal.plan(transaction)
    return report(transaction, graph, plan_digest, journal.log(transaction))


def unfinished(journal: Journal) -> str | None:
    """The transaction that has begun and not ended, or None."""
    for stored in reversed(journal.transactions()):
        if _ended(journal, stored.id) is None:
            return stored.id
    return None


def unsettled(journal: Journal) -> str | None:
    """The last transaction, if it ended unknown or with an incomplete rollback: resumed by an
    operator who has looked, it is tried on. None: it ended well, or has not ended."""
    stored = journal.transactions()[-1:]
    ended = _ended(journal, stored[0].id) if stored else None
    if ended is None or not isinstance(ended.event, events.Ended):
        return None
    left_open = ended.event.outcome in {Outcome.UNKNOWN, Outcome.ROLLBACK_INCOMPLETE}
    return stored[0].id if left_open else None


def history(journal: Journal) -> list[Summary]:
    """All transactions, oldest first."""
    summaries = []
    for stored in journal.transactions():
        ended = _ended(journal, stored.id)
        end = ended.event if ended else None
        summaries.append(
            Summary(
                transaction=stored.id,
                name=stored.name,
                started=stored.started,
                ended=ended.time if ended else None,
                outcome=end.outcome if isinstance(end, events.Ended) else None,
                reason=end.reason if isinstance(end, events.Ended) else "",
                intent_digest=stored.intent_digest,
                plan_digest=stored.plan_digest,
            )
        )
    return summaries


def rolled_back_before(journal: Journal, intent_digest: str) -> RolledBack | None:
    """The last transaction for this upgrade, if it was rolled back, wholly or in part."""
    for stored in reversed(journal.transactions()):
        ended = _ended(journal, stored.id)
        if stored.intent_digest != intent_digest or ended is None:
            continue
        end = ended.event
        if not isinstance(end, events.Ended) or end.outcome is Outcome.COMMITTED:
            return None
        return RolledBack(
            transaction=stored.id,
            name=stored.name,
            outcome=end.outcome,
            reason=end.reason,
            ended=ended.time,
        )
    return None


def _ended(journal: Journal, transaction: str) -> events.Envelope | None:
    """The last event if it is an end: resumed after it, the transaction is open again."""
    last = journal.last(transaction)
    return last if last is not None and last.event.type == "ended" else None
