"""mkupgrade-resume.service: who goes on with a transaction when the machine has started again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from orchestrator.system import systemd, units

NAME = "mkupgrade-resume.service"


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


def will_go_on(state_dir: Path) -> bool:
    """Can the unit be started for a transaction of this state directory? Enabled or not.

    Raises:
        ToolError: systemctl failed.
    """
    return systemd.is_running() and units.looks_after(NAME, state_dir)


def is_at_work() -> bool:
    """Has it been started, and is its main process there? Errors as `will_go_on`."""
    found = systemd.show(NAME)
    return found.active == "activating" or found.main_pid != 0


def set_up(state_dir: Path, program: Sequence[str]) -> Path | None:
    """Have the unit look after this state directory at every boot.

    Args:
        program: how to call mkupgrade, an absolute path first.

    Returns:
        The unit file that was written; None: the one that is there needed no change.

    Raises:
        MkupgradeError: a path cannot stand in a unit. FixedUnitsError: it cannot be written.
        NotSupportedError: systemd does not run here. ToolError: systemctl failed.
    """
    why = problem(state_dir)
    if why is None:
        return None
    path = None
    if not why.endswith("is not enabled"):
        path = units.write(NAME, unit_text(state_dir, program))
        systemd.reload()
    systemd.enable(NAME)
    return path


def unit_text(state_dir: Path, program: Sequence[str]) -> str:
    """The shipped unit, for this state directory and this way to call mkupgrade."""
    return units.fitted(NAME, shipped(), "resume --boot", state_dir, program)


def shipped() -> str:
    """The unit as it comes with mkupgrade."""
    return units.shipped("live_update", NAME)
