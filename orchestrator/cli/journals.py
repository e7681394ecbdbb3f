"""Looking into the journal without disturbing whoever writes it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.cli.next_command import as_root
from orchestrator.model.errors import ErrorClass, MkupgradeError

if TYPE_CHECKING:
    from orchestrator.cli.render.progress import Teller
    from orchestrator.engine.journal import Journal
    from orchestrator.engine.report import TransactionReport

POLL = 0.25
"""Seconds between looks at a transaction that another process runs."""
PATIENCE = 2.0
"""Seconds without a holder of the lock after which nobody runs the transaction any more."""


@contextmanager
def reading(
    state_dir: Path, *, damaged: bool = False, still: bool = False
) -> Iterator[Journal | None]:
    """The journal, opened for reading; None: there is none yet. `damaged`, `still`: as
    `Journal.open_readonly`."""
    from orchestrator.engine.journal import Journal

    refuse_if_closed(state_dir)
    journal = Journal.open_readonly(state_dir, damaged=damaged, still=still)
    try:
        yield journal
    finally:
        if journal is not None:
            journal.close()


def refuse_if_closed(state_dir: Path) -> None:
    """Say what an ordinary user can do about a state directory that is closed to them.

    Raises:
        MkupgradeError
    """
    try:
        there = os.path.lexists(state_dir) or not os.access(state_dir.parent, os.X_OK)
        closed = there and not os.access(state_dir, os.R_OK | os.X_OK, effective_ids=True)
        if not closed or not state_dir.is_dir():
            return
        owner = state_dir.stat().st_uid
    except PermissionError:
        owner = 0
    except OSError:
        return
    whose = "root" if owner == 0 else f"user {owner}"
    raise MkupgradeError(
        f"the state directory is closed to all but {whose}",
        where=str(state_dir),
        state="nothing was changed",
        next_command=as_root(),
        error_class=ErrorClass.REFUSED,
    )


def last_report(state_dir: Path) -> dict[str, Any]:
    """The last transaction's report, as `report --json` prints it; {}: there was none.

    Raises:
        JournalError: the journal cannot be read.
    """
    from orchestrator.cli.render.view import report_json, view_of
    from orchestrator.engine.queries import report_of

    with reading(state_dir) as journal:
        known = journal.transactions() if journal is not None else []
        if journal is None or not known:
            return {}
        name = known[-1].id
        return report_json(view_of(report_of(journal, name), journal.plan(name)[0]))


def find(journal: Journal | None, given: str | None, state_dir: Path) -> str:
    """The transaction that is meant: an id, the beginning of one, or by default the last.

    Raises:
        MkupgradeError: there is none, or more than one.
    """
    known = [t.id for t in journal.transactions()] if journal is not None else []
    if given is None and known:
        return known[-1]
    matches = [t for t in known if given is not None and t.startswith(given)]
    if given in matches:
        return given
    if len(matches) == 1:
        return matches[0]
    if not known:
        what = "there has been no transaction yet"
    elif matches:
        what = f'"{given}" could be any of {", ".join(matches[:5])}'
    else:
        what = f'there is no transaction "{given}"'
    raise MkupgradeError(
        what,
        where=str(state_dir),
        state="nothing was changed",
        next_command="mkupgrade history",
        error_class=ErrorClass.INVALID,
    )


def follow(
    state_dir: Path,
    transaction: str,
    teller: Teller,
    *,
    after: int = 0,
    at_work: Callable[[], bool] = lambda: False,
) -> TransactionReport:
    """Tell the events of a transaction that another process runs, until it ends, stands still,
    or nobody runs it any more.

    Args:
        after: number of the last event that is not told any more.
        at_work: asked where nobody holds the lock: is somebody there who will, or did just now?
    """
    from orchestrator.engine.lock import current_holder
    from orchestrator.engine.queries import report_of

    seen, alone_since = after, None
    with reading(state_dir) as journal, teller:
        if journal is None:
            find(journal, transaction, state_dir)
            raise AssertionError  # `find` has raised
        while True:
            holder = current_holder(state_dir)
            for envelope in journal.log(transaction):
                if envelope.seq > seen:
                    seen = envelope.seq
                    teller.event(envelope)
            report = report_of(journal, transaction)
            if (holder is not None and holder.transaction in {transaction, None}) or at_work():
                alone_since = None
            else:
                alone_since = alone_since or time.monotonic()
                over = report.outcome is not None or report.interrupted
                if over or time.monotonic() - alone_since > PATIENCE:
                    return report
            time.sleep(POLL)
