"""Boot loaders: which entry a reset ends in, and how to change that.

- systemd-boot: Boot Loader Specification entries; default by loader.conf and the EFI variables
  LoaderEntryDefault and LoaderEntryOneShot, set by `bootctl`.
- grub: `saved_entry` in grubenv, set by `grub-set-default`; GRUB_DEFAULT=saved is required.
- none: the firmware or the hypervisor decides (QEMU's -kernel): nothing to set.
"""

from __future__ import annotations

from pathlib import Path

from orchestrator.model.host import BootState, Capability
from orchestrator.system import guard


def observe(root: Path = Path("/")) -> BootState:
    """Loader, default entry and entries of this host. Changes nothing, never raises for what
    is not there: then the loader is "none"."""
    raise NotImplementedError


def capability(state: BootState) -> Capability:
    """Can the default entry be read and set here? With the reason."""
    raise NotImplementedError


def entry_for(state: BootState, release: str) -> str | None:
    """The entry that boots a kernel of this release, if exactly one does."""
    raise NotImplementedError


def set_default(host: guard.HostGuard, state: BootState, entry: str) -> None:
    """Make `entry` the default from now on.

    Raises:
        GuardError. NotSupportedError: loader "none", or not such an entry. ToolError.
    """
    raise NotImplementedError
