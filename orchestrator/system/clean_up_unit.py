"""mkupgrade-clean-up.timer: has old generations of instances given back once their time is over."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from orchestrator.system import systemd, units
from orchestrator.system.multikernel_errors import ROOT

SERVICE = "mkupgrade-clean-up.service"
TIMER = "mkupgrade-clean-up.timer"
_START_SECONDS = 30.0


def wanted() -> bool:
    """Can this kernel have instances at all, and is there a systemd to keep the time?"""
    return systemd.is_running() and ROOT.is_dir()


def set_up(state_dir: Path, program: Sequence[str]) -> list[Path]:
    """Have the timer look after this state directory, from now on and behind every boot.

    Args:
        program: how to call mkupgrade, an absolute path first.

    Returns:
        The unit files that were written; none: those that are there needed no change.

    Raises:
        MkupgradeError: a path cannot stand in a unit. FixedUnitsError: it cannot be written.
        NotSupportedError: systemd does not run here. ToolError: systemctl failed.
    """
    written: list[Path] = []
    if not units.looks_after(SERVICE, state_dir):
        texts = {name: unit_text(name, state_dir, program) for name in (SERVICE, TIMER)}
        written = [units.write(name, text) for name, text in texts.items()]
        systemd.reload()
    systemd.enable(TIMER)
    systemd.start(TIMER, _START_SECONDS)
    return written


def unit_text(name: str, state_dir: Path, program: Sequence[str]) -> str:
    """One of the two, for this state directory and this way to call mkupgrade."""
    return units.fitted(name, units.shipped("multikernel", name), "clean-up", state_dir, program)
