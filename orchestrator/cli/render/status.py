"""The standing of a host as text."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from orchestrator.cli.next_command import complete
from orchestrator.cli.render.plan import last_line
from orchestrator.cli.render.spans import moment, span
from orchestrator.cli.render.text import text
from orchestrator.cli.standing import Standing, of_section
from orchestrator.model.outcomes import Outcome

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from orchestrator.cli.offered import Offered
    from orchestrator.engine.report import Summary, TransactionReport

STYLES = {
    Outcome.COMMITTED: "green",
    Outcome.ROLLED_BACK: "yellow",
    Outcome.ROLLBACK_INCOMPLETE: "bold red",
    Outcome.UNKNOWN: "bold red",
}


def show_standing(out: Console, found: Standing) -> None:
    """Kernel, what runs, what is unfinished, what ended last, and what would happen next."""
    out.print(text(("Kernel   ", "dim"), (f"Linux {found.identity.release}", "bold")))
    proven = found.entered_by is None
    out.print(text("         ", (found.proof, "dim" if proven else "yellow")))
    if found.beside is not None:
        from orchestrator.cli.render.cpu_map import show_map

        show_map(out, found.beside, time.time())
    elif found.beside_error is not None:
        out.print(text(("Pool     ", "dim"), (f"not known: {found.beside_error.what}", "yellow")))
    _running(out, found)
    _last(out, found.last, found.state_dir)
    for offer in found.offers:
        _offered(out, offer)
    _next(out, found)


def _running(out: Console, found: Standing) -> None:
    holder, report = found.holder, found.unfinished
    if holder is not None:
        what = f" for transaction {holder.transaction}" if holder.transaction else ""
        words = f"mkupgrade {holder.verb}{what}, process {holder.pid}, holds the lock"
        out.print(text(("Running  ", "dim"), (words, "bold cyan")))
    else:
        out.print(text(("Running  ", "dim"), "nothing"))
    if report is not None:
        _unfinished(out, report, alone=holder is None)


def _unfinished(out: Console, report: TransactionReport, *, alone: bool) -> None:
    done, steps = of_section(report)
    way = "being undone" if report.reverting else f"section {report.section.value}"
    out.print(
        text("         ", (report.transaction, "bold"), f" {report.name}: {way}, "
             f"{done} of {len(steps)} steps performed")
    )  # fmt: skip
    for step in steps:
        if step.state in {"intended", "reverting"}:
            verb = "undoing" if step.state == "reverting" else "at"
            out.print(text(f"         {verb}: ", (step.title, "cyan")))
    if report.interrupted:
        word = "waits for you" if report.waiting else "stands still"
        out.print(text("         ", (f"{word}: {report.reason}", "yellow")))
    elif alone:
        out.print(text("         ", ("unfinished, and nobody is at work on it", "yellow")))
    if alone and report.next_command:
        out.print(text("         Next: ", (complete(report.next_command), "cyan")))


def _last(out: Console, last: Summary | None, directory: Path) -> None:
    if last is None or last.outcome is None:
        out.print(text(("Last     ", "dim"), f"no transaction has ended here yet ({directory})"))
        return
    took = f", {span(last.ended - last.started)}" if last.ended else ""
    out.print(
        text(("Last     ", "dim"), (last.outcome.value, STYLES[last.outcome]),
             f"  {last.name}  {moment(last.started)}{took}  ", (last.transaction, "dim"))
    )  # fmt: skip
    if last.outcome is not Outcome.COMMITTED and last.reason:
        out.print(text("         ", last.reason))


def _offered(out: Console, offer: Offered) -> None:
    if offer.release is None:
        out.print(text(("Offered  ", "dim"), (f"{offer.path}: {offer.problem}", "yellow")))
        return
    out.print(
        text(("Offered  ", "dim"), (f"Linux {offer.release}", "bold"),
             f" for instance {offer.instance}  {offer.name}")
    )  # fmt: skip
    if offer.problem is not None:
        out.print(text("         ", (offer.problem, "yellow")))
    if offer.next_command is not None:
        out.print(text("         Next: ", (offer.next_command, "cyan")))


def _next(out: Console, found: Standing) -> None:
    for objection in found.objections:
        out.print(text(("Will not act", "bold yellow"), f": {objection}"))
    if found.plan_error is not None:
        out.print(text(("Will not act", "bold yellow"), f": {found.plan_error.what}"))
        for line in found.plan_error.details:
            out.print(text(f"         {line}"))
    elif found.plan is not None:
        out.print(text((last_line(found.plan), "bold")))
    elif found.will_act:
        out.print(text(("Ready    ", "dim"), "an apply may begin"))
