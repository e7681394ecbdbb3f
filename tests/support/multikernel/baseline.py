"""The baseline: what a write to the root's tree does, once."""

from __future__ import annotations

import errno
import struct

from orchestrator.drivers.multikernel.trees.forms import PlatformDevice
from orchestrator.system.device_tree import DeviceTreeError, Node, unflatten
from tests.support.multikernel.overlays import LARGEST, good_header
from tests.support.multikernel.world import World


def write_baseline(world: World, data: bytes, offset: int) -> int:
    """All of it in one write, or nothing.

    Raises:
        OSError: nothing was changed.
    """
    if offset or not good_header(data) or struct.unpack_from(">I", data, 4)[0] != len(data):
        raise OSError(errno.EINVAL, "no device tree, or not the whole of one")
    if len(data) > LARGEST:
        raise OSError(errno.EFBIG, "more than 1 MiB")
    try:
        root = unflatten(data, "baseline")
    except DeviceTreeError as error:
        raise OSError(errno.EINVAL, str(error)) from error
    instances = root.child("instances")
    resources = root.child("resources") or Node("resources")
    if instances is not None and instances.children:
        raise OSError(errno.EINVAL, "instances in a baseline")
    if {"memory-base", "memory-bytes"} & set(resources.properties):
        raise OSError(errno.EINVAL, "the old form of memory")
    raw = resources.properties.get("cpus", b"")
    cpus = struct.unpack(f">{len(raw) // 8}Q", raw[: len(raw) // 8 * 8])
    requests = [node for node in resources.children if node.name.startswith("memory@")]
    if not cpus or not requests:
        raise OSError(errno.EINVAL, "no CPU or no memory")
    if world.pool_there():
        raise OSError(errno.EBUSY, "Baseline already applied")
    for cpu in cpus:
        if cpu not in world.host_cpus:
            raise OSError(errno.ENODEV, f"no CPU {cpu}")
        if cpu in world.offline:
            raise OSError(errno.EBUSY, f"CPU {cpu} is not online")
    _grow(world, requests)
    world.members = list(cpus)
    _devices(world, root)
    return len(data)


def _grow(world: World, requests: list[Node]) -> None:
    grown: list[tuple[int, int]] = []
    try:
        for node in requests:
            size = int.from_bytes(node.properties.get("size", b""), "big")
            numa = node.properties.get("numa-node-id")
            wanted = None if numa is None else int.from_bytes(numa, "big")
            grown += [(r.base, r.size) for r in world.memory.grow(size, wanted)]
    except OSError:
        for base, size in reversed(grown):
            world.memory.shrink(base, size)
        raise


def _devices(world: World, root: Node) -> None:
    """A device that cannot be had is a warning."""
    resources = root.child("resources") or Node("resources")
    devices = resources.child("devices") or Node("devices")
    for node in devices.children:
        said = {key: value.rstrip(b"\0").decode() for key, value in node.properties.items()
                if not key.endswith("-id") or key == "pci-id"}  # fmt: skip
        address = said.get("pci-id")
        if said.get("device-type") == "platform":
            world.pool_platform.append(
                PlatformDevice(node.name, said.get("device-name"), said.get("acpi-hid"))
            )
        elif address in world.host_pci:
            world.pool_pci.append(address)
            path = f"/resources/devices/{node.name}"
            aliases = (root.child("aliases") or Node("aliases")).properties
            for alias, to in aliases.items():
                if to.rstrip(b"\0").decode() == path:
                    world.aliases[address] = alias
        else:
            world.log.append(f"device {node.name} could not be taken")
