"""The journal as text: transactions, and the events of one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich.table import Table

from orchestrator.cli.render.events import Narrator
from orchestrator.cli.render.progress import parts_of
from orchestrator.cli.render.spans import moment, span
from orchestrator.cli.render.status import STYLES
from orchestrator.cli.render.text import text
from orchestrator.cli.terminal import speaks_unicode

if TYPE_CHECKING:
    from rich.console import Console

    from orchestrator.engine.events import Envelope
    from orchestrator.engine.report import Summary
    from orchestrator.model.steps import StepGraph


def show_transactions(out: Console, found: list[Summary]) -> None:
    """One line each, oldest first."""
    if not found:
        out.print(text("There has been no transaction yet."))
        return
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("transaction", "began", "took", "outcome", "name", "why"):
        table.add_column(name, no_wrap=name not in {"name", "why"})
    for s in found:
        outcome = s.outcome.value if s.outcome else "unfinished"
        style = STYLES[s.outcome] if s.outcome else "bold cyan"
        why = s.reason if s.reason != outcome else ""
        took = span(s.ended - s.started) if s.ended else ""
        table.add_row(
            text((s.transaction, "bold")), moment(s.started), took, text((outcome, style)),
            text(s.name), text((why, "dim")),
        )  # fmt: skip
    out.print(table)


def show_events(out: Console, graph: StepGraph, log: Iterable[Envelope]) -> None:
    """Every event with its number, time and kernel; those without words of their own by type."""
    narrator = Narrator(graph)
    unicode = speaks_unicode(out.file)  # type: ignore[arg-type]
    for envelope in log:
        when = moment(envelope.time)
        head = text((f"{envelope.seq:>6} {when} {envelope.stamp.release:<12}", "dim"))
        line = narrator.line(envelope, announce=True)
        if line is not None:
            out.print(head.append_text(text(*parts_of(line, unicode=unicode))))
            continue
        step = getattr(envelope.event, "step", "")
        out.print(head.append_text(text((f"   {envelope.event.type} {step}", "dim"))))
