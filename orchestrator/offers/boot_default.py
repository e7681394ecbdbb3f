"""The boot loader's default stays the running kernel until an offer is committed.

The menus of GRUB and systemd-boot begin with the newest kernel, so that a package which adds an
entry may have made it the default. What somebody has chosen otherwise is left alone.
"""

from __future__ import annotations

from pathlib import Path

from orchestrator.model.errors import MkupgradeError
from orchestrator.model.host import BootState
from orchestrator.system import boot_loaders
from orchestrator.system.guard import HostGuard

_ROOT = Path("/")


def keep(running: str, offered: str, guard: HostGuard, root: Path = _ROOT) -> str | None:
    """Put the default back to the running kernel if it is the offered one now.

    Args:
        running: release of the kernel that runs.
        root: "/" but in tests.

    Returns:
        What was done, or why not and what to do, in one line; None: it is another default, or no
        boot loader that we know.
    """
    state = boot_loaders.observe(root)
    if not _starts(state, offered):
        return None
    entry = boot_loaders.entry_for(state, running)
    why = _why_not(state, entry, running, guard, root)
    if why is None and entry is not None:
        try:
            boot_loaders.set_default(guard, state, entry, root)
        except MkupgradeError as error:
            why = error.what
        else:
            return f"the boot loader's default is Linux {running} again, until the commit"
    return f"the boot loader's default is Linux {offered} now, and apply will refuse: {why}"


def _starts(state: BootState, release: str) -> bool:
    return state.default is not None and state.entries.get(state.default) == release


def _why_not(
    state: BootState, entry: str | None, running: str, guard: HostGuard, root: Path
) -> str | None:
    possible = boot_loaders.capability(state, root)
    if not possible.available:
        return possible.reason
    if entry is None:
        return f"no single entry starts Linux {running}"
    if state.once is not None:
        return f"{state.once} is chosen for the next boot, which is left as it is"
    if guard.objections():
        command = boot_loaders.command_to_set_default(state, entry)
        return f"`mkupgrade host permit` lets mkupgrade keep it, `{command}` does once"
    return None
