"""`apply`: carry out a plan as one transaction."""

from __future__ import annotations

import shlex
import sys
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestrator.cli.command import Call, plan_argument, verb
from orchestrator.cli.terminal import clean, is_terminal
from orchestrator.model.errors import ErrorClass, LockedError, MkupgradeError
from orchestrator.model.outcomes import ExitCode

if TYPE_CHECKING:
    from orchestrator.engine.report import TransactionReport
    from orchestrator.engine.transaction import Engine
    from orchestrator.model.seams import Driver
    from orchestrator.model.steps import StepGraph
    from orchestrator.policy.signatures import Signer

UNCHANGED = "nothing was changed"


@verb(
    "apply",
    examples="""
    mkupgrade apply plan.yaml
    mkupgrade plan plan.yaml -o plan.json && mkupgrade apply plan.json
    mkupgrade apply plan.yaml --yes --report-html report.html
    mkupgrade apply plan.json --json | jq -r 'select(.report).report.outcome'
    """,
    json_help="JSON lines: events while it runs, the report at the end.",
)
@plan_argument
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option(
    "--again",
    is_flag=True,
    help="Even if it was rolled back before, or the last transaction ended unknown.",
)
@click.option(
    "--report-html",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Write the report there, whatever the outcome.",
)
def apply(call: Call, plan: Path, yes: bool, again: bool, report_html: Path | None) -> ExitCode:
    """Carry out a plan as one transaction.

    A spec (PLAN.yaml) is planned, shown, and carried out after a yes. A plan saved by
    `mkupgrade plan -o` is carried out as it is, without asking, and refused if the host has
    changed since.

    Ctrl-C once: nothing more is started, what was done is undone (exit code 3). Twice: stop at
    once; `mkupgrade resume` goes on (exit code 7). SIGTERM counts as Ctrl-C.
    """
    return apply_file(call, plan, yes=yes, again=again, report_html=report_html)


def apply_file(
    call: Call,
    plan: Path,
    *,
    yes: bool = False,
    again: bool = False,
    report_html: Path | None = None,
) -> ExitCode:
    """Carry out the spec or saved plan in a file, as `apply` does.

    Raises:
        MkupgradeError: it does not begin, or stands still half-way.
    """
    from orchestrator.cli.tidying import give_back_expired
    from orchestrator.cli.wiring import hold_to_host, make_plan, open_driver, read_target
    from orchestrator.policy import in_force

    if report_html is not None:
        from orchestrator.cli.files import check_writable

        check_writable(report_html)
    policy = in_force()
    target = read_target(plan)
    signer = policy.require_signature(target.data, plan) if policy is not None else None
    spec, saved = target.load()
    if policy is not None and saved is None:
        policy.hold_spec(spec, target.text, str(plan))
    if saved is None:
        refuse_without_answer(call, plan, yes=yes)
    state_dir = Path(spec.host.state_dir)
    refuse_if_busy(state_dir)
    refuse_if_unfinished(state_dir)
    with closing(open_driver(spec)) as driver:
        if saved is None:
            give_back_expired(driver, state_dir)
        graph = saved or make_plan(spec, driver)
        if policy is not None:
            policy.hold_graph(graph, str(plan))
        if saved is not None:
            hold_to_host(graph, spec, driver)
        if graph.is_empty:
            return _nothing_to_do(call, graph)
        refuse_if_not_permitted(graph)
        if saved is None and not yes:
            _ask(call, graph)
            hold_to_host(graph, spec, driver)
        return _apply(call, graph, driver, again=again, report_html=report_html, signer=signer)


def _apply(
    call: Call,
    graph: StepGraph,
    driver: Driver,
    *,
    again: bool,
    report_html: Path | None,
    signer: Signer | None,
) -> ExitCode:
    from orchestrator.cli.carry import carry_out
    from orchestrator.cli.tidying import prune

    def work(engine: Engine) -> TransactionReport:
        transaction = engine.begin(graph, again=again)
        announce(call, graph, transaction, signer)
        prune(driver, Path(graph.state_dir))
        return engine.run(transaction)

    state_dir = Path(graph.state_dir)
    return carry_out(call, graph, driver, state_dir, work, report_html=report_html).exit_code


