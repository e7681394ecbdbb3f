"""Units of systemd that come with mkupgrade, and how they are made to fit a host.

The units that are shipped look after the state directory by default and find `mkupgrade` on
systemd's own path. For everything else units of the same names are written into
/etc/systemd/system, which go before them (systemd.unit(5)).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from orchestrator.model.errors import ErrorClass, MkupgradeError

DIRECTORY = Path("/etc/systemd/system")
_STATE_DIR = "/var/lib/mkupgrade"
_PROGRAM = "ExecStart=mkupgrade"
_PLAIN = re.compile(r"/[A-Za-z0-9_./+@:-]*")
"""Paths that mean the same in a unit as elsewhere: no blank, no quote, no specifier."""


def shipped(driver: str, name: str) -> str:
    """A unit as it comes with mkupgrade.

    Args:
        driver: its directory.
    """
    unit = resources.files("orchestrator") / "drivers" / driver / name
    return unit.read_text(encoding="utf-8")


def fitted(name: str, text: str, command: str, state_dir: Path, program: Sequence[str]) -> str:
    """A shipped unit, for this state directory and this way to call mkupgrade.

    Args:
        command: what it runs of mkupgrade, with a state directory other than the default said
            behind it.
        program: how to call mkupgrade, an absolute path first.

    Raises:
        MkupgradeError: a path cannot stand in a unit.
    """
    for path in (str(state_dir), program[0]):
        if not _PLAIN.fullmatch(path):
            raise MkupgradeError(
                f"a path with blanks or special characters cannot stand in {name}",
                where=path,
                state="nothing was changed",
                error_class=ErrorClass.INVALID,
            )
    text = text.replace(_PROGRAM, f"ExecStart={' '.join(program)}")
    if str(state_dir) != _STATE_DIR:
        text = text.replace(_STATE_DIR, str(state_dir))
        text = text.replace(command, f"{command} --state-dir {state_dir}")
    return text
