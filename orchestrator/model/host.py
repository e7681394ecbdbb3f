"""Host state: what a driver saw, with the reason for everything it cannot do."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Literal

from pydantic import Field

from orchestrator.model.base import Record


class Cap(StrEnum):
    """Names of capabilities; a step lists those it requires."""

    ROOT = "root"
    KEXEC_FILE = "kexec-file"
    """kexec_file_load is there and allowed (lockdown, kexec_load_disabled, limits)."""
    KHO = "kho"
    """The running kernel can hand memory over (CONFIG_KEXEC_HANDOVER, kho=on)."""
    LUO = "luo"
    """/dev/liveupdate can be opened and memfds preserved."""
    CRIU = "criu"
    CRIU_TCP = "criu-tcp"
    """Established TCP connections: SOCK_DIAG, nftables, TCP repair."""
    TIME_NS = "time-namespace"
    SYSTEMD = "systemd"
    BOOT_DEFAULT = "boot-default"
    """The default boot entry can be read and set."""
    WATCHDOG = "watchdog"
    OLD_KERNEL = "old-kernel"
    """The running kernel's own image is at hand, so that a jump back is possible."""
    DURABLE_STATE = "durable-state"
    """The state directory is on a file system that survives a reset."""
    RESUME = "resume-at-boot"
    """Somebody goes on with the transaction when the machine has started again."""
    SIDE_BY_SIDE = "side-by-side"
    """More than one kernel can run at once (multikernel)."""
    INSTANCE_VSOCK = "instance-vsock"
    """Instances can be reached by vsock, and so can the agent in one."""


class Capability(Record):
    available: bool
    reason: str
    """Why, or why not, in words for the operator. Never empty."""


class Abi(Record):
    """The version strings compiled into a kernel (facts: include/linux/kho/abi/*.h)."""

    kho: str | None = None
    luo: str | None = None
    memfd: str | None = None

    def differences(self, other: Abi) -> list[str]:
        """One line per string that differs or is missing on a side; empty: compatible."""
        lines = []
        for name in ("kho", "luo", "memfd"):
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine is None or theirs is None or mine != theirs:
                lines.append(f"{name}: {mine or 'none'} here, {theirs or 'none'} there")
        return lines


class KernelState(Record):
    """The running kernel."""

    release: str
    version: str = ""
    cmdline: str
    abi: Abi = Abi.model_construct()
    image: str | None = None
    """Path of its own image, if known: the way back."""
    initrd: str | None = None
    initrd_secrets: str | None = None
    """A program that appends secrets to a copy of it, as on NixOS; None: it needs none."""
    tainted: int = 0
    system: str | None = None
    """The NixOS system that it was booted from (/run/booted-system); None: it is no NixOS."""


class ProfileState(Record):
    """The system profile of a NixOS host: what its boot menu was made from."""

    link: str
    leads_to: str | None
    """The toplevel; None: there is no such profile, or what it leads to is gone."""
    generation: int | None
    """Its number there."""
    last: int
    """The highest number that there is."""
    back_to: str | None = None
    """The current system, else the booted one, where a generation of the profile leads to it: what
    a profile that leads elsewhere, as after `nixos-rebuild boot`, is made to lead to until
    commit."""
    back: int | None = None
    """Number of the newest such generation."""


class SystemState(Record):
    """A NixOS system that the spec names, held to the one that is booted. `error` set: it could
    not be."""

    toplevel: str
    error: str | None = None
    reasons: list[str] = []
    """What of it takes another kernel than the running one; empty: a switch is enough."""
    active: list[str] = []
    """The booted system and the current one."""
    profile: ProfileState | None = None
    """None: whoever observed knows of no profile, and none is changed."""


class Artifact(Record):
    """A file that the spec names, as it was read. `error` set: it could not be used."""

    path: str
    kind: Literal["image", "initrd", "modules"]
    error: str | None = None
    size: int = 0
    sha256: str | None = None
    release: str | None = None
    """Of an image: the release string inside it."""
    abi: Abi = Abi.model_construct()
    kho_config: bool | None = None
    """Of an image: CONFIG_KEXEC_HANDOVER and CONFIG_LIVEUPDATE_MEMFD; None: unknown."""
    pe_signed: bool = False


