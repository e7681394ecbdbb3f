"""Parameters of the steps that change the kernel of a host, and of those that ask others."""

from __future__ import annotations

from typing import Literal

from orchestrator.model.base import Record
from orchestrator.model.kinds import ChannelName, Kind
from orchestrator.model.spec.checks import Check
from orchestrator.model.spec.policy import Hook
from orchestrator.model.spec.workloads import Workload


class PendingGeneration(Record):
    """What a profile leads to for the next start of the machine, and nobody has started yet."""

    toplevel: str
    generation: int


class NixosProfile(Record):
    """The system profile of a NixOS host and the boot menu that is made from it: what commit
    changes, and what the way back puts back."""

    link: str
    toplevel: str
    """What it leads to from commit on."""
    previous: str
    """What it must lead to until commit: a system that runs."""
    generation: int
    """Number of the latter."""
    last: int
    """Highest number that there was; later ones of `toplevel` are ours to remove."""
    pending: PendingGeneration | None = None
    """What it led to when the plan was made, where that is not `previous`. It leads there again
    if the new kernel is never jumped into."""


class CheckArtifacts(Record):
    """Read image, initrd and modules again and hold them to what the plan saw."""

    instance: str
    image: str
    image_sha256: str
    initrd: str | None = None
    initrd_sha256: str | None = None
    modules: str | None = None
    release: str
    signature: Literal["required", "if-enforced", "none"]


class Preflight(Record):
    """Look for everything that would go wrong behind the pivot, while nothing has happened:
    trial checkpoints, room for the state, free PIDs, files on tmpfs, clocks."""

    instance: str
    workloads: list[Workload]
    channels: dict[str, ChannelName]
    """Workload name -> channel."""
    to_release: str
    nixos: NixosProfile | None = None


class RunHook(Record):
    hook: Hook
    undoes: str | None = None
    """On the way back: id of the step of `forward` whose hook this undoes. There is nothing to do
    unless that was performed, or begun when its kernel was lost; nor in `recover` when `return`
    has done it."""


class LoadKernel(Record):
    instance: str
    image: str
    image_sha256: str
    initrd: str | None = None
    initrd_sha256: str | None = None
    """Held to where secrets are appended: what the program is let at must be the plan's initrd."""
    initrd_secrets: str | None = None
    """Program that appends secrets to a private copy of the initrd."""
    cmdline: str
    """Complete but for the transaction's mark, which the driver adds: the parameter
    "mkupgrade.transaction=<id>/<section>", by which the landing is recognised."""
    release: str


class ArmFallback(Record):
    """Record the way back and make sure that a reset ends in the old kernel."""

    from_release: str
    boot_default: str | None
    image: str | None
    initrd: str | None
    cmdline: str
    watchdog: str | None
    boot_deadline: float
    nixos: NixosProfile | None = None


class Checkpoint(Record):
    """Quiesce a workload and take its state; it does not run afterwards. Revert: restore."""

    workload: Workload
    channel: ChannelName
    spill: bool
    """Also write the state to the state directory, durably."""


class Preserve(Record):
    """Seal manifest and payloads and hand them to the channel."""

    workloads: list[str]
    channels: dict[str, ChannelName]
    from_release: str
    to_release: str


class Jump(Record):
    """The pivot. `reset`: through the firmware into the default boot entry."""

    method: Literal["kexec", "reset"]
    from_release: str
    to_release: str
    from_cmdline: str = ""
    to_cmdline: str = ""
    """By what they do not share two kernels of one release are told apart after a reset."""
    boot_deadline: float


class Retrieve(Record):
    """Fetch manifest and payloads, verify digests, make durable, finish the session."""

    workloads: list[str]
    channels: dict[str, ChannelName]


class Restore(Record):
    workload: Workload
    channel: ChannelName
    or_restart: bool = False
    """In recover: where no state is left, start the workload anew and say so."""


class RunChecks(Record):
    phase: Literal["before", "after"]
    checks: list[Check]


class SoakParams(Record):
    duration: float
    interval: float
    max_failures: int
    checks: list[Check]


class Commit(Record):
    """Make the new kernel the default boot entry."""

    instance: str
    release: str
    image: str
    initrd: str | None
    cmdline: str
    previous_default: str | None
    keep_old_kernel: float
    """Seconds; until then the old entry and its files stay."""
    nixos: NixosProfile | None = None


class RestoreBootDefault(Record):
    """In return: the old kernel is the default again, before anything else is tried."""

    boot_default: str | None
    nixos: NixosProfile | None = None


class CleanUp(Record):
    """Disarm the watchdog, drop trial dumps, spilled state and the loaded image."""

    workloads: list[str]
    keep_old_kernel: float


PARAMS: dict[Kind, type[Record]] = {
    Kind.CHECK_ARTIFACTS: CheckArtifacts,
    Kind.PREFLIGHT: Preflight,
    Kind.RUN_HOOK: RunHook,
    Kind.LOAD_KERNEL: LoadKernel,
    Kind.ARM_FALLBACK: ArmFallback,
    Kind.CHECKPOINT: Checkpoint,
    Kind.PRESERVE: Preserve,
    Kind.JUMP: Jump,
    Kind.RETRIEVE: Retrieve,
    Kind.RESTORE: Restore,
    Kind.CHECK: RunChecks,
    Kind.SOAK: SoakParams,
    Kind.COMMIT: Commit,
    Kind.RESTORE_BOOT_DEFAULT: RestoreBootDefault,
    Kind.CLEAN_UP: CleanUp,
}
