"""A switch to another NixOS system under the same kernel, and back if it fails.

What `nixos-rebuild switch` does, in the order in which nothing is left half done: the system's own
pre-switch checks, the profile, then its `switch-to-configuration switch`, which makes the boot menu
and activates. Like nixos-rebuild it is run in a unit of its own, so that it ends whatever becomes
of the terminal, and with no more environment than a unit has.

Exit codes of switch-to-configuration-ng (nixpkgs, its main.rs): 0; 2 or 3, activation failed; 4,
some units failed and the system is switched to; 100, only another start of the machine makes it
what runs; else it did not begin.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import PurePosixPath

from orchestrator.model.base import Record
from orchestrator.model.errors import MkupgradeError, ToolError
from orchestrator.model.outcomes import ExitCode
from orchestrator.model.params.in_place import NixosProfile
from orchestrator.model.seams import Control
from orchestrator.nixos import changing
from orchestrator.nixos.errors import UNCHANGED
from orchestrator.nixos.systems import Places
from orchestrator.system import subprocesses, systemd

UNIT = "mkupgrade-switch-to-configuration"
_UNITS_FAILED, _NEEDS_A_START = 4, 100
_NOT_ACTIVATED = (1, _NEEDS_A_START)
AS_IT_WAS = "the profile, the boot menu and the running system are what they were"
_FAILED = re.compile(r"the following units failed: (.+)")
Tell = Callable[[str], None]


class SwitchError(MkupgradeError):
    """A switch did not succeed, and what was changed for it was put back."""

    code = "nixos-switch"
    exit_code = ExitCode.ROLLED_BACK


class NeedsAStartError(MkupgradeError):
    """switch-to-configuration ended with 100: the system is one for the next start."""

    code = "nixos-needs-a-start"
    exit_code = ExitCode.COLD_REBOOT_NEEDED


class SwitchBackError(MkupgradeError):
    """Neither the way there nor the way back succeeded."""

    code = "nixos-switch-back"
    exit_code = ExitCode.ROLLBACK_INCOMPLETE


class Switched(Record):
    """A system that was switched to."""

    toplevel: str
    failed_units: list[str] = []
    """What could not be started, as switch-to-configuration says it; the system is active."""
    degraded: bool = False
    """Some units failed, whether or not it said which."""


class Switch:
    """From the current system to another one.

    Args:
        control: bounds each program that is run; a stop is not heard while a system activates.
        tell: called with each line that they say.

    Raises:
        MkupgradeError: the profile leads to no system, so that nothing could be put back.
    """

    def __init__(self, places: Places, toplevel: str, control: Control, tell: Tell) -> None:
        self._places, self._control, self._tell = places, control, tell
        current = places.tree.target(places.current)
        found = changing.profile_state(places)
        if found.leads_to is None or found.generation is None or current is None:
            raise MkupgradeError(
                "the system profile leads to no system, so that nothing could be put back",
                where=found.link,
                state=UNCHANGED,
            )
        self._current = current
        self._profile = NixosProfile(
            link=found.link,
            toplevel=toplevel,
            previous=found.leads_to,
            generation=found.generation,
            last=found.last,
        )

    def there(self) -> Switched:
        """Switch; on failure everything is put back.

        Raises:
            PreSwitchError: its checks refuse it, and nothing was changed.
            SwitchError, NeedsAStartError: it failed, and everything is as it was.
            SwitchBackError: it failed, and so did putting back.
        """
        wanted = self._profile.toplevel
        changing.check(self._places, PurePosixPath(wanted), self._control)
        began = False
        try:
            changing.set_profile(self._places, self._profile, self._control)
            began = True
            done = self._run(PurePosixPath(wanted), "switch")
        except MkupgradeError as error:
            self._put_back(error, activate=began)
            raise SwitchError(
                f"the switch could not be made: {error.what}",
                where=wanted,
                state=AS_IT_WAS,
                details=error.details,
            ) from error
        if done.returncode in (0, _UNITS_FAILED):
            failed = _FAILED.findall(done.error_text) if done.returncode else []
            units = [unit.strip() for line in failed for unit in line.split(",")]
            return Switched(toplevel=wanted, failed_units=units, degraded=done.returncode != 0)
        failure = _how_it_failed(done, wanted)
        self._put_back(failure, activate=done.returncode not in _NOT_ACTIVATED)
        raise failure

    def back(self, why: MkupgradeError) -> None:
        """Undo a switch that succeeded.

        Raises:
            SwitchBackError: it failed.
        """
        self._put_back(why, activate=True)

    def _put_back(self, why: MkupgradeError, *, activate: bool) -> None:
        """The menu and the profile, then what runs. Whatever runs again is asked what `test`
        means: activate, and leave the boot loader alone."""
        old = self._current
        activate = activate or self._places.tree.target(self._places.current) != old
        try:
            changing.put_back(self._places, self._profile, self._control)
            done = self._run(old, "test") if activate else None
            if done is not None and done.returncode not in (0, _UNITS_FAILED):
                raise ToolError(f"{old}/bin/switch-to-configuration ended with {done.returncode}")
        except MkupgradeError as error:
            raise SwitchBackError(
                f"{why.what}; and putting back failed, too: {error.what}",
                where=self._profile.toplevel,
                state="profile, boot menu and running system may be of two systems",
                next_command=f"{old}/bin/switch-to-configuration switch",
                details=(*why.details, *error.details),
            ) from error

    def _run(self, system: PurePosixPath, action: str) -> subprocesses.Completed:
        program = str(self._places.tree.outside(system / "bin/switch-to-configuration"))
        return run_in_a_unit([program, action], self._control, self._tell)


def run_in_a_unit(argv: list[str], control: Control, tell: Tell) -> subprocesses.Completed:
    """Run a program of a system, with its checks turned off, in a unit where systemd runs; its
    exit code is the caller's to judge.

    Raises:
        ToolError: out of time. NotSupportedError: not installed.
    """
    return subprocesses.run(
        [*_in_a_unit(), *argv],
        timeout=control.remaining(),
        env={"NIXOS_NO_CHECK": "1"},
        check=False,
        show=tell,
    )


def _in_a_unit() -> list[str]:
    """As nixos-rebuild runs it; where systemd does not run there is none."""
    if not systemd.is_running():
        return []
    return [
        changing.program("systemd-run"), "--collect", "--no-ask-password", "--wait", "--pipe",
        "--quiet", "--service-type=exec", f"--unit={UNIT}", "-E", "LOCALE_ARCHIVE",
        "-E", "NIXOS_NO_CHECK",
    ]  # fmt: skip


def _how_it_failed(done: subprocesses.Completed, wanted: str) -> MkupgradeError:
    said = tuple(done.error_text.splitlines()[-subprocesses.TAIL_LINES :])
    if done.returncode == _NEEDS_A_START:
        return NeedsAStartError(
            "it takes another start of the machine (switch-to-configuration ended with 100)",
            where=wanted,
            state=AS_IT_WAS,
            next_command=f"nixos-rebuild boot --store-path {wanted}",
            details=said,
        )
    words = {2: "its activation failed", 3: "its activation failed"}
    what = words.get(done.returncode, "it was not switched to")
    return SwitchError(
        f"{what} (switch-to-configuration ended with {done.returncode})",
        where=wanted,
        state=AS_IT_WAS,
        next_command="journalctl --unit " + UNIT if systemd.is_running() else None,
        details=said,
    )
