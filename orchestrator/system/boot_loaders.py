"""Boot loaders: which entry a reset ends in, and how to change that.

- systemd-boot: if the firmware says that it booted this machine (LoaderInfo).
- grub: if there is a grub.cfg.
- none: the firmware or the hypervisor decides (QEMU's -kernel): nothing to read, nothing to set.
"""

from __future__ import annotations

import shlex
from pathlib import Path

from orchestrator.model.errors import ErrorClass, NotSupportedError
from orchestrator.model.host import BootState, Capability
from orchestrator.system import grub, systemd_boot
from orchestrator.system import guard as guards

_ROOT = Path("/")


def observe(root: Path = _ROOT) -> BootState:
    """Loader, default entry and entries of this host. Changes nothing; never raises for what is
    not there: then the loader is "none".

    Args:
        root: "/" but in tests.
    """
    booted_by = systemd_boot.booted_by(root) or ""
    if booted_by.startswith("systemd-boot"):
        return systemd_boot.observe(root)
    config = grub.config_path(root)
    return grub.observe(root, config) if config is not None else BootState()


def capability(state: BootState, root: Path = _ROOT) -> Capability:
    """Can the default entry be read and set here? With the reason."""
    if state.loader == "systemd-boot":
        found = systemd_boot.capability(root)
    elif state.loader == "grub" and (config := grub.config_path(root)) is not None:
        found = grub.capability(config)
    else:
        return Capability(
            available=False,
            reason="no boot loader found: firmware or hypervisor choose the kernel of a reset",
        )
    if found.available and state.default is None:
        return Capability(
            available=False, reason=f"{state.loader} does not say which entry is its default"
        )
    return found


def entry_for(state: BootState, release: str) -> str | None:
    """The entry that boots a kernel of this release, if it is clear which one.

    An entry that has the release in its id goes before one that boots whatever is newest.
    """
    found = [entry for entry, what in state.entries.items() if what == release]
    named = [entry for entry in found if release in entry]
    best = named or found
    return best[0] if len(best) == 1 else None


def command_to_set_default(state: BootState, entry: str) -> str:
    """What an operator types to make an entry the default."""
    if state.loader == "systemd-boot":
        return f"bootctl set-default {shlex.quote(entry)}"
    return f"grub-set-default {shlex.quote(entry)}"


def command_to_drop_once(state: BootState) -> str:
    """What an operator types to forget the entry chosen for the next boot only."""
    return systemd_boot.DROP_ONCE if state.loader == "systemd-boot" else grub.DROP_ONCE


def set_default(host: guards.HostGuard, state: BootState, entry: str, root: Path = _ROOT) -> None:
    """Make `entry` the default from now on; an entry chosen for the next boot only is dropped.

    Raises:
        GuardError. NotSupportedError: loader "none", or no such entry.
        ToolError: the loader's own tool failed, or the default is another one afterwards.
    """
    guards.require(host, f"make {entry} the default boot entry")
    if entry not in state.entries:
        raise NotSupportedError(
            f"{state.loader} has no entry {entry!r}",
            details=tuple(f"{name}: {what}" for name, what in state.entries.items()),
            next_command="bootctl list" if state.loader == "systemd-boot" else "mkupgrade doctor",
            error_class=ErrorClass.INVALID,
        )
    if state.loader == "systemd-boot":
        systemd_boot.set_default(entry)
        return
    config = grub.config_path(root)
    if state.loader != "grub" or config is None:
        raise NotSupportedError(capability(state, root).reason, next_command="mkupgrade doctor")
    grub.set_default(config, entry)
