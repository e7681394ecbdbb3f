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

from orchestrator.model.errors import ErrorClass, MkupgradeError, SystemCallError
from orchestrator.system import files, systemd

DIRECTORY = Path("/etc/systemd/system")
NIXOS = Path("/etc/NIXOS")
"""There on every NixOS (nixos/modules/system/etc/etc-activation), and nowhere else."""
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


class FixedUnitsError(MkupgradeError):
    """The units of this host are not ours to write."""

    code = "fixed-units"
    error_class = ErrorClass.REFUSED


def looks_after(name: str, state_dir: Path) -> bool:
    """Is the unit there, and made for this state directory? Enabled or not.

    Raises:
        ToolError: systemctl failed.
    """
    found = systemd.properties(name, "LoadState", "RequiresMountsFor")
    mounts = found.get("RequiresMountsFor", "").split()
    return found.get("LoadState") == "loaded" and str(state_dir) in mounts


def write(name: str, text: str) -> Path:
    """Write a unit for this host; its path. systemd has yet to read it.

    Raises:
        FixedUnitsError: the directory belongs to the system, as on NixOS, or cannot be written.
    """
    path = DIRECTORY / name
    if NIXOS.exists():
        loaded = systemd.show(name).load == "loaded"
        raise FixedUnitsError(
            f"{name} cannot be written: on NixOS units come from the system's configuration",
            where=f"{path.parent} ({path.parent.resolve()})",
            state="nothing was changed",
            next_command="mkupgrade host permit" if loaded else "nixos-rebuild switch",
            details=(
                f"services.mkupgrade.enable = true has this unit look after {_STATE_DIR}, and "
                "after no other state directory",
            ),
        )
    try:
        files.write_durably(path, text.encode(), mode=0o644)
    except SystemCallError as error:
        raise FixedUnitsError(
            f"{name} cannot be written for this state directory: {error.what}",
            where=str(path),
            state="nothing was changed",
            next_command=f"findmnt --target {DIRECTORY}",
            error_class=error.error_class,
        ) from error
    return path


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
