"""What the kernel's trees say: pool, instances, and the baseline that makes a pool.

CPUs are physical ids (x86: APIC ids), not Linux's numbers of them. Bytes and bases are of physical
memory. Documentation/multikernel/ of the multikernel kernel; facts 1.3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

MOST_CPUS = 8192
MOST_DEVICES = 4096
MOST_MEMORY_REGIONS = 4096
LAST_U32 = (1 << 32) - 1
LAST_U64 = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class MemoryRegion:
    """Memory at its place."""

    base: int
    size: int
    node: int | None = None
    """NUMA node; None: not said."""


@dataclass(frozen=True, slots=True)
class MemoryRequest:
    """Memory wherever the kernel finds it."""

    size: int
    node: int | None = None


@dataclass(frozen=True, slots=True)
class PciDevice:
    address: str
    """`DDDD:BB:SS.F`, lower case, as below /sys/bus/pci/devices."""
    vendor: int | None = None
    device: int | None = None
    alias: str | None = None
    """What a network device is called in the instance that has it."""


@dataclass(frozen=True, slots=True)
class PlatformDevice:
    name: str
    """Of the node."""
    device_name: str | None = None
    acpi_hid: str | None = None
    """One of the two at least says which device it is."""
    alias: str | None = None


@dataclass(frozen=True, slots=True)
class Baseline:
    """What the host gives to the pool: written once, to the root's tree."""

    cpus: tuple[int, ...]
    memory: tuple[MemoryRequest, ...]
    pci: Mapping[str, PciDevice] = field(default_factory=dict)
    """By the name of the node below /resources/devices."""
    platform: tuple[PlatformDevice, ...] = ()


@dataclass(frozen=True, slots=True)
class PoolTree:
    """The root's tree as the host reads it back. Instances are not in it."""

    cpus: tuple[int, ...] = ()
    """All members of the pool; without a pool: the kernel's own."""
    free_cpus: tuple[int, ...] = ()
    memory: tuple[MemoryRegion, ...] = ()
    """The pool's chunks, whether free or not; empty: there is no pool."""
    pci: tuple[PciDevice, ...] = ()
    """Those that no instance has."""
    platform: tuple[PlatformDevice, ...] = ()
    granule: int | None = None
    """Bytes that memory moves by; None: this kernel does not say."""

    @property
    def there(self) -> bool:
        """Is there a pool?"""
        return bool(self.memory)


@dataclass(frozen=True, slots=True)
class InstanceTree:
    """What an instance has at this moment."""

    name: str
    id: int
    cpus: tuple[int, ...] = ()
    memory_base: int = 0
    memory_bytes: int = 0
    pci: tuple[PciDevice, ...] = ()
    platform: tuple[PlatformDevice, ...] = ()
