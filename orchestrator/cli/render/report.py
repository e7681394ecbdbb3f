"""The report as text: short after an apply, whole for `mkupgrade report`."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, TextIO, cast

from rich.table import Table

from orchestrator.cli.next_command import complete
from orchestrator.cli.render.spans import count, moment, span
from orchestrator.cli.render.text import Trimmed, console, text
from orchestrator.cli.render.view import (
    Row,
    View,
    generations,
    kernels,
    missed,
    outcome_tone,
    outcome_word,
)
from orchestrator.model.steps import Section

if TYPE_CHECKING:
    from rich.console import Console

STYLES = {"good": "bold green", "back": "bold yellow", "bad": "bold red", "open": "bold cyan"}
_LOOKS = {"failed": "red", "reverted": "yellow", "open": "cyan", "jump": "magenta"}


def show_short(out: Console, view: View) -> None:
    """What became of it, the blackout of each workload, and what to do next."""
    out.print()
    _workloads(out, view)
    _told(out, view)
    _why(out, view)
    out.print(text((last_line(view), STYLES[outcome_tone(view.report)])))
    command = view.report.next_command
    if command:
        out.print(text("Next: ", (complete(command), "cyan")))
    else:
        command = complete(f"mkupgrade report {view.report.transaction}")
        out.print(text((f"Every step: {command}", "dim")))


def show_report(out: Console, view: View) -> None:
    """Everything: steps with attempts and durations, kernels, blackouts, what was undone."""
    report = view.report
    out.print(
        text((report.name, "bold"), f" on {view.host} (driver {report.driver}), transaction ",
             (report.transaction, "bold"))
    )  # fmt: skip
    ended = f", ended {moment(report.ended)}" if report.ended else ""
    out.print(text(f"began {moment(report.started)}{ended}"))
    for section in Section:
        rows = [r for r in view.rows if r.step.section is section]
        if rows:
            out.print()
            out.print(text((f"Section {section.value}", "bold")))
            out.print(_steps(rows, view.start))
    out.print()
    out.print(text(("Kernels seen", "bold")))
    for boot in report.boots:
        out.print(text(f"  Linux {boot.release}", (f"  boot {boot.boot_id}", "dim")))
    out.print()
    _workloads(out, view)
    _told(out, view)
    _why(out, view)
    out.print(text((last_line(view), STYLES[outcome_tone(report)])))
    if report.next_command:
        out.print(text("Next: ", (complete(report.next_command), "cyan")))


def last_line(view: View) -> str:
    """ "Committed: Linux 7.2.13 -> 7.3.4 in 42 s; blackout 8.2 s (counter).", or of instances
    "Committed: 3 new generations (Linux 7.1.0) in 42 s; …" """
    report = view.report
    word = outcome_word(report).capitalize()
    path = generations(view) or f"Linux {' -> '.join(kernels(report))}"
    wanted = missed(view)
    if wanted is not None and report.outcome is not None:
        path += f" (never reached {wanted})"
    worst = max(view.workloads, key=lambda w: w.blackout.seconds, default=None)
    dark = worst.blackout.seconds if worst else report.blackout
    blackout = f"; blackout {span(dark)}" + (f" ({worst.name})" if worst and dark else "")
    return f"{word}: {path} in {span(view.worked)}{blackout}."


def _steps(rows: list[Row], start: float) -> Table:
    table = Table(box=None, padding=(0, 1), show_header=True, header_style="dim")
    table.add_column("", justify="right", style="dim")
    table.add_column("step")
    table.add_column("state")
    for name in ("began", "took", "expected"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        look = row.bars[-1].look
        style = _LOOKS.get(look, "")
        tries = row.tries
        state = row.step.state + (f", {count(tries, 'attempt')}" if tries > 1 else "")
        strong = "bold magenta" if row.pivot else "bold" if row.commit else ""
        table.add_row(
            str(row.number),
            text((row.step.title, strong), ("  pivot" if row.pivot else "", "magenta")),
            text((state, style)),
            f"+{span((row.step.started or start) - start)}",
            span(row.seconds),
            text((span(row.step.estimate), "dim")),
        )
    return table


def _workloads(out: Console, view: View) -> None:
    stood = [w for w in view.workloads if w.blackout.windows]
    if not stood:
        return
    grid = Table.grid(padding=(0, 2), pad_edge=True)
    for workload in stood:
        parts = [span(w.seconds) if w.seconds is not None else "not restored"
                 for w in workload.blackout.windows]  # fmt: skip
        times = f"{' + '.join(parts)}" if len(parts) > 1 else ""
        still = any(w.until is None for w in workload.blackout.windows)
        total = ("not restored", "bold red") if still else (span(workload.blackout.seconds), "bold")
        grid.add_row(
            text(workload.name), text(total), text((workload.how, "dim")), text((times, "dim"))
        )
    out.print(text(("Blackout, from checkpoint to restore", "bold")))
    out.print(grid)
    out.print()


def _told(out: Console, view: View) -> None:
    told = view.told
    for title, line in told[:40]:
        out.print(text(("  · ", "dim"), line, (f"  ({title})", "dim")))
    if len(told) > 40:
        out.print(text((f"  · {len(told) - 40} more in `mkupgrade report --json`", "dim")))
    if told:
        out.print()


def _why(out: Console, view: View) -> None:
    report = view.report
    tone = outcome_tone(report)
    cause = report.rollback_cause if tone != "good" else None
    if cause or (tone != "good" and report.reason):
        out.print(text(("Why: ", "bold"), cause or report.reason))
        if cause and report.reason and report.reason != cause:
            out.print(text(f"     {report.reason}"))
    for row, attempt in view.failures[-5:]:
        error = attempt.error or {}
        where = f" ({error['where']})" if error.get("where") else ""
        out.print(text(("  ✗ ", "red"), f"{row.step.title}: {error.get('what', '')}{where}"))
        details = error.get("details")
        for line in (details if isinstance(details, list) else [])[-10:]:
            out.print(text(f"      {line}"))
    if view.reverted:
        undone = ", ".join(r.step.title for r in view.reverted[:20])
        out.print(text(("  ↩ ", "yellow"), f"undone: {undone}"))
    if cause or view.failures or view.reverted:
        out.print()


def report_text(view: View, stream: TextIO | None) -> str:
    """The whole report as text, with colours if `stream` is a terminal; None: for a file."""
    made = io.StringIO()
    target = console(stream or made)
    target.file = cast(TextIO, Trimmed(made))
    show_report(target, view)
    return made.getvalue()
