"""What every verb shares: options, examples in --help, and the call that a verb receives.

A verb is a function `(call, …) -> ExitCode | None`. It returns its exit code and raises
`MkupgradeError`; `main.py` is the only place that exits.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from orchestrator.cli.next_command import (
    DEFAULT_STATE_DIR,
    STATE_DIR_VARIABLE,
    remember_state_dir,
)

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem
    from rich.console import Console

Function = Callable[..., Any]
F = TypeVar("F", bound=Function)


@dataclass(frozen=True)
class Call:
    """One invocation of a verb, and how it speaks."""

    verb: str
    json: bool

    def out(self, text: str = "") -> None:
        """A line of the result. The caller has cleaned what came from outside."""
        sys.stdout.write(text + "\n")

    def out_json(self, value: Any) -> None:
        """One line of JSON: ASCII only, so that no string in it can steer a terminal."""
        sys.stdout.write(json.dumps(value) + "\n")
        sys.stdout.flush()

    def note(self, text: str) -> None:
        """A line beside the result, for people: stderr, behind what was said so far."""
        with suppress(OSError):  # nobody reads it: no reason to stop
            sys.stdout.flush()
            sys.stderr.write(text + "\n")

    def console(self) -> Console:
        """rich on stdout; it knows no markup, since texts come from outside."""
        from orchestrator.cli.render.text import console

        return console(sys.stdout)


class Verb(click.Command):
    """A command with examples, printed as they are written."""

    def __init__(self, *args: Any, examples: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = [line.strip() for line in examples.strip().splitlines()]

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Examples"):
            for line in self.examples:
                formatter.write(f"{'':>{formatter.current_indent}}{line}\n")


def verb(
    name: str, *, examples: str, json_help: str = "Print the result as JSON.", state: bool = False
) -> Callable[[Function], Verb]:
    """Make a `Verb` of a function; adds --json, the options for logs and, if asked, --state-dir."""

    def wrap(function: Function) -> Verb:
        def run(json: bool, log_level: str, log_format: str | None, **rest: Any) -> Any:
            from orchestrator.cli.logs import set_up_logs

            set_up_logs(log_level, log_format or ("json" if json else "text"))
            if isinstance(rest.get("state_dir"), Path):
                remember_state_dir(rest["state_dir"])
            return function(Call(verb=name, json=json), **rest)

        run.__doc__ = function.__doc__
        # click reads the list from its end: the verb's own options come before the common ones.
        own = getattr(function, "__click_params__", [])
        run.__click_params__ = _common(json_help, state) + own  # type: ignore[attr-defined]
        return click.command(name, cls=Verb, examples=examples)(run)

    return wrap


def _common(json_help: str, state: bool) -> list[click.Parameter]:
    def bare() -> None: ...

    options = [
        *([state_dir_option] if state else []),
        click.option("--json", is_flag=True, help=json_help),
        click.option(
            "--log-level",
            envvar="MKUPGRADE_LOG",
            default="warning",
            type=click.Choice(["debug", "info", "warning", "error"], case_sensitive=False),
            show_default=True,
            help="Logs on stderr; also MKUPGRADE_LOG.",
        ),
        click.option("--log-format", type=click.Choice(["text", "json"]), help="Form of the logs."),
    ]
    for option in reversed(options):
        bare = option(bare)
    return list(bare.__click_params__)  # type: ignore[attr-defined]


def state_dir_named(help_text: str) -> Callable[[F], F]:
    """--state-dir, with what it is for."""
    return click.option(
        "--state-dir",
        envvar=STATE_DIR_VARIABLE,
        default=DEFAULT_STATE_DIR,
        show_default=True,
        type=click.Path(path_type=Path, readable=False),  # whoever reads it says so, and what to do
        help=help_text,
    )


state_dir_option = state_dir_named("Where the journal is; also MKUPGRADE_STATE_DIR.")


def _transactions(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """For shell completion: ids from the journal, the last first; silent when it cannot be read."""
    from click.shell_completion import CompletionItem

    from orchestrator.engine.journal import Journal
    from orchestrator.engine.queries import history

    try:
        journal = Journal.open_readonly(Path(context.params.get("state_dir") or DEFAULT_STATE_DIR))
        found = history(journal) if journal is not None else []
    except Exception:
        return []
    return [
        CompletionItem(t.transaction, help=f"{t.name}: {t.outcome or 'unfinished'}")
        for t in reversed(found)
        if t.transaction.startswith(incomplete)
    ]


transaction_argument = click.argument(
    "transaction", metavar="[TX]", required=False, shell_complete=_transactions
)

spec_argument = click.argument("spec", metavar="PLAN.yaml", type=click.Path(path_type=Path))

plan_argument = click.argument(
    "plan", metavar="PLAN.yaml|plan.json", type=click.Path(path_type=Path)
)
"""A spec, or a plan saved by `mkupgrade plan -o`."""
