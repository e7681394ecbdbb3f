"""Which watchdogs this host has, and whether they count on across a kexec. Opens none of them:
opening starts a watchdog.

Three parties can stop one between two kernels (drivers/watchdog/watchdog_core.c, Linux 7.3):

- the old kernel at the restart: `watchdog.stop_on_reboot=` decides; -1 leaves it to the driver,
  and sysfs does not tell what a driver chose;
- the next kernel's driver when it finds the device: its own business;
- the next kernel's core does the reverse: it feeds one that its driver found running, for ever
  unless `watchdog.open_timeout=` limits it. The programs of that kernel need not run for it.
"""

from __future__ import annotations

from pathlib import Path

from orchestrator.model.host import Capability
from orchestrator.system.files import is_character_device

_SYS = Path("sys/class/watchdog")
_STOP_ON_REBOOT = Path("sys/module/watchdog/parameters/stop_on_reboot")
_SOFTWARE = "Software Watchdog"
"""What softdog calls itself: a timer of the running kernel's own."""


def capability(device: str | None, root: Path = Path("/")) -> Capability:
    """Is the device that the spec names a watchdog, and what is known of it?

    Args:
        root: "/" but in tests.
    """
    if device is None:
        there = [p for p in sorted((root / "dev").glob("watchdog?")) if is_character_device(p)]
        found = ", ".join(_name(f"/dev/{p.name}", root) for p in there)
        has = f"; this host has {found}" if found else ", and this host has none"
        return Capability(available=False, reason=f"none is named (rollback.watchdog){has}")
    if not is_character_device(root / device.lstrip("/")):
        why = f"{device} is no device: is the watchdog's module loaded?"
        return Capability(available=False, reason=why)
    reason = f"{_name(device, root)}; {across_kexec(device, root)}"
    if _line(root / _SYS / Path(device).name / "nowayout") == "1":
        reason += "; nowayout: once armed it stays so"
    return Capability(available=True, reason=reason)


def across_kexec(device: str, root: Path = Path("/")) -> str:
    """Whether it is still armed while the next kernel boots, in words."""
    if _identity(device, root) == _SOFTWARE:
        return "it is gone with this kernel at the jump, so that it ends no hang at boot"
    match _line(root / _STOP_ON_REBOOT):
        case "0":
            return (
                "it counts on across the jump (watchdog.stop_on_reboot=0) until the next "
                "kernel's driver finds it"
            )
        case "":
            return "whether it counts on across the jump is not known"
        case "-1":
            why = "its driver decides, and most stop it"
        case value:
            why = f"this kernel stops it (watchdog.stop_on_reboot={value})"
    return (
        f"at the jump {why}, so that it may not end a hang at boot: boot this kernel with "
        "watchdog.stop_on_reboot=0 to have it count on"
    )


def _name(device: str, root: Path) -> str:
    return f"{device} ({_identity(device, root) or 'identity not known'})"


def _identity(device: str, root: Path) -> str:
    return _line(root / _SYS / Path(device).name / "identity")


def _line(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
