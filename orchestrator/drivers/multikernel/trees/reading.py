"""Baseline, pool and instance out of their trees.

Of what the kernel gives, nodes and properties that are not known are passed over: newer kernels
say more. A baseline is what people and programs write, so there they are refused.
"""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.drivers.multikernel.trees.cells import View
from orchestrator.drivers.multikernel.trees.forms import (
    MOST_CPUS,
    MOST_DEVICES,
    MOST_MEMORY_REGIONS,
    Baseline,
    InstanceTree,
    MemoryRegion,
    MemoryRequest,
    PciDevice,
    PlatformDevice,
    PoolTree,
)
from orchestrator.system.device_tree import unflatten

COMPATIBLE = "multikernel-v1"
KERF_BASELINE = "linux,multikernel-host"
"""What kerf 0.4.0 calls a baseline; nothing that was read of the kernel looks at it."""
HOST_BRIDGE = "multikernel,pci-host-bridge"


def read_baseline(data: bytes, origin: str) -> Baseline:
    """What would be given to the pool.

    Raises:
        DeviceTreeError
    """
    root = View(unflatten(data, origin), origin)
    root.only({"compatible"}, {"resources", "aliases"})
    _compatible(root, COMPATIBLE, KERF_BASELINE)
    resources = root.child("resources")
    resources.only({"cpus"}, {"memory@", "devices"})
    cpus = resources.u64s("cpus", MOST_CPUS)
    memory = tuple(_request(node) for node in resources.children("memory@"))
    if not cpus or not memory:
        resources.refuse("a pool needs a CPU and memory")
    pci: dict[str, PciDevice] = {}
    platform: list[PlatformDevice] = []
    aliases = _aliases(root)
    for node in _devices(resources):
        if node.text("device-type") == "pci":
            node.only({"device-type", "pci-id", "vendor-id", "device-id"})
            pci[node.name] = _listed_pci(node, aliases)
        else:
            node.only({"device-type", "device-name", "acpi-hid"})
            platform.append(_platform(node, aliases))
    return Baseline(cpus, memory, pci, tuple(platform))


def read_pool(data: bytes, origin: str) -> PoolTree:
    """The root's tree.

    Raises:
        DeviceTreeError
    """
    root = View(unflatten(data, origin), origin)
    resources = root.child("resources")
    cpus = resources.u64s("cpus", MOST_CPUS) if resources.has("cpus") else ()
    memory = tuple(_region(node) for node in resources.children("memory@"))
    if len(memory) > MOST_MEMORY_REGIONS:
        resources.refuse(f"{len(memory)} regions; up to {MOST_MEMORY_REGIONS} are read")
    free = resources.u64s("cpus-available", MOST_CPUS) if resources.has("cpus-available") else ()
    if memory and not set(free) <= set(cpus):
        resources.refuse("cpus-available has CPUs that are not in cpus")
    pci, platform = _found(root, resources)
    granule = root.u64("memory-granule") if root.has("memory-granule") else None
    if granule is not None and (granule == 0 or granule & (granule - 1)):
        root.refuse(f"memory-granule is {granule}, which is no power of two")
    return PoolTree(cpus, free, memory, pci, platform, granule)


def read_instance(data: bytes, origin: str) -> InstanceTree:
    """An instance's tree.

    Raises:
        DeviceTreeError
    """
    root = View(unflatten(data, origin), origin)
    _compatible(root, COMPATIBLE)
    resources = root.child("resources")
    base, size = (resources.u64(f"memory-{name}") if resources.has(f"memory-{name}") else 0
                  for name in ("base", "bytes"))  # fmt: skip
    pci, platform = _found(root, resources)
    return InstanceTree(
        name=root.instance_name("model"),
        id=root.u32("id"),
        cpus=resources.u64s("cpus", MOST_CPUS) if resources.has("cpus") else (),
        memory_base=base,
        memory_bytes=size,
        pci=pci,
        platform=platform,
    )


def _compatible(root: View, *known: str) -> None:
    said = root.text("compatible")
    if said not in known:
        root.refuse(f'compatible is "{said}", not "{COMPATIBLE}"')


def _request(node: View) -> MemoryRequest:
    node.only({"size", "numa-node-id"})
    size = node.u64("size")
    if size == 0:
        node.refuse("size is 0")
    return MemoryRequest(size, node.maybe_u32("numa-node-id"))


def _region(node: View) -> MemoryRegion:
    base, size = node.region("reg")
    return MemoryRegion(base, size, node.maybe_u32("numa-node-id"))


def _found(root: View, resources: View) -> tuple[tuple[PciDevice, ...], tuple[PlatformDevice, ...]]:
    """PCI devices below their host bridges, and what is listed below /resources/devices."""
    aliases = _aliases(root)
    devices = list(_devices(resources))
    pci = list(_below_bridges([*root.children("pci@"), *devices], aliases))
    platform = []
    for node in devices:
        kind = node.maybe_text("device-type")
        if kind == "pci":
            pci.append(_listed_pci(node, aliases))
        elif kind == "platform":
            platform.append(_platform(node, aliases))
    if len({device.address for device in pci}) != len(pci):
        root.refuse("a PCI device twice")
    return tuple(pci), tuple(platform)


def _devices(resources: View) -> Iterator[View]:
    devices = resources.maybe_child("devices")
    if devices is None:
        return
    if len(devices.node.children) > MOST_DEVICES:
        devices.refuse(f"more than {MOST_DEVICES} devices")
    yield from devices.children()


def _below_bridges(nodes: list[View], aliases: dict[str, str]) -> Iterator[PciDevice]:
    for node in nodes:
        if node.has("compatible") and node.text("compatible") == HOST_BRIDGE:
            domain = node.maybe_u32("linux,pci-domain") or 0
            yield from _on_bus(node, domain, aliases)


def _on_bus(bus: View, domain: int, aliases: dict[str, str]) -> Iterator[PciDevice]:
    """A node with `vendor-id` is a device, one without is a bridge on the way to it."""
    for node in bus.children():
        if not node.has("reg"):
            continue
        high = node.first_cell("reg")
        if not node.has("vendor-id"):
            yield from _on_bus(node, domain, aliases)
            continue
        address = f"{domain:04x}:{high >> 16 & 0xFF:02x}:{high >> 11 & 0x1F:02x}.{high >> 8 & 7}"
        yield PciDevice(
            address, node.u32("vendor-id"), node.maybe_u32("device-id"), aliases.get(node.path)
        )


def _listed_pci(node: View, aliases: dict[str, str]) -> PciDevice:
    return PciDevice(
        node.pci_address("pci-id"),
        node.maybe_u32("vendor-id"),
        node.maybe_u32("device-id"),
        aliases.get(node.path),
    )


def _platform(node: View, aliases: dict[str, str]) -> PlatformDevice:
    if node.text("device-type") != "platform":
        node.refuse('device-type is neither "pci" nor "platform"')
    found = PlatformDevice(
        node.name, node.maybe_text("device-name"), node.maybe_text("acpi-hid"),
        aliases.get(node.path),
    )  # fmt: skip
    if not found.device_name and not found.acpi_hid:
        node.refuse("neither device-name nor acpi-hid says which device this is")
    return found


def _aliases(root: View) -> dict[str, str]:
    """Path of a node -> its alias; of several, the first."""
    node = root.maybe_child("aliases")
    found: dict[str, str] = {}
    if node is not None:
        for name in node.node.properties:
            found.setdefault(node.text(name), name)
    return found
