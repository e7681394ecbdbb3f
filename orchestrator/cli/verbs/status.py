"""`status`: what runs, what ended, and what is next."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestrator.cli.command import Call, state_dir_option, verb
from orchestrator.cli.next_command import remember_state_dir
from orchestrator.model.outcomes import ExitCode

if TYPE_CHECKING:
    from orchestrator.cli.standing import Standing


@verb(
    "status",
    examples="""
    mkupgrade status
    mkupgrade status plan.yaml       # would an apply act, and why not?
    mkupgrade status --watch         # follow a running transaction to its end
    mkupgrade status --json | jq .will_act
    """,
    json_help="Print the result as JSON; with --watch, events as JSON lines.",
)
@click.argument("spec", metavar="[PLAN.yaml]", required=False, type=click.Path(path_type=Path))
@state_dir_option
@click.option("--watch", is_flag=True, help="Follow the running transaction until it ends.")
@click.pass_context
def status(
    context: click.Context, call: Call, spec: Path | None, *, state_dir: Path, watch: bool
) -> ExitCode:
    """Show whether a transaction runs or is unfinished, who is at work, what ended last.

    Also whether the running kernel was ever started by a cold boot, and whether an apply would
    act, with the reason. With --watch the exit code is that of the transaction.
    """
    from orchestrator.cli.standing import (
        guard_objections,
        look_at_plan,
        policy_problem,
        standing,
    )

    if spec is not None and _by_default(context):
        state_dir = _state_dir_of(spec) or state_dir
    found = standing(state_dir)
    if spec is not None:
        look_at_plan(found, spec)
        remember_state_dir(state_dir)  # the plan may name another
    else:
        found.objections += policy_problem()
        found.objections += [] if _is_pretend(state_dir) else guard_objections()
    if watch and found.unfinished is not None and found.holder is not None:
        return _watch(call, found)
    if call.json:
        from orchestrator.cli.standing import standing_json

        call.out_json(standing_json(found))
    else:
        from orchestrator.cli.render.status import show_standing

        show_standing(call.console(), found)
    return ExitCode.DONE


def _watch(call: Call, found: Standing) -> ExitCode:
    from orchestrator.cli.carry import show_result, teller_for
    from orchestrator.cli.journals import follow, reading
    from orchestrator.cli.render.view import view_of

    assert found.unfinished is not None  # noqa: S101 - the caller looked
    name = found.unfinished.transaction
    with reading(found.state_dir) as journal:
        assert journal is not None  # noqa: S101 - it holds the transaction
        graph = journal.plan(name)[0]
    report = follow(found.state_dir, name, teller_for(call, graph))
    show_result(call, view_of(report, graph))
    return report.exit_code


def _by_default(context: click.Context) -> bool:
    source = context.get_parameter_source("state_dir")
    return source is click.core.ParameterSource.DEFAULT


def _state_dir_of(spec: Path) -> Path | None:
    """The state directory that a spec names; a spec that cannot be read is told of later."""
    from orchestrator.cli.wiring import load_target
    from orchestrator.model.errors import MkupgradeError

    try:
        return Path(load_target(spec)[0].host.state_dir)
    except MkupgradeError:
        return None


def _is_pretend(state_dir: Path) -> bool:
    from orchestrator.cli.wiring import SIMULATED_HOST

    return (state_dir / SIMULATED_HOST).exists()
