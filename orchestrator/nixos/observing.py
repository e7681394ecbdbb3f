"""What drivers observe of NixOS: the systems that a spec names, held to the one that is booted."""

from __future__ import annotations

from pathlib import PurePosixPath

from orchestrator.model.errors import MkupgradeError
from orchestrator.model.host import SystemState
from orchestrator.model.spec import UpgradeSpec
from orchestrator.nixos import changing, deciding, systems
from orchestrator.nixos.systems import Places
from orchestrator.system import resume_unit

_NOBODY = (
    f"it does not start {resume_unit.NAME}, so that nobody would go on in it behind the jump: "
    "its configuration must have mkupgrade, too"
)


def system_states(spec: UpgradeSpec, places: Places | None = None) -> dict[str, SystemState]:
    """By toplevel. What cannot be read is told in `error`, never raised."""
    named = {str(i.kernel.toplevel) for i in spec.instances if i.kernel.toplevel is not None}
    return {toplevel: _state(toplevel, places or systems.REAL) for toplevel in sorted(named)}


def booted_secrets(places: Places | None = None) -> str | None:
    """The program that appends its secrets to the booted system's initrd; None: it has none, or
    does not say so."""
    try:
        program = systems.booted(places or systems.REAL).boot.initrdSecrets
    except MkupgradeError:
        return None
    return str(program) if program is not None else None


def _state(toplevel: str, places: Places) -> SystemState:
    try:
        wanted = systems.read_system(places, PurePosixPath(toplevel))
        found = deciding.decide(systems.booted(places), systems.current(places), wanted)
    except MkupgradeError as error:
        return SystemState(toplevel=toplevel, error=str(error))
    return SystemState(
        toplevel=toplevel,
        error=_NOBODY if wanted.resumes is False else None,
        reasons=[str(reason) for reason in found.reasons],
        active=[found.booted, found.current],
        profile=changing.profile_state(places),
    )
