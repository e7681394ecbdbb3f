"""`nixos stage`: remembers what a boot loader was given, and keeps what kexec would start in step
with it. A switch must not fail by it: what goes wrong is told, and nothing is raised."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from orchestrator.model.errors import ErrorClass, MkupgradeError

if TYPE_CHECKING:
    from orchestrator.nixos.preloading import Machine
    from orchestrator.nixos.systems import Places, System

_SECONDS = 120.0
"""For a program that appends secrets."""


@dataclass
class Told:
    staged: str | None = None
    """The system that is remembered."""
    preloaded: str | None = None
    """The system whose kernel we have loaded, now."""
    problem: str | None = None
    lines: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """The form of `--json`."""
        return {"staged": self.staged, "preloaded": self.preloaded, "problem": self.problem}

    def fail(self, what: str, error: Exception) -> None:
        told = f"{what}: {error}"
        if isinstance(error, MkupgradeError) and error.next_command is not None:
            told += f" ({error.next_command})"
        self.problem = self.problem or told
        self.lines.append(told)


def stage_system(state_dir: Path, toplevel: PurePosixPath, *, preload: bool) -> Told:
    """Remember a system, drop what was preloaded before, and preload its kernel if that is asked
    for and the next start takes another one. Raises nothing that a host can be at fault for."""
    told, wanted = Told(), None
    try:
        wanted = _remember(told, state_dir, toplevel)
    except (MkupgradeError, OSError) as error:
        told.fail("the system was not remembered", error)
    try:
        # Also where it was not remembered: what was preloaded is not what was given last.
        _keep_in_step(told, state_dir, wanted if preload else None)
    except (MkupgradeError, OSError) as error:
        told.fail("nothing was preloaded" if preload else "nothing was unloaded", error)
    return told


def machine() -> Machine:
    """The running kernel. Whether it may be changed is the guard's to say."""
    from orchestrator.drivers.live_update.real import RealMachine
    from orchestrator.system.guard import HostGuard

    return RealMachine(HostGuard.open())


def _remember(told: Told, state_dir: Path, toplevel: PurePosixPath) -> System | None:
    """Returns: the system, if the next start takes another kernel for it."""
    from orchestrator.nixos import deciding, staging, systems
    from orchestrator.system import proc

    places, boot_id = systems.REAL, proc.boot_id()
    wanted = systems.read_system(places, toplevel)
    found = deciding.decide(systems.booted(places), systems.current(places), wanted)
    made = staging.Staged(
        toplevel=found.wanted,
        boot_id=boot_id,
        reasons=[str(reason) for reason in found.reasons],
        preloaded=staging.preloaded(state_dir, boot_id),
    )
    staging.remember(state_dir, made)
    told.staged = found.wanted
    if found.transition:
        told.lines.append("the next start of this machine takes another kernel")
    return wanted if found.transition else None


def _keep_in_step(told: Told, state_dir: Path, wanted: System | None) -> None:
    from orchestrator.nixos import staging
    from orchestrator.system import proc

    boot_id = proc.boot_id()
    ours = staging.preloaded(state_dir, boot_id)
    if ours is None and wanted is None:
        return
    from orchestrator.cli.verbs.apply import refuse_if_unfinished
    from orchestrator.engine.lock import holding
    from orchestrator.nixos import preloading, systems

    here = machine()
    if ours is not None and here.kexec_loaded():
        told.preloaded = ours.toplevel
    # A transaction loads and unloads by itself, and what it finds changed it cannot explain.
    with holding(state_dir, "nixos stage"):
        refuse_if_unfinished(state_dir)
        dropped = preloading.drop(here, state_dir, boot_id)
        told.preloaded = None
        if dropped is not None and (wanted is None or dropped.toplevel != wanted.toplevel):
            told.lines.append(f"the kernel of {dropped.toplevel}, preloaded before, is unloaded")
        if wanted is None:
            return
        if here.kexec_loaded():
            raise MkupgradeError(
                "somebody else has loaded a kernel for kexec, which stays",
                next_command="kexec --kexec-file-syscall --unload",
                error_class=ErrorClass.REFUSED,
            )
        _load(here, systems.REAL, wanted, state_dir, boot_id)
    told.preloaded = wanted.toplevel
    told.lines.append(
        "its kernel is loaded: `systemctl kexec` and `systemctl reboot` start it without the "
        "firmware (SYSTEMCTL_SKIP_AUTO_KEXEC=1 systemctl reboot goes through it)"
    )


def _load(here: Machine, places: Places, wanted: System, state_dir: Path, boot_id: str) -> None:
    from orchestrator.drivers.live_update.real import RUNTIME_DIR
    from orchestrator.drivers.records import make_private_directories
    from orchestrator.nixos import preloading
    from orchestrator.system.limited import Limited

    scratch = RUNTIME_DIR / "preload"
    if wanted.boot.initrdSecrets is not None:
        make_private_directories(scratch)
    preloading.load(
        here,
        places,
        wanted,
        state_dir=state_dir,
        boot_id=boot_id,
        scratch=scratch,
        control=Limited(_SECONDS),
    )
