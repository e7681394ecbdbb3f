"""A host's journal in numbers, for monitoring: looked at when it is asked for, and nothing is
written. The names and what they mean: docs/metrics.md."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator import __version__
from orchestrator.model.base import Record
from orchestrator.model.errors import MkupgradeError
from orchestrator.model.outcomes import Outcome

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric

    from orchestrator.engine.journal import Journal

_TRIES = 5
"""Looks at a journal that is written to meanwhile."""


class Last(Record):
    """The last transaction that has ended; times in Unix seconds."""

    transaction: str
    outcome: Outcome
    started: float
    ended: float
    blackout: float
    """Seconds, as measured: docs/reports.md."""


class Numbers(Record):
    version: str = __version__
    release: str
    """Of the kernel that runs."""
    transactions: dict[str, int]
    """By outcome, each of them."""
    last: Last | None = None
    unfinished: str | None = None
    waiting: bool = False
    """The unfinished one waits for the operator."""
    offers_pending: int = 0
    journal_events: int = 0


def look(state_dir: Path) -> Numbers:
    """The numbers of a host, also where its state directory cannot be written to.

    Raises:
        MkupgradeError: the journal cannot be read.
    """
    from orchestrator.engine.journal import FILE
    from orchestrator.engine.places import stamp_of

    path = state_dir / FILE
    for _ in range(_TRIES - 1):
        before = stamp_of(path)
        with suppress(MkupgradeError):
            found = _look(state_dir)
            if stamp_of(path) == before:
                return found
    return _look(state_dir)


def _look(state_dir: Path) -> Numbers:
    from orchestrator.cli.journals import reading
    from orchestrator.cli.wiring import identity_at, runs_multikernel

    counts: dict[str, int] = dict.fromkeys((o.value for o in Outcome), 0)
    with reading(state_dir, still=True) as journal:
        release = identity_at(state_dir).release
        found = Numbers(release=release, transactions=counts)
        if journal is not None:
            found = _count(journal, found)
    if (state_dir / "offers").is_dir():
        from orchestrator.cli.offered import waiting

        running = None if runs_multikernel() else release
        pending = len(waiting(state_dir, running, still=True))
        found = found.model_copy(update={"offers_pending": pending})
    return found


def _count(journal: Journal, found: Numbers) -> Numbers:
    from orchestrator.engine.queries import history, report_of

    counts, last, unfinished = dict(found.transactions), None, None
    for summary in history(journal):
        if summary.outcome is None or summary.ended is None:
            unfinished = summary.transaction
            continue
        counts[summary.outcome.value] += 1
        last = Last(
            transaction=summary.transaction,
            outcome=summary.outcome,
            started=summary.started,
            ended=summary.ended,
            blackout=0.0,
        )
    if last is not None:
        blackout = report_of(journal, last.transaction).blackout
        last = last.model_copy(update={"blackout": blackout})
    return found.model_copy(
        update={
            "transactions": counts,
            "last": last,
            "unfinished": unfinished,
            "waiting": unfinished is not None and report_of(journal, unfinished).waiting,
            "journal_events": journal.length(),
        }
    )


class Collector:
    """For a registry of prometheus_client: looks anew at each scrape."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir

    def collect(self) -> Iterator[Metric]:
        yield from _families(look(self._state_dir))

    def describe(self) -> list[Metric]:
        """Which names there are, without a look: for `?name[]=` of a scrape."""
        return list(_families(Numbers(release="", transactions={})))


def registry(state_dir: Path) -> CollectorRegistry:
    """One that has the numbers of this host and nothing of the process that asks."""
    from prometheus_client import CollectorRegistry

    found = CollectorRegistry(auto_describe=False)
    found.register(Collector(state_dir))
    return found


def text(state_dir: Path) -> bytes:
    """The numbers in Prometheus' text format, version 0.0.4.

    Raises:
        MkupgradeError: as `look`.
    """
    from prometheus_client import generate_latest

    return generate_latest(registry(state_dir))


def _families(found: Numbers) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    def gauge(name: str, help_text: str, value: float) -> Metric:
        return GaugeMetricFamily(f"mkupgrade_{name}", help_text, value=value)

    def labelled(name: str, help_text: str, label: str, values: dict[str, float]) -> Metric:
        family = GaugeMetricFamily(f"mkupgrade_{name}", help_text, labels=[label])
        for key, value in values.items():
            family.add_metric([key], value)
        return family

    last = found.last
    outcomes: dict[str, float] = {
        outcome: float(last is not None and last.outcome == outcome)
        for outcome in found.transactions
    }
    yield labelled(
        "build_info", "The mkupgrade that looked, as a label.", "version", {found.version: 1.0}
    )
    yield labelled(
        "kernel_info", "The kernel that runs, as a label.", "release", {found.release: 1.0}
    )
    yield labelled(
        "transactions",
        "Transactions of the journal that have ended, by outcome.",
        "outcome",
        {outcome: float(count) for outcome, count in found.transactions.items()},
    )
    yield labelled(
        "last_transaction_outcome",
        "1 for the outcome of the transaction that ended last.",
        "outcome",
        outcomes,
    )
    yield gauge(
        "last_transaction_start_timestamp_seconds",
        "When the transaction that ended last began; 0: there was none.",
        last.started if last else 0.0,
    )
    yield gauge(
        "last_transaction_end_timestamp_seconds",
        "When the transaction that ended last ended; 0: there was none.",
        last.ended if last else 0.0,
    )
    yield gauge(
        "last_transaction_duration_seconds",
        "From its first event to its last.",
        last.ended - last.started if last else 0.0,
    )
    yield gauge(
        "last_transaction_blackout_seconds",
        "How long workloads stood still in it, as measured.",
        last.blackout if last else 0.0,
    )
    yield gauge(
        "transaction_unfinished",
        "1 while a transaction has begun and not ended.",
        float(found.unfinished is not None),
    )
    yield gauge(
        "transaction_waiting",
        "1 while the unfinished transaction waits for the operator.",
        float(found.waiting),
    )
    yield gauge(
        "offers_pending",
        "Kernels that packages have brought, and nobody has applied.",
        float(found.offers_pending),
    )
    events = CounterMetricFamily("mkupgrade_journal_events", "Events in the journal.")
    events.add_metric([], float(found.journal_events))
    yield events
