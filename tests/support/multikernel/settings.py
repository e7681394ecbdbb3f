"""What kind of multikernel kernel the double is, its clock, and what it is told to do wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

PAGE = 4096
GRANULE = 128 << 20
"""Bytes of a memory block on x86."""
PARK_BYTES = 2 << 20
"""What the pool keeps of itself for parked CPUs. The kernel's own figure is not published; what
counts is that it is neither nothing nor a whole block."""
HALT_SECONDS = 30.0
ACK_SECONDS = 10.0
PARKING_SECONDS = 0.05
"""Between the return of a forced halt and the last CPU parked."""
LARGEST_ID = (1 << 31) - 1


@dataclass(frozen=True)
class Variant:
    """One version of the kernel."""

    name: str
    granule_said: bool
    """`memory-granule` in the root's tree."""
    exact_ranges: bool
    """The base of memory-add and memory-remove counts for an instance that does not run, too."""
    vsock: bool
    mounted: bool = True
    """False: a kernel without the file system, for which our flags mean other things."""


MK2 = Variant("7.0-mk2", granule_said=False, exact_ranges=False, vsock=False)
NEWER = Variant("newer", granule_said=True, exact_ranges=True, vsock=True)
STOCK = Variant("stock 6.17", granule_said=False, exact_ranges=False, vsock=False, mounted=False)


@dataclass
class Clock:
    """Seconds, which go by only when somebody says so, or when the kernel waits."""

    now: float = 0.0

    def advance(self, seconds: float) -> None:
        self.now += seconds


@dataclass(frozen=True)
class AgentSays:
    """What `mkupgrade agent` in an instance answers, with the key that came in its initrd."""

    release: str
    port: int = 1022
    answers_in: float = 2.0
    """Seconds from the start of the kernel."""
    ready_in: float = 3.0
    works: bool = False


@dataclass(frozen=True)
class Spawn:
    """How a kernel behaves once it is started; times are seconds from its start."""

    boots_in: float = 1.0
    ready_in: float | None = 2.0
    """Until its agent answers; None: never."""
    wedges_at: float | None = None
    """It hangs: active, and answers nothing more, an ordered halt included."""
    halts_at: float | None = None
    """It halts, reboots or panics by itself."""
    stops_silently_at: float | None = None
    """Its CPUs are parked and nobody is told."""
    says: str = ""
    """On its console, as it starts."""
    console_lost: bool = False
    """Whoever listens to its console when it starts hears nothing, and is not told."""
    agent: AgentSays | None = None
    runs: Mapping[tuple[str, ...], tuple[int, bytes]] = field(default_factory=dict)
    """Command that is run in it by kerf-init -> exit code and output; others: 0 and nothing."""


@dataclass
class Faults:
    """What goes wrong, until it is taken back; counts go down as they are used."""

    soft_fail_cpus: set[int] = field(default_factory=set)
    """CPUs that cannot be reserved: dropped at create without an error."""
    unplugged_cpus: set[int] = field(default_factory=set)
    """CPUs that hot-plug says it has added, and has not. Not seen in the kernel's source: what a
    driver that reads back has to stand."""
    soft_fail_pci: set[str] = field(default_factory=set)
    leak_cpus: set[int] = field(default_factory=set)
    """CPUs that do not come back out of an instance."""
    fail_at: dict[int, int] = field(default_factory=dict)
    """Number of an operation of the next overlay, from 0 -> errno that it fails with."""
    kexec_lock_busy: int = 0
    """How many of the next calls find the lock held."""
    meanwhile: list[Callable[[], object]] = field(default_factory=list)
    """Somebody else's doing, each done once, right before the next write to overlays/new."""
    signature_errno: int | None = None
    """What the next loads are refused with."""
