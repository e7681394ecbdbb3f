"""Commands that are shown as the next to run, completed so that they can be copied as they are.

The rooms below know neither which file a plan came from nor that the state directory was given.
A call remembers both as soon as it knows them; what is shown passes through `complete`.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

DEFAULT_STATE_DIR = "/var/lib/mkupgrade"
STATE_DIR_VARIABLE = "MKUPGRADE_STATE_DIR"

_TAKES_PLAN = {"validate", "doctor", "plan", "apply", "rehearse"}
_TAKES_STATE_DIR = {"resume", "rollback", "abort", "status", "history", "report"}


@dataclass
class _Call:
    arguments: Sequence[str] = ()
    plan: Path | None = None
    saved: bool = False
    state_dir: Path | None = None


_call = _Call()


def forget(arguments: Sequence[str] = ()) -> None:
    """A new call begins, with these arguments."""
    _call.arguments = tuple(arguments)
    _call.plan, _call.saved, _call.state_dir = None, False, None


def as_root() -> str:
    """This very call, by root. sudo does not pass variables on, so that the state directory is
    named where it came from one."""
    arguments = list(_call.arguments)
    named = any(argument.startswith("--state-dir") for argument in arguments)
    where = str(_call.state_dir or DEFAULT_STATE_DIR)
    takes_it = bool(arguments) and arguments[0] in _TAKES_STATE_DIR
    if takes_it and not named and where != DEFAULT_STATE_DIR:
        arguments += ["--state-dir", where]
    return shlex.join(("sudo", "mkupgrade", *arguments))


def remember_plan(path: Path, *, saved: bool) -> None:
    """The spec, or the saved plan, that this call is about."""
    _call.plan, _call.saved = path, saved


def remember_state_dir(path: Path) -> None:
    """Where the journal of this call is."""
    _call.state_dir = path


def complete(command: str) -> str:
    """The command with the plan's file and the state directory of this call, where it takes them
    and does not name them. Others come back as they are."""
    head, *options = command.split()[1:] or [""]
    if not command.startswith("mkupgrade ") or "--help" in options:
        return command
    bare = all(option.startswith("-") for option in options)
    if head in _TAKES_PLAN and bare and _call.plan is not None:
        options.insert(0, shlex.quote(str(_call.plan)))
        if head == "plan" and _call.saved:
            options += ["-o", options[0]]
    elif head in _TAKES_STATE_DIR and "--state-dir" not in options and _elsewhere():
        options += ["--state-dir", shlex.quote(str(_call.state_dir))]
    return " ".join(["mkupgrade", head, *options])


def _elsewhere() -> bool:
    by_default = os.environ.get(STATE_DIR_VARIABLE) or DEFAULT_STATE_DIR
    return _call.state_dir is not None and str(_call.state_dir) != by_default
