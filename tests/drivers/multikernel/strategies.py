"""Values of the multikernel kernel's trees, as hypothesis makes them up."""

from __future__ import annotations

from hypothesis import strategies as st

from orchestrator.drivers.multikernel.trees.changes import (
    Change,
    CpuChange,
    CreateInstance,
    DeviceChange,
    MemoryChange,
    RemoveInstance,
    Tag,
    Verb,
)
from orchestrator.drivers.multikernel.trees.forms import (
    LAST_U32,
    LAST_U64,
    Baseline,
    InstanceTree,
    MemoryRegion,
    MemoryRequest,
    PciDevice,
    PlatformDevice,
    PoolTree,
)

U32 = st.integers(0, LAST_U32)
U64 = st.integers(0, LAST_U64)
NODES = st.none() | st.integers(0, 64)
INSTANCES = st.text("abcxyz019-._@", min_size=1, max_size=127).filter(
    lambda name: name not in {".", ".."}
)
WORDS = st.text("abcxyz019_-", min_size=1, max_size=20)
ADDRESSES = st.builds(
    "{:04x}:{:02x}:{:02x}.{:x}".format,
    st.sampled_from((0, 0, 1, 0x10000)),
    st.integers(0, 255),
    st.integers(0, 31),
    st.integers(0, 7),
)


def cpus(least: int = 1, most: int = 40) -> st.SearchStrategy[tuple[int, ...]]:
    return st.lists(U64, min_size=least, max_size=most, unique=True).map(tuple)


REGIONS = st.builds(
    lambda base, size, node: MemoryRegion(base, min(size, LAST_U64 + 1 - base), node),
    U64,
    st.integers(1, 1 << 50),
    NODES,
)
REQUESTS = st.builds(MemoryRequest, st.integers(1, LAST_U64), NODES)
PLATFORM = st.lists(
    st.builds(PlatformDevice, WORDS, WORDS, st.none() | WORDS, st.none() | WORDS),
    max_size=3,
    unique_by=lambda device: device.name,
)


def _one_alias_each(
    pci: list[PciDevice], platform: list[PlatformDevice]
) -> tuple[tuple[PciDevice, ...], tuple[PlatformDevice, ...]]:
    """An alias names one device."""
    numbered = (
        PciDevice(d.address, d.vendor, d.device, d.alias and f"p{n}{d.alias}")
        for n, d in enumerate(sorted(pci, key=lambda d: d.address))
    )
    others = (
        PlatformDevice(d.name, d.device_name, d.acpi_hid, d.alias and f"q{n}{d.alias}")
        for n, d in enumerate(platform)
    )
    return tuple(numbered), tuple(others)


DEVICES = st.builds(
    _one_alias_each,
    st.lists(
        st.builds(PciDevice, ADDRESSES, U32, st.none() | U32, st.none() | WORDS),
        max_size=5,
        unique_by=lambda device: device.address,
    ),
    PLATFORM,
)
BASELINES = st.builds(
    lambda cpus, memory, devices: Baseline(
        cpus, tuple(memory), {f"dev{n}": d for n, d in enumerate(devices[0])}, tuple(
            PlatformDevice(f"plat{d.name}", d.device_name, d.acpi_hid, d.alias) for d in devices[1]
        ),
    ),
    cpus(),
    st.lists(REQUESTS, min_size=1, max_size=4),
    DEVICES,
)  # fmt: skip
POOLS = st.builds(
    lambda members, some, memory, devices, granule: PoolTree(
        members, members[:some], tuple(memory), devices[0], devices[1], granule
    ),
    cpus(),
    st.integers(0, 40),
    st.lists(REGIONS, min_size=1, max_size=4, unique_by=lambda region: region.base),
    DEVICES,
    st.sampled_from((None, 1 << 27, 1 << 21)),
)
INSTANCE_TREES = st.builds(
    lambda name, number, has, base, size, devices: InstanceTree(
        name, number, has, base, size, *devices
    ),
    INSTANCES,
    U32,
    cpus(0),
    U64,
    U64,
    DEVICES,
)
TAGS = st.builds(
    Tag,
    st.text("0123456789abcdefT-", min_size=1, max_size=40),
    st.text("abc-./019", min_size=1, max_size=100),
    st.integers(1, 1000),
)
_MANY = st.sampled_from((1, 2, 30, 130, 700))


@st.composite
def changes(draw: st.DrawFn) -> Change:
    """Some of them far larger than a page."""
    many = draw(_MANY)
    first = draw(st.integers(0, LAST_U64 - 1000))
    some = tuple(range(first, first + many))
    target = draw(st.none() | INSTANCES)
    verb = draw(st.sampled_from(Verb))
    kind = draw(st.sampled_from(("create", "remove", "cpu", "memory", "device")))
    if kind == "create":
        size = draw(st.integers(1, LAST_U64))
        return CreateInstance(
            draw(INSTANCES), draw(st.integers(1, LAST_U32)), some, size, draw(NODES)
        )
    if kind == "remove":
        return RemoveInstance(draw(INSTANCES))
    if kind == "cpu":
        return CpuChange(target, verb, some)
    if kind == "device":
        return DeviceChange(
            target, verb, tuple(f"0000:{n >> 5:02x}:{n & 31:02x}.0" for n in range(many))
        )
    if target is None and verb == Verb.ADD:
        return MemoryChange(target, verb, requests=(draw(REQUESTS),) * many)
    regions = tuple(MemoryRegion(n << 27, 1 << 27, draw(NODES)) for n in range(many))
    return MemoryChange(target, verb, regions=regions)
