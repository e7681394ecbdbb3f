"""mkupgrade-resume.service: who goes on with a transaction when the machine has started again.

The unit that is shipped looks after the state directory by default and finds `mkupgrade` on
systemd's own path. For everything else a unit of the same name is written into
/etc/systemd/system, which goes before it (systemd.unit(5)).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from orchestrator.model.errors import ErrorClass, MkupgradeError
from orchestrator.system import files, systemd

NAME = "mkupgrade-resume.service"
DIRECTORY = Path("/etc/systemd/system")
_STATE_DIR = "/var/lib/mkupgrade"
_PROGRAM = "ExecStart=mkupgrade"
_PLAIN = re.compile(r"/[A-Za-z0-9_./+@:-]*")
"""Paths that mean the same in a unit as elsewhere: no blank, no quote, no specifier."""


def problem(state_dir: Path) -> str | None:
    """Why nobody would go on with a transaction of this state directory at boot; None: the unit
    would, or another init is in charge.

    Raises:
        ToolError: systemctl failed.
    """
    if not systemd.is_running():
        return None
    found = systemd.properties(NAME, "LoadState", "UnitFileState", "RequiresMountsFor")
    if found.get("LoadState") != "loaded":
        return f"{NAME} is not installed"
    if found.get("UnitFileState") != "enabled":
        return f"{NAME} is not enabled"
    if str(state_dir) not in found.get("RequiresMountsFor", "").split():
        return f"{NAME} looks after another state directory than {state_dir}"
    return None


def set_up(state_dir: Path, program: Sequence[str]) -> Path | None:
    """Have the unit look after this state directory at every boot.

    Args:
        program: how to call mkupgrade, an absolute path first.

    Returns:
        The unit file that was written; None: the one that is there needed no change.

    Raises:
        MkupgradeError: a path cannot stand in a unit. SystemCallError: it cannot be written.
        NotSupportedError: systemd does not run here. ToolError: systemctl failed.
    """
    why = problem(state_dir)
    if why is None:
        return None
    path = None
    if not why.endswith("is not enabled"):
        path = DIRECTORY / NAME
        files.write_durably(path, unit_text(state_dir, program).encode(), mode=0o644)
        systemd.reload()
    systemd.enable(NAME)
    return path


def unit_text(state_dir: Path, program: Sequence[str]) -> str:
    """The shipped unit, for this state directory and this way to call mkupgrade."""
    for path in (str(state_dir), program[0]):
        if not _PLAIN.fullmatch(path):
            raise MkupgradeError(
                f"a path with blanks or special characters cannot stand in {NAME}",
                where=path,
                state="nothing was changed",
                error_class=ErrorClass.INVALID,
            )
    text = shipped().replace(_PROGRAM, f"ExecStart={' '.join(program)}")
    if str(state_dir) != _STATE_DIR:
        text = text.replace(_STATE_DIR, str(state_dir))
        text = text.replace("resume --boot", f"resume --boot --state-dir {state_dir}")
    return text


def shipped() -> str:
    """The unit as it comes with mkupgrade."""
    unit = resources.files("orchestrator") / "drivers" / "live_update" / NAME
    return unit.read_text(encoding="utf-8")
