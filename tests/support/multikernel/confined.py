"""Can this process reach kexec or reboot of the real kernel? /proc/self/status says."""

from __future__ import annotations

from pathlib import Path

_CAP_SYS_BOOT = 22


def confinement_missing() -> str | None:
    """What of its confinement is not there; None: the kernel refuses those calls to it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    said = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    for which in ("CapBnd", "CapPrm", "CapEff"):
        if int(said[which], 16) >> _CAP_SYS_BOOT & 1:
            return f"CAP_SYS_BOOT in {which}"
    return None if said["Seccomp"].strip() == "2" else "no seccomp filter"
