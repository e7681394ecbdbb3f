"""The running kernel: itself, kexec, KHO, LUO. Observed only; nothing is opened for long."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from orchestrator.model.host import KernelState


@dataclass(frozen=True)
class KexecState:
    """/sys/kernel/kexec_* and what may forbid loading."""

    supported: bool
    loaded: bool
    disabled: bool
    """kernel.kexec_load_disabled is 1, until the next reboot."""
    loads_left: int | None
    """kernel.kexec_load_limit_reboot; None: no limit."""
    lockdown: str
    """none, integrity or confidentiality."""
    signature_enforced: bool


def kernel_state(root: Path = Path("/")) -> KernelState:
    """Release, command line, ABI strings and own image of the running kernel. The ABI strings
    are those of its image on disk, if one of the same release and build is found."""
    raise NotImplementedError


def kexec_state(root: Path = Path("/")) -> KexecState:
    raise NotImplementedError


def config(root: Path = Path("/")) -> dict[str, str] | None:
    """The running kernel's configuration ("CONFIG_X" -> "y", "m" or a value), from
    /proc/config.gz, /usr/lib/modules/RELEASE/config or /boot/config-RELEASE; None: nowhere."""
    raise NotImplementedError