def is_release(text: str) -> bool:
    """Is this a kernel release (`uname -r`), rather than a title?"""
    return re.match(r"\d+\.\d+", text) is not None and " " not in text


class BootState(Record):
    """The boot loader's view: what a reset ends in."""

    loader: Literal["systemd-boot", "grub", "none"] = "none"
    default: str | None = None
    once: str | None = None
    """Entry chosen for the next boot only; it goes before the default."""
    entries: dict[str, str] = {}
    """Entry id -> kernel release or title."""


class WorkloadState(Record):
    """A workload of the spec, as found."""

    name: str
    pids: list[int] = []
    """The tree, root first; empty: not running."""
    error: str | None = None
    memory_bytes: int = 0
    """Resident memory of the tree; the estimate of its state's size."""
    volatile_files: list[str] = []
    """Files on tmpfs that its processes have open."""


class MemoryPiece(Record):
    """Physical memory at its place, in bytes."""

    base: int
    size: int


class PoolState(Record):
    """CPUs and memory that the host has set aside for instances."""

    cpus: list[int]
    """Physical ids of all members."""
    free_cpus: list[int]
    memory_bytes: int
    chunks: list[MemoryPiece] = []
    """Of its memory, whether free or not: what goes back to the host goes by whole ones."""
    free_memory_bytes: int
    """What new instances can get of it in all; a large one may find it in too small pieces."""
    devices: list[str] = []
    """PCI addresses of those that no instance has."""
    granule: int = 128 << 20
    """Bytes that memory moves by, into and out of what runs."""


class InstanceState(Record):
    """An instance beside the host's own kernel, whoever made it."""

    name: str
    id: int
    status: Literal["empty", "ready", "loaded", "active", "failed"]
    """`active` says that it was started, not that it lives."""
    cpus: list[int] = []
    memory_bytes: int = 0
    memory: list[MemoryPiece] = []
    """Where it is, the oldest first; empty: the kernel does not say."""
    devices: list[str] = []
    cmdline: str | None = None
    """Of the image that is loaded in it; None: there is none."""
    agent: int | None = None
    """Port of the agent in it, by vsock, if this host has its key."""
    not_remade: str | None = None
    """Why it could not be made again as it is once it is removed; None: it could."""


class KeptGeneration(Record):
    """An old generation that stays loaded behind a commit, for `mkupgrade rollback`."""

    name: str
    id: int
    cmdline: str | None
    """Of the image that is kept in it."""
    transaction: str
    until: float
    """Unix seconds; from then on its place may be given back."""


class SideBySide(Record):
    """The pool and its instances, as the kernel tells of them."""

    pool: PoolState | None = None
    """None: the host has set nothing aside."""
    instances: list[InstanceState] = []
    kept: list[KeptGeneration] = []


class HostState(Record):
    """Everything the planner may know. Observed by a driver, kept in a saved plan."""

    driver: str
    machine_id: str
    hostname: str
    boot_id: str
    kernel: KernelState
    kexec_loaded: bool = False
    """By somebody else: what `nixos stage --preload` has loaded makes way, and does not count."""
    boot: BootState = BootState.model_construct()
    cpus: int = 1
    cpu_ids: list[int] = []
    """Physical ids of the CPUs that are online, in Linux's order; empty: not known."""
    memory_bytes: int = 0
    memory_available_bytes: int = 0
    systemd_version: int | None = None
    criu_version: str | None = None
    signature_enforced: bool = False
    capabilities: dict[Cap, Capability] = Field(default_factory=dict)
    artifacts: dict[str, Artifact] = Field(default_factory=dict)
    """By path: every file that the spec names, and the old kernel's own image and initrd where
    they are known. Without the old image's digest the way back is a reset, not a jump."""
    systems: dict[str, SystemState] = Field(default_factory=dict)
    """By toplevel: every NixOS system that the spec names."""
    workloads: dict[str, WorkloadState] = Field(default_factory=dict)
    pool: PoolState | None = None
    instances: dict[str, InstanceState] = Field(default_factory=dict)
    """By name."""
    strategies: list[str] = ["in-place"]
    """Strategies that this driver can carry out."""

    def can(self, cap: Cap) -> Capability:
        """The capability; one that the driver did not report is absent, and says so."""
        return self.capabilities.get(
            cap, Capability(available=False, reason=f"driver {self.driver} does not report it")
        )