def announce(call: Call, graph: StepGraph, transaction: str, signer: Signer | None = None) -> None:
    """Say which transaction it is, first of all; to nobody, if nobody reads."""
    if call.json:
        signed = {"signed_by": str(signer)} if signer is not None else {}
        with suppress(OSError):
            call.out_json({"transaction": transaction, "plan_digest": graph.digest(), **signed})
    else:
        call.note(f"Transaction {clean(transaction)}: {clean(graph.name)}")
        if signer is not None:
            call.note(f"Signed by {clean(signer)}")


def _nothing_to_do(call: Call, graph: StepGraph) -> ExitCode:
    if call.json:
        call.out_json({"changes_pending": False, "plan_digest": graph.digest()})
    else:
        from orchestrator.cli.render.plan import show_plan

        show_plan(call.console(), graph)
    return ExitCode.DONE


def _ask(call: Call, graph: StepGraph) -> None:
    from orchestrator.cli.verbs.plan import show

    show(call, graph)
    sys.stdout.flush()
    confirm("Carry this out?")


def confirm(question: str) -> None:
    """Only "yes" is a yes. Raises: MkupgradeError for anything else."""
    sys.stderr.write(f'\n{question} Only "yes" is accepted: ')
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() != "yes":
        raise MkupgradeError("not confirmed", state=UNCHANGED, error_class=ErrorClass.REFUSED)


def refuse_without_answer(
    call: Call, what: Path | str, *, yes: bool, command: str | None = None
) -> None:
    """Where nobody can be asked, --yes must have been given.

    Args:
        command: the same with --yes; None: the verb's own, for `what`.
    """
    if yes or (is_terminal(sys.stdin) and not call.json):
        return
    why = "--json asks no questions" if call.json else "there is no terminal to ask on"
    raise MkupgradeError(
        f"not confirmed: {why}",
        state=UNCHANGED,
        next_command=command or f"mkupgrade {call.verb} {shlex.quote(str(what))} --yes",
        error_class=ErrorClass.REFUSED,
    )


def refuse_if_not_permitted(graph: StepGraph) -> None:
    """Before anything begins: a transaction that the guard stops half-way counts as rolled back,
    and would not be tried again without --again once the permit is there."""
    if graph.driver == "simulated":
        return
    from orchestrator.system.guard import HostGuard

    HostGuard.open(graph.host.machine_id).require("change the kernel of this machine")


def refuse_by_policy(graph: StepGraph, transaction: str, state_dir: Path) -> None:
    """Before a transaction is gone on with by hand: its plan may come from somebody's journal, and
    the policy may have changed since. Who signed the plan was asked when it began.

    Raises:
        PolicyError
    """
    from orchestrator.policy import in_force

    policy = in_force()
    if policy is not None:
        policy.hold_state_dir(state_dir)
        policy.hold_graph(graph, f"plan of transaction {transaction}")


def refuse_if_busy(state_dir: Path) -> None:
    """Before the host is looked at: while a transaction changes it, no plan would be right, and
    half-way through one "no changes" would even be wrong.

    The engine's lock decides in the end; this only makes the message come first.
    """
    from orchestrator.engine.lock import current_holder

    holder = current_holder(state_dir)
    if holder is not None:
        what = f" for transaction {holder.transaction}" if holder.transaction else ""
        raise LockedError(
            f"process {holder.pid} (mkupgrade {holder.verb}{what}) is at work on this host",
            where=str(state_dir),
            state="nothing was changed by this command",
            next_command="mkupgrade status --watch",
        )


def refuse_if_unfinished(state_dir: Path) -> None:
    """See `refuse_if_busy`: the same for a transaction that nobody is at work on."""
    from orchestrator.cli.journals import reading
    from orchestrator.engine.queries import unfinished

    with reading(state_dir) as journal:
        name = unfinished(journal) if journal is not None else None
    if name is not None:
        raise MkupgradeError(
            f"transaction {name} is not finished",
            where=str(state_dir),
            state="nothing was changed by this command",
            next_command=f"mkupgrade resume {name}",
            error_class=ErrorClass.BUSY,
        )
