"""Errors for somebody woken at 3 a.m.: what, where, which state, and the one next command."""

from __future__ import annotations

import json
import sys
from contextlib import suppress

from orchestrator.cli.next_command import complete
from orchestrator.cli.terminal import clean, styled
from orchestrator.model.errors import MkupgradeError
from orchestrator.model.outcomes import ExitCode


def show_error(error: MkupgradeError, *, as_json: bool) -> None:
    """Write the error to stderr: for people, or as one line of JSON."""
    text = error_json(error) if as_json else error_text(error)
    with suppress(OSError):
        sys.stderr.write(text + "\n")
        sys.stderr.flush()


def error_json(error: MkupgradeError) -> str:
    found = error.as_dict()
    if error.next_command:
        found["next_command"] = complete(error.next_command)
    return json.dumps({"error": found, "exit_code": int(error.exit_code)})


def error_text(error: MkupgradeError) -> str:
    """Lines: `error: what`, then where, details, state and next, as far as they are known."""
    err = sys.stderr
    lines = [styled("error: ", err, fg="red", bold=True) + styled(error.what, err, bold=True)]
    if error.where:
        lines.append(_field("where", error.where))
    # The loading room repeats `where` in each of its lines: several problems at once.
    lines += [f"  {clean(line)}" for line in error.details if not error.what.endswith(line)]
    if error.state:
        lines.append(_field("state", error.state))
    if error.next_command:
        lines.append(_field("next", complete(error.next_command), fg="cyan"))
    return "\n".join(lines)


def _field(name: str, value: str, fg: str | None = None) -> str:
    err = sys.stderr
    return "  " + styled(f"{name + ':':<7}", err, dim=True) + styled(value, err, fg=fg)


class CliError(MkupgradeError):
    """The command line or the terminal does not allow this."""

    code = "usage"
    exit_code = ExitCode.ERROR
