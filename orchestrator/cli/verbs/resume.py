"""`resume`, `rollback` and `abort`: what becomes of a transaction that did not simply end."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestrator.cli.command import Call, transaction_argument, verb
from orchestrator.cli.terminal import clean
from orchestrator.model.errors import ErrorClass, MkupgradeError, UnknownOutcomeError
from orchestrator.model.outcomes import ExitCode, Outcome

if TYPE_CHECKING:
    from orchestrator.engine.report import TransactionReport
    from orchestrator.model.steps import StepGraph

html_option = click.option(
    "--report-html",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Write the report there, whatever the outcome.",
)


@verb(
    "resume",
    state=True,
    examples="""
    mkupgrade resume
    mkupgrade resume 20261123-140307-k3xw
    mkupgrade resume --boot        # what mkupgrade-resume.service runs
    """,
    json_help="JSON lines: events while it runs, the report at the end.",
)
@transaction_argument
@click.option("--boot", is_flag=True, help="At boot: quiet when there is nothing to go on with.")
@html_option
def resume(
    call: Call, transaction: str | None, state_dir: Path, boot: bool, report_html: Path | None
) -> ExitCode:
    """Go on with an unfinished transaction, after a crash, a jump or an interrupt; else with the
    last one, if its outcome is unknown or its rollback incomplete.

    What the journal believes is looked at before anything goes on. With --boot a transaction
    that waits for the operator is left alone (exit code 6).
    """
    from orchestrator.cli.verbs.apply import refuse_by_policy, refuse_if_not_permitted

    found = left_open(state_dir, transaction, or_unsettled=not boot)
    if found is None:
        return _nothing(call, state_dir, boot=boot)
    name, graph, report = found
    if boot:
        return go_on_at_boot(call, name, graph, report, state_dir, report_html=report_html)
    refuse_by_policy(graph, name, state_dir)
    refuse_if_not_permitted(graph)
    return _carry(call, name, graph, state_dir, "resume", report_html=report_html)


def go_on_at_boot(
    call: Call,
    name: str,
    graph: StepGraph,
    report: TransactionReport,
    state_dir: Path,
    *,
    report_html: Path | None = None,
) -> ExitCode:
    """Go on with a transaction that is not finished. Neither policy nor permit is asked for: at
    boot nobody is there to give one, and state may be on disk.

    Raises:
        MkupgradeError: it waits for the operator (exit code 6), or stands still half-way.
    """
    if report.waiting:
        raise waiting(name, report)
    code = _carry(call, name, graph, state_dir, "resume", boot=True, report_html=report_html)
    if code in {ExitCode.DONE, ExitCode.ROLLED_BACK}:
        _let_boot_go_on()
    return code


@verb(
    "rollback",
    state=True,
    examples="""
    mkupgrade rollback
    mkupgrade rollback 20261123-140307-k3xw --yes
    """,
    json_help="JSON lines: events while it runs, the report at the end.",
)
@transaction_argument
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--reason", default="asked for by the operator", help="For the journal.")
@html_option
def rollback(
    call: Call,
    transaction: str | None,
    *,
    state_dir: Path,
    yes: bool,
    reason: str,
    report_html: Path | None,
) -> ExitCode:
    """Bring the old kernel back: of an unfinished transaction, else of the last one.

    Behind the jump this is a jump of its own, with a blackout like that of the way there.
    Exit code 0: the old kernel runs, and the workloads in it.
    """
    from orchestrator.cli.journals import find, reading
    from orchestrator.cli.verbs.apply import (
        confirm,
        refuse_by_policy,
        refuse_if_busy,
        refuse_if_not_permitted,
        refuse_without_answer,
    )
    from orchestrator.engine.queries import unfinished

    with reading(state_dir) as journal:
        default = unfinished(journal) if journal is not None else None
        name = find(journal, transaction or default, state_dir)
        assert journal is not None  # noqa: S101 - `find` found it there
        graph = journal.plan(name)[0]
    refuse_without_answer(call, name, yes=yes)
    refuse_if_busy(state_dir)
    refuse_by_policy(graph, name, state_dir)
    refuse_if_not_permitted(graph)
    _refuse_if_gone(graph, name, state_dir)
    if not yes:
        call.note(f"Transaction {clean(name)}: {clean(graph.name)}")
        confirm(_question(graph))
    return _as_asked(
        _carry(call, name, graph, state_dir, "rollback", reason=reason, report_html=report_html)
    )


@verb(
    "abort",
    state=True,
    examples="""
    mkupgrade abort
    mkupgrade abort --no-wait
    """,
    json_help="JSON lines: events while it is undone, the report at the end.",
)
@transaction_argument
@click.option("--reason", default="aborted by the operator", help="For the journal.")
@click.option("--no-wait", is_flag=True, help="Do not wait until it is undone.")
def abort(
    call: Call, transaction: str | None, *, state_dir: Path, reason: str, no_wait: bool
) -> ExitCode:
    """Stop the running transaction and undo it; or undo one that nobody runs any more.

    Exit code 0: it is undone, and the host is as before.
    """
    from orchestrator.cli.verbs.apply import refuse_by_policy, refuse_if_not_permitted
    from orchestrator.engine.interrupts import write_abort
    from orchestrator.engine.lock import current_holder

    found = left_open(state_dir, transaction)
    if found is None:
        raise MkupgradeError(
            "no transaction is running or unfinished",
            state="nothing was changed",
            next_command="mkupgrade status",
            error_class=ErrorClass.INVALID,
        )
    name, graph, _ = found
    holder = current_holder(state_dir)
    if holder is not None and holder.transaction == name:
        write_abort(state_dir, name, reason)
        call.note(f"Asked process {holder.pid} to stop and undo transaction {clean(name)}.")
        if no_wait:
            if call.json:
                call.out_json({"transaction": name, "asked": holder.pid})
            return ExitCode.DONE
        report = _wait(call, graph, state_dir, name)
        if report.outcome is not None or report.interrupted:
            return _aborted(report)
        call.note("That process is gone; undoing it from here.")
    refuse_by_policy(graph, name, state_dir)
    refuse_if_not_permitted(graph)
    code = _carry(call, name, graph, state_dir, "abort", reason=reason)
    return _as_asked(code)


def _question(graph: StepGraph) -> str:
    from orchestrator.model.kinds import Kind

    if any(step.kind == Kind.COMMIT_INSTANCES for step in graph.steps):
        return "Bring the old generations back?"
    return f"Bring Linux {clean(graph.host.kernel.release)} back?"


def _refuse_if_gone(graph: StepGraph, name: str, state_dir: Path) -> None:
    """What a rollback would start may have been given back since the commit."""
    from orchestrator.cli.journals import reading
    from orchestrator.engine.queries import report_of

    if graph.driver != "multikernel":
        return
    from orchestrator.drivers.multikernel.driver import MultikernelDriver

    with reading(state_dir) as journal:
        if journal is None or report_of(journal, name).outcome is not Outcome.COMMITTED:
            return
    with closing(MultikernelDriver(state_dir)) as driver:
        why = driver.why_no_way_back(name)
    if why is not None:
        raise MkupgradeError(
            f"there is no way back: {why}",
            where=name,
            state="nothing was changed",
            next_command="mkupgrade status",
            error_class=ErrorClass.INVALID,
        )


def waiting(name: str, report: TransactionReport) -> MkupgradeError:
    error = MkupgradeError(
        f"transaction {name} waits for you: {report.reason}",
        state="resume tries on, rollback brings the old kernel back",
        next_command=report.next_command,
        error_class=ErrorClass.REFUSED,
    )
    error.exit_code = ExitCode.WAITING
    return error


def left_open(
    state_dir: Path, given: str | None, *, or_unsettled: bool = False
) -> tuple[str, StepGraph, TransactionReport] | None:
    """The transaction that was named, else the unfinished one, with its plan and how it stands.

    Args:
        or_unsettled: else the last one, if it ended without an end that holds.
    """
    from orchestrator.cli.journals import find, reading
    from orchestrator.engine.queries import report_of, unfinished, unsettled

    with reading(state_dir) as journal:
        default = unfinished(journal) if journal is not None else None
        if default is None and or_unsettled and journal is not None:
            default = unsettled(journal)
        if given is None and default is None:
            return None
        name = find(journal, given or default, state_dir)
        assert journal is not None  # noqa: S101 - `find` found it there
        return name, journal.plan(name)[0], report_of(journal, name)


def _carry(
    call: Call,
    name: str,
    graph: StepGraph,
    state_dir: Path,
    verb: str,
    *,
    reason: str = "",
    boot: bool = False,
    report_html: Path | None = None,
) -> ExitCode:
    from orchestrator.cli.carry import carry_out
    from orchestrator.cli.verbs.apply import announce
    from orchestrator.cli.wiring import driver_named
    from orchestrator.engine.transaction import Engine

    if report_html is not None:
        from orchestrator.cli.files import check_writable

        check_writable(report_html)

    def work(engine: Engine) -> TransactionReport:
        announce(call, graph, name)
        if verb == "resume":
            return engine.resume(name)
        return engine.rollback(name, reason)

    with closing(driver_named(graph.driver, state_dir)) as driver:
        report = carry_out(
            call, graph, driver, state_dir, work, report_html=report_html, at_boot=boot
        )
    return report.exit_code


def _wait(call: Call, graph: StepGraph, state_dir: Path, name: str) -> TransactionReport:
    from orchestrator.cli.carry import show_result, teller_for
    from orchestrator.cli.journals import follow
    from orchestrator.cli.render.view import view_of

    try:
        report = follow(state_dir, name, teller_for(call, graph))
    except KeyboardInterrupt:
        error = MkupgradeError(
            "no longer waiting",
            state="the request to abort stands",
            next_command="mkupgrade status --watch",
        )
        error.exit_code = ExitCode.INTERRUPTED
        raise error from None
    show_result(call, view_of(report, graph))
    return report


def _aborted(report: TransactionReport) -> ExitCode:
    if report.outcome is Outcome.COMMITTED:
        raise MkupgradeError(
            "too late: the transaction was committed",
            state="the new kernel runs",
            next_command=f"mkupgrade rollback {report.transaction}",
        )
    return _as_asked(report.exit_code)


def _as_asked(code: ExitCode) -> ExitCode:
    """Rolled back is a failure of an apply, and the very aim of rollback and abort."""
    return ExitCode.DONE if code is ExitCode.ROLLED_BACK else code


def _nothing(call: Call, state_dir: Path, *, boot: bool) -> ExitCode:
    from orchestrator.cli.standing import state_in_memory

    strange = state_in_memory(state_dir)
    if strange is not None:
        raise UnknownOutcomeError(strange, next_command="mkupgrade status")
    if boot:
        _let_boot_go_on()
    if call.json:
        call.out_json({"transaction": None, "unfinished": False})
    elif not boot:
        call.out("No transaction is unfinished.")
    return ExitCode.DONE


def _let_boot_go_on() -> None:
    """The unit is of Type=notify: one that ends without a word counts as failed."""
    from orchestrator.system import systemd

    systemd.notify("READY=1")
    sys.stdout.flush()
