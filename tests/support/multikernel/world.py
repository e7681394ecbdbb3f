"""The state of the double: a host, its pool, and the instances with the kernels in them."""

from __future__ import annotations

import errno
from dataclasses import dataclass, field

from orchestrator.drivers.multikernel.trees.forms import (
    InstanceTree,
    MemoryRegion,
    PciDevice,
    PlatformDevice,
    PoolTree,
)
from orchestrator.drivers.multikernel.trees.writing import instance_tree, pool_tree
from tests.support.multikernel.memory import Memory
from tests.support.multikernel.settings import (
    ACK_SECONDS,
    GRANULE,
    NEWER,
    PARKING_SECONDS,
    Clock,
    Faults,
    Spawn,
    Variant,
)


@dataclass
class Image:
    """What kexec_file_load left; a start copies it afresh."""

    kernel: bytes
    initrd: bytes | None
    cmdline: str


@dataclass
class Life:
    """A kernel that was started."""

    spawn: Spawn
    started: float
    known_cpus: frozenset[int]
    """Members of the pool at its start: no others can be added while it runs."""
    boot_cpu: int

    def past(self, at: float | None, now: float) -> bool:
        return at is not None and now >= self.started + at


@dataclass
class Instance:
    name: str
    id: int
    cpus: list[int] = field(default_factory=list)
    regions: list[MemoryRegion] = field(default_factory=list)
    pci: list[str] = field(default_factory=list)
    platform: list[PlatformDevice] = field(default_factory=list)
    status: str = "ready"
    image: Image | None = None
    life: Life | None = None
    parked_at: float = 0.0
    """When its CPUs are at rest after a halt."""


@dataclass
class World:
    """Everything. `settle` brings it up to the clock."""

    memory: Memory
    host_cpus: list[int]
    """Physical ids of all CPUs of the machine, in Linux's order."""
    variant: Variant = NEWER
    clock: Clock = field(default_factory=Clock)
    faults: Faults = field(default_factory=Faults)
    host_pci: dict[str, PciDevice] = field(default_factory=dict)
    offline: set[int] = field(default_factory=set)
    """Switched off by the host: they cannot join the pool."""
    members: list[int] = field(default_factory=list)
    leaked: set[int] = field(default_factory=set)
    """Lost to host and instances until the next boot."""
    pool_pci: list[str] = field(default_factory=list)
    pool_platform: list[PlatformDevice] = field(default_factory=list)
    aliases: dict[str, str] = field(default_factory=dict)
    instances: dict[str, Instance] = field(default_factory=dict)
    spawns: dict[str, Spawn] = field(default_factory=dict)
    """How the next kernel of an instance of this name behaves."""
    commands: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)
    """Name of an instance and what was run in it by kerf-init."""
    log: list[str] = field(default_factory=list)
    """The kernel's: the only place that says why an operation failed."""
    host_image: bytes | None = b"the host's own"
    """What the host has loaded for a kexec of itself."""
    overruns: int = 0
    """How often an overlay longer than a page made the kernel read beyond its copy."""
    wrecked: list[str] = field(default_factory=list)
    """Instances whose image was unloaded under a running kernel."""

    def settle(self) -> None:
        """What kernels in instances have done by themselves until now."""
        for instance in self.instances.values():
            life = instance.life
            if life is not None and life.past(life.spawn.halts_at, self.clock.now):
                self.stop(instance, self.clock.now)

    def stop(self, instance: Instance, parked_at: float) -> None:
        """Its kernel runs no more, and the host knows."""
        instance.status = "loaded"
        instance.life = None
        instance.parked_at = parked_at

    def wedged(self, instance: Instance) -> bool:
        life = instance.life
        return life is not None and life.past(life.spawn.wedges_at, self.clock.now)

    def parked(self, instance: Instance) -> bool:
        """Are all its CPUs at rest?"""
        life = instance.life
        if life is None:
            return self.clock.now >= instance.parked_at
        return life.past(life.spawn.stops_silently_at, self.clock.now)

    def alive(self, instance: Instance) -> bool:
        """Does its kernel answer anything?"""
        life = instance.life
        if life is None or self.wedged(instance) or self.parked(instance):
            return False
        return life.past(life.spawn.boots_in, self.clock.now)

    def free_cpus(self) -> list[int]:
        taken = {cpu for instance in self.instances.values() for cpu in instance.cpus}
        return [cpu for cpu in self.members if cpu not in taken | self.leaked]

    def free_pci(self) -> list[str]:
        taken = {address for instance in self.instances.values() for address in instance.pci}
        return [address for address in self.pool_pci if address not in taken]

    def by_id(self, number: int) -> Instance:
        found = next((i for i in self.instances.values() if i.id == number), None)
        if found is None:
            raise OSError(errno.ENOENT, "no instance of this id")
        return found

    def pool_there(self) -> bool:
        return bool(self.memory.chunks or self.members)

    def lock(self) -> None:
        """The one lock of all kexec calls and of hot-plug."""
        if self.faults.kexec_lock_busy:
            self.faults.kexec_lock_busy -= 1
            raise OSError(errno.EBUSY, "another kexec call is running")

    def acknowledged(self, instance: Instance) -> None:
        """A running kernel has to agree to hot-plug; one that hangs is waited for in vain."""
        if instance.status == "active" and not self.alive(instance):
            self.clock.advance(ACK_SECONDS)
            raise OSError(errno.ETIMEDOUT, "no answer from the instance")

    def force_stop(self, instance: Instance) -> None:
        """By NMI: it comes back before the CPUs are at rest."""
        self.stop(instance, self.clock.now + PARKING_SECONDS)

    def root_tree(self) -> bytes:
        """This kernel's own tree; without a pool: its CPUs and no memory."""
        if not self.memory.chunks:
            return pool_tree(PoolTree(tuple(c for c in self.host_cpus if c not in self.members)))
        granule = GRANULE if self.variant.granule_said else None
        return pool_tree(
            PoolTree(
                tuple(c for c in self.members if c not in self.leaked),
                tuple(self.free_cpus()),
                tuple(self.memory.chunks),
                self._devices(self.free_pci()),
                tuple(self.pool_platform),
                granule,
            )
        )

    def instance_tree(self, name: str) -> bytes:
        instance = self.instances[name]
        return instance_tree(
            InstanceTree(
                name,
                instance.id,
                tuple(instance.cpus),
                instance.regions[0].base if instance.regions else 0,
                sum(region.size for region in instance.regions),
                self._devices(instance.pci),
                tuple(instance.platform),
            )
        )

    def _devices(self, addresses: list[str]) -> tuple[PciDevice, ...]:
        return tuple(
            PciDevice(a, self.host_pci[a].vendor, self.host_pci[a].device, self.aliases.get(a))
            for a in addresses
        )
