"""`nixos stage --preload`: the staged system's kernel, loaded for kexec before anybody restarts.

systemctl(1): `reboot` does a kexec where an image is loaded, unless SYSTEMCTL_SKIP_AUTO_KEXEC=1 is
set; `systemctl kexec` takes it, too. So an image that is not the staged system's must never stay:
what we loaded before is dropped first, whatever comes next. What somebody else has loaded stays.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from orchestrator.nixos import staging
from orchestrator.nixos.staging import Preloaded

if TYPE_CHECKING:
    from orchestrator.model.seams import Control
    from orchestrator.nixos.systems import Places, System


class Machine(Protocol):
    """What of the running kernel is needed here; each call is guarded where it is real."""

    def kexec_loaded(self) -> bool: ...

    def load_kernel(self, image: Path, sha256: str, initrd: Path | None, cmdline: str) -> None: ...

    def unload_kernel(self) -> None: ...


def drop(machine: Machine, state_dir: Path, boot_id: str) -> Preloaded | None:
    """Unload what we have preloaded in this boot; what that was, or None: nothing was.

    Raises:
        MkupgradeError: it cannot be unloaded, and the note says so still.
    """
    ours = staging.preloaded(state_dir, boot_id)
    if ours is None:
        return None
    loaded = machine.kexec_loaded()
    if loaded:
        machine.unload_kernel()
    staging.note_preloaded(state_dir, None)
    return ours if loaded else None


def is_ours(machine: Machine, state_dir: Path, boot_id: str) -> bool:
    """Is an image loaded, and is it one that we have preloaded in this boot?"""
    return machine.kexec_loaded() and staging.preloaded(state_dir, boot_id) is not None


def load(
    machine: Machine,
    places: Places,
    system: System,
    *,
    state_dir: Path,
    boot_id: str,
    scratch: Path,
    control: Control,
) -> None:
    """Load the kernel of the system that was staged, with its initrd, secrets and parameters.

    Args:
        scratch: a private directory in memory, for an initrd with secrets.

    Raises:
        MkupgradeError: it cannot be loaded; nothing is loaded then.
    """
    from orchestrator.system import files

    boot = system.boot
    image = Path(places.tree.outside(boot.kernel))
    sha256, _ = files.sha256_path(image)
    with _initrd(places, system, scratch, control) as initrd:
        staging.note_preloaded(state_dir, Preloaded(toplevel=system.toplevel, boot_id=boot_id))
        try:
            machine.load_kernel(image, sha256, initrd, command_line(system))
        except BaseException:
            if not machine.kexec_loaded():
                staging.note_preloaded(state_dir, None)
            raise


def command_line(system: System) -> str:
    """As the boot loader's entry has it: bootspec v1, `init` and `kernelParams`."""
    return " ".join([f"init={system.boot.init}", *system.boot.kernelParams])


@contextmanager
def _initrd(
    places: Places, system: System, scratch: Path, control: Control
) -> Iterator[Path | None]:
    boot = system.boot
    initrd = Path(places.tree.outside(boot.initrd)) if boot.initrd is not None else None
    if initrd is None or boot.initrdSecrets is None:
        yield initrd
        return
    from orchestrator.nixos.initrd import with_secrets
    from orchestrator.system import files

    sha256, _ = files.sha256_path(initrd)
    program = Path(places.tree.outside(boot.initrdSecrets))
    with with_secrets(initrd, program, sha256, scratch, control) as copy:
        yield copy
