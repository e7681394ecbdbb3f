"""Carrying a transaction out: engine, signals, progress, report, exit code."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.cli.command import Call
from orchestrator.cli.logs import logger, wants, wants_many_lines
from orchestrator.cli.render.errors import show_error
from orchestrator.cli.signals import forwarded
from orchestrator.cli.terminal import abandon, is_terminal
from orchestrator.cli.wiring import identity_of
from orchestrator.model.errors import ErrorClass, MkupgradeError
from orchestrator.model.outcomes import ExitCode

if TYPE_CHECKING:
    from orchestrator.cli.render.progress import Teller
    from orchestrator.cli.render.view import View
    from orchestrator.engine.report import TransactionReport
    from orchestrator.engine.transaction import Engine
    from orchestrator.model.seams import Driver
    from orchestrator.model.steps import Step, StepGraph

Work = Callable[["Engine"], "TransactionReport"]

RESUMABLE = "what was running is in the journal; it is looked at before anything goes on"


def carry_out(
    call: Call,
    graph: StepGraph,
    driver: Driver,
    state_dir: Path,
    work: Work,
    *,
    report_html: Path | None = None,
    at_boot: bool = False,
) -> TransactionReport:
    """Run `work` with an engine, tell how it goes, and print the report.

    Args:
        work: calls verbs of the engine and returns the report.
        report_html: where to write the report as a page, whatever the outcome.
        at_boot: for `mkupgrade-resume.service`: plain lines even on a console, and SIGTERM
            means that the machine is shut down.

    Raises:
        MkupgradeError: with exit code 7 for what goes wrong once the journal has grown.
    """
    from orchestrator.engine.interrupts import Interrupts
    from orchestrator.engine.journal import Journal
    from orchestrator.engine.transaction import Engine

    interrupts = Interrupts()
    teller = teller_for(call, graph, plain=at_boot)
    reporter = Logged(teller)
    with (
        forwarded(interrupts, teller.tell, at_boot=at_boot),
        closing(Journal.open(state_dir, volatile=_volatile(graph))) as journal,
        Engine(
            driver,
            journal,
            reporter=reporter,
            identity=identity_of(driver),
            interrupts=interrupts,
        ) as engine,
    ):
        with teller:
            report = _run(work, engine, reporter)
        _finish(call, report, graph, report_html)
    return report


def _volatile(graph: StepGraph) -> Callable[[Path], str | None] | None:
    """What holds the journal's place to surviving a reset; None where that does not matter."""
    from orchestrator.system.open_files import lost_at_reset

    told = graph.spec is not None and graph.spec.host.allow_volatile_state
    return None if told or graph.driver == "simulated" else lost_at_reset


def _run(work: Work, engine: Engine, reporter: Logged) -> TransactionReport:
    """`ExitCode.ERROR` promises that nothing was changed: not once events were written."""
    try:
        return work(engine)
    except MkupgradeError as error:
        if reporter.heard and error.exit_code is ExitCode.ERROR:
            error.exit_code = ExitCode.INTERRUPTED
            error.state = error.state or RESUMABLE
            error.next_command = error.next_command or "mkupgrade resume"
        raise
    except Exception as error:
        logger().debug("unexpected error", exc_info=error)
        found = MkupgradeError(
            f"a fault in mkupgrade: {type(error).__name__}: {error}",
            state=RESUMABLE,
            next_command="mkupgrade resume",
            error_class=ErrorClass.BUG,
        )
        found.exit_code = ExitCode.INTERRUPTED
        raise found from error


def teller_for(call: Call, graph: StepGraph, *, plain: bool = False) -> Teller:
    """How progress is told: JSON lines, plain lines, or live on a terminal."""
    from orchestrator.cli.render import progress

    if call.json:
        return progress.JsonTeller()
    if plain or wants_many_lines() or not is_terminal(sys.stderr):
        return progress.PlainTeller(graph, sys.stderr)
    return progress.LiveTeller(graph, sys.stderr)


class Logged:
    """A reporter that writes each event to the log, too, and counts."""

    def __init__(self, teller: Teller) -> None:
        self._teller = teller
        self.heard = 0

    def event(self, event: Any) -> None:
        self.heard += 1
        if wants(logging.INFO):
            with suppress(OSError, ValueError):
                _log_event(event)
        self._teller.event(event)

    def progress(self, step: Step, text: str, fraction: float | None) -> None:
        if wants(logging.DEBUG):
            with suppress(OSError, ValueError):
                logger().debug("progress", step=step.id, text=text)
        self._teller.progress(step, text, fraction)


def _log_event(event: Any) -> None:
    found = event.event
    context = {"transaction": event.transaction, "step": getattr(found, "step", None)}
    error = getattr(found, "error", None)
    more = {"error": error.get("what")} if isinstance(error, dict) else {}
    logger().info(found.type, **{k: v for k, v in (context | more).items() if v})


def _finish(
    call: Call, report: TransactionReport, graph: StepGraph, report_html: Path | None
) -> None:
    """Print and write the report. Whatever fails here, the exit code stays the transaction's."""
    from orchestrator.cli.render.view import view_of

    view = view_of(report, graph)
    try:
        show_result(call, view)
        sys.stdout.flush()
    except OSError:
        abandon(sys.stdout)
    if report_html is not None:
        try:
            write_page(view, report_html)
        except MkupgradeError as error:
            show_error(error, as_json=call.json)


def show_result(call: Call, view: View) -> None:
    """The short report, right after the transaction; or the whole one as JSON."""
    if call.json:
        from orchestrator.cli.render.view import report_json

        call.out_json({"report": report_json(view)})
    else:
        from orchestrator.cli.render.report import show_short

        show_short(call.console(), view)


def write_page(view: View, path: Path) -> None:
    from orchestrator.cli.files import write_text
    from orchestrator.cli.render.html import report_html

    write_text(path, report_html(view))
