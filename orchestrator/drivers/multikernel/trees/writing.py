"""Baseline, pool and instance as trees: the forms that `reading` takes.

mkupgrade itself writes the baseline only; the other two are for those who stand for the kernel.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from orchestrator.drivers.multikernel.trees.cells import (
    is_instance_name,
    is_pci_address,
    text,
    u32,
    u64,
)
from orchestrator.drivers.multikernel.trees.forms import (
    Baseline,
    InstanceTree,
    MemoryRegion,
    MemoryRequest,
    PciDevice,
    PlatformDevice,
    PoolTree,
)
from orchestrator.drivers.multikernel.trees.reading import COMPATIBLE, HOST_BRIDGE
from orchestrator.system.device_tree import DeviceTreeError, Node, flatten

_CELLS = {"#address-cells": u32(2), "#size-cells": u32(2)}


def baseline_tree(baseline: Baseline) -> bytes:
    """What is written to the root's tree.

    Raises:
        DeviceTreeError: it asks for no CPU or no memory, or has what no tree can say.
    """
    if not baseline.cpus or not baseline.memory:
        raise DeviceTreeError("a pool needs a CPU and memory", where="/resources")
    listed = [_listed_pci(name, device) for name, device in baseline.pci.items()] + [
        _platform(device) for device in baseline.platform
    ]
    where = "/resources/devices"
    aliases = {d.alias: f"{where}/{name}" for name, d in baseline.pci.items() if d.alias}
    aliases |= {d.alias: f"{where}/{d.name}" for d in baseline.platform if d.alias}
    memory = tuple(_request(number, item) for number, item in enumerate(baseline.memory))
    devices = (Node("devices", {}, tuple(listed)),) if listed else ()
    resources = Node("resources", {"cpus": u64(*baseline.cpus)}, memory + devices)
    root = {"compatible": text(COMPATIBLE)}
    return flatten(Node("", root, (resources, *_aliases(aliases))))


def pool_tree(pool: PoolTree) -> bytes:
    """The root's tree, read back."""
    memory = tuple(_region(item) for item in pool.memory)
    properties = {"cpus": u64(*pool.cpus)}
    if pool.memory:
        properties["cpus-available"] = u64(*pool.free_cpus)
    root = {"compatible": text(COMPATIBLE), **_CELLS, "id": u32(0)}
    if pool.granule is not None:
        root["memory-granule"] = u64(pool.granule)
    return _tree(root, properties, memory, pool.pci, pool.platform)


def instance_tree(instance: InstanceTree) -> bytes:
    """An instance's tree, read back."""
    if not is_instance_name(instance.name):
        raise DeviceTreeError(f"no name of an instance: {instance.name!r}", where="/")
    root = {
        "compatible": text(COMPATIBLE),
        "model": text(instance.name),
        **_CELLS,
        "id": u32(instance.id),
    }
    resources = {
        "memory-base": u64(instance.memory_base),
        "memory-bytes": u64(instance.memory_bytes),
        "cpus": u64(*instance.cpus),
    }
    return _tree(root, resources, (), instance.pci, instance.platform)


def _tree(
    root: dict[str, bytes],
    resources: dict[str, bytes],
    memory: tuple[Node, ...],
    pci: Iterable[PciDevice],
    platform: Iterable[PlatformDevice],
) -> bytes:
    bridges, aliases = _bridges(pci)
    listed = tuple(_platform(device) for device in platform)
    aliases |= {d.alias: f"/resources/devices/{d.name}" for d in platform if d.alias}
    devices = (Node("devices", {}, listed),) if listed else ()
    below = Node("resources", resources, memory + devices)
    return flatten(Node("", root, (below, *_aliases(aliases), *bridges)))


def _request(number: int, item: MemoryRequest) -> Node:
    return Node(f"memory@{number}", {"size": u64(item.size), **_numa(item.node)})


def _region(item: MemoryRegion) -> Node:
    properties = {"device_type": text("memory"), "reg": u64(item.base, item.size)}
    return Node(f"memory@{item.base:x}", {**properties, **_numa(item.node)})


def _numa(node: int | None) -> dict[str, bytes]:
    return {} if node is None else {"numa-node-id": u32(node)}


def _listed_pci(name: str, device: PciDevice) -> Node:
    if not is_pci_address(device.address):
        raise DeviceTreeError(f"no PCI address: {device.address!r}", where="/resources/devices")
    properties = {"device-type": text("pci"), "pci-id": text(device.address)}
    return Node(name, {**properties, **_ids(device)})


def _ids(device: PciDevice) -> dict[str, bytes]:
    pairs = (("vendor-id", device.vendor), ("device-id", device.device))
    return {name: u32(number) for name, number in pairs if number is not None}


def _platform(device: PlatformDevice) -> Node:
    pairs = (("device-name", device.device_name), ("acpi-hid", device.acpi_hid))
    said = {name: text(value) for name, value in pairs if value is not None}
    return Node(device.name, {"device-type": text("platform"), **said})


def _bridges(pci: Iterable[PciDevice]) -> tuple[list[Node], dict[str, str]]:
    """A host bridge for each bus, with the bus's devices right below it; and the aliases."""
    buses: dict[tuple[int, int], list[Node]] = {}
    aliases: dict[str, str] = {}
    for device in pci:
        if not is_pci_address(device.address):
            raise DeviceTreeError(f"no PCI address: {device.address!r}", where="/")
        domain, bus, place = device.address.split(":")
        slot, function = (int(part, 16) for part in place.split("."))
        reg = u32(int(bus, 16) << 16 | slot << 11 | function << 8) + bytes(16)
        ids = {"vendor-id": u32(0xFFFF), **_ids(device)}
        key = (int(domain, 16), int(bus, 16))
        node = Node(f"pci@{slot:x},{function:x}", {"reg": reg, **ids})
        buses.setdefault(key, []).append(node)
        if device.alias:
            aliases[device.alias] = f"/{_bridge_name(*key)}/{node.name}"
    return [_bridge(*key, nodes) for key, nodes in buses.items()], aliases


def _bridge_name(domain: int, bus: int) -> str:
    return f"pci@{domain << 8 | bus:x}"


def _bridge(domain: int, bus: int, devices: list[Node]) -> Node:
    properties = {
        "compatible": text(HOST_BRIDGE),
        "device_type": text("pci"),
        "#address-cells": u32(3),
        "#size-cells": u32(2),
        "linux,pci-domain": u32(domain),
        "bus-range": u32(bus) + u32(bus),
    }
    return Node(_bridge_name(domain, bus), properties, tuple(devices))


def _aliases(aliases: Mapping[str, str]) -> tuple[Node, ...]:
    said = {name: text(path) for name, path in aliases.items()}
    return (Node("aliases", said),) if said else ()
