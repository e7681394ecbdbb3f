"""Parameters of the steps that replace instances beside the host's own kernel."""

from __future__ import annotations

from orchestrator.model.base import Record
from orchestrator.model.host import MemoryPiece
from orchestrator.model.kinds import Kind
from orchestrator.model.spec.checks import Check
from orchestrator.model.spec.workloads import Workload


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
    agent: int | None = None
    """Port of the agent in it, by vsock: its key is added to the initrd."""


class StartInstance(Record):
    """Start what is loaded. Revert: halt it."""

    generation: Generation


class AwaitedAgent(Record):
    """Whose answer is waited for: ready, and in this kernel."""

    port: int
    release: str | None
    """None: it is not known what is loaded."""
    works: bool = False
    """It must be one that checkpoints and restores workloads."""


class AwaitInstance(Record):
    """Wait until a started kernel answers. Leaves nothing behind."""

    generation: Generation
    port: int
    """Of vsock; a refused connection is an answer."""
    agent: AwaitedAgent | None = None
    """None: any answer will do."""
    ready: list[Check] = []
    """What must hold then, each within its time, before anything is moved there."""
    ready_seconds: float = 0.0
    """Of the step's time, what is left for them when the kernel answers late."""


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


class Reached(Record):
    """A generation, and the port of the agent in it."""

    generation: Generation
    port: int


class Tried(Record):
    """A workload, and the generation that it runs in."""

    workload: Workload
    instance: Reached


class TryWorkloads(Record):
    """Try a checkpoint of each workload that is to be carried; it runs on. Before anything is
    changed. Leaves nothing behind but what each of them needs."""

    workloads: list[Tried]


class AdmitWorkloads(Record):
    """Ask the generation that came whether these workloads can be restored in it, while they run
    on in the one that they are in. Leaves nothing behind."""

    instance: Reached
    workloads: list[Workload]


class CarryWorkload(Record):
    """Checkpoint a workload in one generation and restore it in the next, both of which run, by
    their agents. Revert: the other way round, with the state that it has by then."""

    workload: Workload
    source: Reached
    target: Reached
    """It came with this section, and may be halted where its agent is gone."""
    ran_on_seconds: float = 0.0
    """Of the step's estimate, those at its beginning in which the workload runs on."""


class TakeWorkload(Record):
    """Checkpoint a workload in the generation that goes, and keep its state on the host. Revert:
    restore it there."""

    workload: Workload
    instance: Reached
    patience: float
    """Seconds for its agent to answer, where it boots anew before the revert."""
    ran_on_seconds: float = 0.0
    """As of `CarryWorkload`."""


class BringWorkload(Record):
    """Restore a workload in the generation that came, from the host's disk. Revert: checkpoint it
    there."""

    workload: Workload
    instance: Reached
    """It may be halted where its agent is gone."""


class CommitInstances(Record):
    """From here on the old generations may go. All new ones must run still."""

    generations: list[Generation]
    kept: list[Generation] = []
    """Old ones that stay loaded, for `mkupgrade rollback`."""
    keep_old_kernel: float = 0.0
    """Seconds for which they do."""


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
    """As it was, with every mark; but for that of the transaction itself, if it is ours."""
    ours: bool = False
    """Was it loaded by this very transaction, in section forward?"""
    agent: int | None = None
    """Port of the agent in it, whose key was added to the initrd."""


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


class AddCpus(Record):
    """Give CPUs of the pool to an instance that runs. Revert: take them back."""

    target: Generation
    cpus: list[int]
    """Physical ids."""


class RemoveCpus(Record):
    """Take CPUs out of an instance that runs. Revert: give them back to it."""

    target: Generation
    cpus: list[int]


class AddMemory(Record):
    """Give memory of the pool to an instance that runs, wherever it is free. Revert: take away
    what was given."""

    target: Generation
    size: int
    """Bytes, whole granules."""
    granule: int
    """What its place is aligned to."""


class RemoveMemory(Record):
    """Take memory out of an instance that runs. Revert: give the same pieces back to it."""

    target: Generation
    pieces: list[MemoryPiece]
    """The newest first: the kernel takes no other order."""
    added_by: str | None = None
    """In place of pieces: id of the step that added what is to go."""


class GrowPool(Record):
    """Take CPUs, or memory, of the host into the pool. Revert: give them back to the host."""

    cpus: list[int] = []
    """Physical ids."""
    memory: int = 0
    """Bytes, wherever the kernel finds them; with no CPUs."""
    chunks: list[MemoryPiece] = []
    """With memory: what the pool had before."""


class ShrinkPool(Record):
    """Give CPUs, or memory, of the pool back to the host. Revert: take as much again."""

    cpus: list[int] = []
    chunks: list[MemoryPiece] = []
    """Whole ones, that nobody uses; with no CPUs."""
    memory_before: int = 0
    """With chunks: bytes that the pool had before."""
    added_by: str | None = None
    """In place of chunks: id of the step that added what is to go."""


PARAMS: dict[Kind, type[Record]] = {
    Kind.CREATE_INSTANCE: CreateInstance,
    Kind.LOAD_INSTANCE: LoadInstance,
    Kind.START_INSTANCE: StartInstance,
    Kind.AWAIT_INSTANCE: AwaitInstance,
    Kind.MOVE_WORKLOAD: MoveWorkload,
    Kind.STOP_WORKLOAD: StopWorkload,
    Kind.START_WORKLOAD: StartWorkload,
    Kind.TRY_WORKLOADS: TryWorkloads,
    Kind.ADMIT_WORKLOADS: AdmitWorkloads,
    Kind.CARRY_WORKLOAD: CarryWorkload,
    Kind.TAKE_WORKLOAD: TakeWorkload,
    Kind.BRING_WORKLOAD: BringWorkload,
    Kind.COMMIT_INSTANCES: CommitInstances,
    Kind.HALT_INSTANCE: HaltInstance,
    Kind.UNLOAD_INSTANCE: UnloadInstance,
    Kind.REMOVE_INSTANCE: RemoveInstance,
    Kind.ADD_CPUS: AddCpus,
    Kind.REMOVE_CPUS: RemoveCpus,
    Kind.ADD_MEMORY: AddMemory,
    Kind.REMOVE_MEMORY: RemoveMemory,
    Kind.GROW_POOL: GrowPool,
    Kind.SHRINK_POOL: ShrinkPool,
}
