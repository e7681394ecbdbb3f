"""Step kinds of an upgrade and their parameters.

A new kind is defined here and handled in the drivers that support it; nothing else changes.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from orchestrator.model.base import Record
from orchestrator.model.spec.checks import Check
from orchestrator.model.spec.policy import Hook
from orchestrator.model.spec.workloads import Workload


class Kind(StrEnum):
    CHECK_ARTIFACTS = "check-artifacts"
    PREFLIGHT = "preflight"
    RUN_HOOK = "run-hook"
    LOAD_KERNEL = "load-kernel"
    ARM_FALLBACK = "arm-fallback"
    CHECKPOINT = "checkpoint"
    PRESERVE = "preserve"
    JUMP = "jump"
    RETRIEVE = "retrieve"
    RESTORE = "restore"
    CHECK = "check"
    SOAK = "soak"
    COMMIT = "commit"
    RESTORE_BOOT_DEFAULT = "restore-boot-default"
    CLEAN_UP = "clean-up"
    CREATE_INSTANCE = "create-instance"
    LOAD_INSTANCE = "load-instance"
    START_INSTANCE = "start-instance"
    AWAIT_INSTANCE = "await-instance"
    MOVE_WORKLOAD = "move-workload"
    STOP_WORKLOAD = "stop-workload"
    START_WORKLOAD = "start-workload"
    COMMIT_INSTANCES = "commit-instances"
    HALT_INSTANCE = "halt-instance"
    UNLOAD_INSTANCE = "unload-instance"
    REMOVE_INSTANCE = "remove-instance"


ChannelName = Literal["kho", "disk"]


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


class RestoreBootDefault(Record):
    """In return: the old kernel is the default again, before anything else is tried."""

    boot_default: str | None


class CleanUp(Record):
    """Disarm the watchdog, drop trial dumps, spilled state and the loaded image."""

    workloads: list[str]
    keep_old_kernel: float


class Generation(Record):
    """A version of an instance, as the kernel knows it. Both names are never used again."""

    name: str
    """As below /sys/fs/multikernel/instances, such as web-g2."""
    id: int


class CreateInstance(Record):
    """Take CPUs and memory from the pool for a new generation. Revert: remove it."""

    generation: Generation
    cpus: list[int]
    """Physical ids."""
    memory_bytes: int
    devices: list[str] = []
    """PCI addresses."""


class LoadInstance(Record):
    """Load a kernel into an instance that has none. Revert: unload it."""

    generation: Generation
    image: str
    image_sha256: str
    initrd: str | None = None
    cmdline: str
    """Complete but for the transaction's mark, which the driver adds: whose image it is."""
    release: str


class StartInstance(Record):
    """Start what is loaded. Revert: halt it."""

    generation: Generation


class AwaitInstance(Record):
    """Wait until a started kernel answers. Leaves nothing behind."""

    generation: Generation
    port: int
    """Of vsock; a refused connection is an answer."""


class MoveWorkload(Record):
    """Stop a workload in one generation and start it in the next, by its own commands. No state
    is carried. Revert: the other way round."""

    workload: str
    stop: list[str]
    start: list[str]
    source: str | None
    """Instance that it runs in; None: it runs nowhere yet."""
    target: str
    timeout: float


class StopWorkload(Record):
    """Stop a workload in the generation that goes, by its own command. Revert: start it there."""

    workload: str
    stop: list[str]
    start: list[str]
    instance: str
    timeout: float


class StartWorkload(Record):
    """Start a workload in the generation that came. Revert: stop it there."""

    workload: str
    stop: list[str]
    start: list[str]
    instance: str
    timeout: float


class CommitInstances(Record):
    """From here on the old generations may go. All new ones must run still."""

    generations: list[Generation]


class HaltInstance(Record):
    """Halt a generation, by force if it does not answer. Its image stays loaded. Revert, before the
    commit: start it and wait until it answers."""

    generation: Generation
    back: AwaitInstance | None = None
    """None: behind the commit."""


class LoadedImage(Record):
    """What an instance has loaded, so that it can be loaded again."""

    image: str
    image_sha256: str
    initrd: str | None
    cmdline: str
    """As it was, with every mark."""


class UnloadInstance(Record):
    """Drop a generation's image. None is fine. Revert, before the commit: load what it had."""

    generation: Generation
    back: LoadedImage | None = None
    """None: behind the commit."""


class RemoveInstance(Record):
    """Give a generation's CPUs, memory and devices back to the pool. Revert, before the commit:
    make it again, as it was."""

    generation: Generation
    back: CreateInstance | None = None
    """None: behind the commit."""


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
    Kind.CREATE_INSTANCE: CreateInstance,
    Kind.LOAD_INSTANCE: LoadInstance,
    Kind.START_INSTANCE: StartInstance,
    Kind.AWAIT_INSTANCE: AwaitInstance,
    Kind.MOVE_WORKLOAD: MoveWorkload,
    Kind.STOP_WORKLOAD: StopWorkload,
    Kind.START_WORKLOAD: StartWorkload,
    Kind.COMMIT_INSTANCES: CommitInstances,
    Kind.HALT_INSTANCE: HaltInstance,
    Kind.UNLOAD_INSTANCE: UnloadInstance,
    Kind.REMOVE_INSTANCE: RemoveInstance,
}
