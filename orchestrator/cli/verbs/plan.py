"""`plan` and `graph`: what an apply would do."""

from __future__ import annotations

import json
import sys
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli.command import Call, plan_argument, verb
from orchestrator.cli.next_command import complete
from orchestrator.cli.terminal import clean, clean_block, is_terminal
from orchestrator.model.errors import MkupgradeError
from orchestrator.model.outcomes import ExitCode

if TYPE_CHECKING:
    from orchestrator.cli.wiring import Target
    from orchestrator.model.steps import StepGraph

output_option = click.option(
    "-o", "--output", metavar="FILE", type=click.Path(path_type=Path), help="Write it there."
)


@verb(
    "plan",
    examples="""
    mkupgrade plan plan.yaml
    mkupgrade plan plan.yaml -o plan.json && mkupgrade apply plan.json
    mkupgrade plan plan.yaml --detailed-exitcode >/dev/null; test $? = 2 && echo pending
    """,
)
@plan_argument
@output_option
@click.option("--detailed-exitcode", is_flag=True, help="Exit 2 when there is something to do.")
@click.option("--full", is_flag=True, help="Unfold the sections of the way back.")
def plan(
    call: Call, plan: Path, output: Path | None, detailed_exitcode: bool, full: bool
) -> ExitCode:
    """Show what an apply would do, in order, with the expected blackout. Changes nothing.

    With -o the plan is saved; `mkupgrade apply` then carries out exactly that plan, and refuses
    if the host has changed since. A saved plan can be given, too: its spec is planned anew.
    """
    from orchestrator.cli.wiring import read_target

    graph = graph_of(read_target(plan))
    if output is not None:
        from orchestrator.cli.files import write_text
        from orchestrator.planning import save

        write_text(output, save(graph), mode=0o600)
    with suppress(BrokenPipeError):  # the exit code counts even if nobody reads on
        show(call, graph, full=full)
    tell_if_unfinished(call, Path(graph.state_dir))
    if output is not None and not call.json:
        call.note(f"Saved to {clean(output)}. To carry out exactly this:")
        call.note(f"  mkupgrade apply {clean(output)}")
    pending = detailed_exitcode and not graph.is_empty
    return ExitCode.CHANGES_PENDING if pending else ExitCode.DONE


@verb(
    "graph",
    examples="""
    mkupgrade graph plan.yaml --format svg -o plan.svg
    mkupgrade graph plan.json --format dot | dot -Tpng > plan.png
    mkupgrade graph plan.yaml --format mermaid >> notes.md
    """,
    json_help="Short for --format json.",
)
@plan_argument
@click.option(
    "--format",
    "form",
    type=click.Choice(["dot", "svg", "mermaid", "json"]),
    default="dot",
    show_default=True,
)
@output_option
def graph(call: Call, plan: Path, form: Any, output: Path | None) -> None:
    """Draw the step graph of a spec or of a saved plan."""
    from orchestrator.cli.wiring import read_target
    from orchestrator.planning import draw

    target = read_target(plan)
    found = target.plan() if target.is_saved_plan else graph_of(target)
    drawn = draw(found, "json" if call.json else form)
    if call.json or form == "json":
        drawn = json.dumps(json.loads(drawn))  # ASCII only, as all JSON of ours
    if output is not None:
        from orchestrator.cli.files import write_text

        write_text(output, drawn)
        call.note(f"Drawn to {clean(output)}.")
    else:
        shown = clean_block(drawn) if is_terminal(sys.stdout) else drawn
        call.out(shown.rstrip("\n"))


def graph_of(target: Target) -> StepGraph:
    """Load the spec, or the one that a saved plan carries; observe the host; plan."""
    from orchestrator.cli.wiring import make_plan, open_driver

    document, _ = target.load()
    with closing(open_driver(document)) as driver:
        return make_plan(document, driver)


def tell_if_unfinished(call: Call, state_dir: Path) -> None:
    """Half-way through a transaction a plan may look finished: say so, as far as it is known."""
    from orchestrator.cli.journals import reading

    try:
        with reading(state_dir) as journal:
            if journal is None:
                return
            from orchestrator.engine.queries import unfinished

            name = unfinished(journal)
    except MkupgradeError:
        return
    if name is not None:
        call.note(f"Transaction {clean(name)} is not finished; an apply would be refused.")
        call.note(f"  {clean(complete(f'mkupgrade resume {name}'))}")


def show(call: Call, graph: StepGraph, *, full: bool = False) -> None:
    """Print a plan as text or JSON."""
    from orchestrator.cli.render.plan import show_plan, summary

    if call.json:
        call.out_json(
            {
                "changes_pending": not graph.is_empty,
                "plan_digest": graph.digest(),
                "summary": summary(graph),
                "plan": graph.model_dump(mode="json"),
            }
        )
    else:
        show_plan(call.console(), graph, full=full)
