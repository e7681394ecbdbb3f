"""Overlays as the kernel takes them: it passes over what it does not know, and keeps each one."""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from orchestrator.drivers.multikernel.trees.forms import MemoryRegion
from orchestrator.system.device_tree import DeviceTreeError, Node, unflatten
from tests.support.multikernel.operations import Operation, apply, undo
from tests.support.multikernel.settings import PAGE
from tests.support.multikernel.world import World

LARGEST = 1 << 20
_MAGIC = 0xD00DFEED
_OF_INSTANCES = ("instance-create", "memory-remove", "memory-add", "cpu-remove", "cpu-add",
                 "device-remove", "device-add", "instance-remove")  # fmt: skip
_OF_POOL = ("cpu-remove", "device-remove", "memory-remove", "memory-add", "cpu-add", "device-add")
_ITEMS = {"memory": "memory@", "cpu": "cpu@", "device": "pci@"}


@dataclass
class Transaction:
    """A directory overlays/tx_N."""

    id: int
    dtbo: bytes
    status: str = "pending"
    instance: str = "unknown"
    resources: str = "unknown"
    operations: list[Operation] = field(default_factory=list)


class Overlays:
    """What is below overlays/."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._last = 1
        self.transactions: dict[int, Transaction] = {}

    def write(self, data: bytes, offset: int) -> int:
        """write(2) on overlays/new: the bytes taken, whatever came of them.

        Raises:
            OSError: nothing was tried.
        """
        if offset or not data:
            raise OSError(errno.EINVAL, "offset, or nothing")
        if len(data) > LARGEST:
            raise OSError(errno.EFBIG, "more than 1 MiB")
        taken = data[:PAGE]
        if not good_header(taken):
            raise OSError(errno.EINVAL, "no device tree")
        while self._world.faults.meanwhile:
            self._world.faults.meanwhile.pop(0)()
        self._last += 1
        transaction = Transaction(self._last, taken)
        self.transactions[self._last] = transaction
        if struct.unpack_from(">I", taken, 4)[0] > len(taken):
            self._world.overruns += 1
        try:
            self._read(transaction)
            self._apply(transaction)
            transaction.status = "applied"
        except (OSError, DeviceTreeError) as error:
            self._world.log.append(f"tx_{transaction.id}: {error}")
            transaction.status = "failed"
        return len(taken)

    def rmdir(self, number: int) -> None:
        """Undo, of all its operations, done or not.

        Raises:
            OSError: it is half undone, and stays, as failed.
        """
        transaction = self.transactions[number]
        try:
            for operation in reversed(transaction.operations):
                undo(self._world, operation)
        except OSError:
            transaction.status = "failed"
            raise
        del self.transactions[number]

    def _read(self, transaction: Transaction) -> None:
        root = unflatten(transaction.dtbo, "overlay")
        transaction.resources = _string(root, "mk,resources")[:255] or "unknown"
        fragments = sorted(
            (int(node.name.partition("@")[2], 16), node)
            for node in root.children
            if node.name.startswith("fragment@")
        )  # fmt: skip
        for position, (_, fragment) in enumerate(fragments):
            target = _string(fragment, "target-path")
            if position == 0 and target:
                transaction.instance = target[:127]
            transaction.operations += _operations(fragment, target)

    def _apply(self, transaction: Transaction) -> None:
        fail_at, self._world.faults.fail_at = self._world.faults.fail_at, {}
        for number, operation in enumerate(transaction.operations):
            if number in fail_at:
                raise OSError(fail_at[number], f"operation {number}, as asked for")
            apply(self._world, operation)


def good_header(data: bytes) -> bool:
    """Magic and version, and no more: the length that it says is believed."""
    if len(data) < 40:
        return False
    magic, _, _, _, _, version, last = struct.unpack_from(">7I", data)
    return bool(magic == _MAGIC and version >= 16 and last <= 17)


def _operations(fragment: Node, target: str) -> Iterator[Operation]:
    name = target.removeprefix("/instances/")
    if target not in {"/instances", "/resources"} and (name == target or not name):
        raise OSError(errno.EINVAL, f"target {target!r}")
    body = fragment.child("__overlay__")
    for verb in _OF_POOL if target == "/resources" else _OF_INSTANCES:
        node = body.child(verb) if body else None
        if node is None:
            continue
        if verb.startswith("instance-"):
            if target == "/instances":
                yield _of_instances(node)
            continue
        if target == "/instances":
            raise OSError(errno.EINVAL, f"{verb} at {target}")
        prefix = _ITEMS[verb.partition("-")[0]]
        for item in node.children:
            if item.name.startswith(prefix):
                yield _item(verb, None if target == "/resources" else name, item)


def _item(verb: str, target: str | None, item: Node) -> Operation:
    node = _number(item, "numa-node-id")
    if verb.startswith("cpu"):
        cpu = _number(item, "reg")
        if cpu is None:
            raise OSError(errno.EINVAL, "cpu without reg")
        return Operation(verb, target, cpu=cpu)
    if verb.startswith("device"):
        return Operation(verb, target, pci=_string(item, "pci-id"))
    reg = item.properties.get("reg")
    if target is None and verb == "memory-add":
        size = _number(item, "size")
        if size is None or reg is not None:
            raise OSError(errno.EINVAL, "the pool takes a size and no reg")
        return Operation(verb, target, size=size, node=node)
    if reg is None or len(reg) != 16:
        raise OSError(errno.EINVAL, "memory without reg")
    region = MemoryRegion(*struct.unpack(">2Q", reg))
    return Operation(verb, target, base=region.base, size=region.size, node=node)


def _of_instances(node: Node) -> Operation:
    name = _string(node, "instance-name")
    if not name or "/" in name:
        raise OSError(errno.EINVAL, "no name")
    if node.name == "instance-remove":
        return Operation(node.name, name=name)
    resources = node.child("resources") or Node("resources")
    cpus = resources.properties.get("cpus", b"")
    devices = resources.child("devices") or Node("devices")
    return Operation(
        node.name,
        name=name,
        id=_number(node, "id"),
        size=_number(resources, "memory-bytes") or 0,
        node=_first_cell(resources, "numa-nodes"),
        cpus=struct.unpack(f">{len(cpus) // 8}Q", cpus[: len(cpus) // 8 * 8]),
        devices=tuple(_string(device, "pci-id") for device in devices.children),
    )


def _string(node: Node, name: str) -> str:
    return node.properties.get(name, b"").split(b"\0")[0].decode("latin-1")


def _number(node: Node, name: str) -> int | None:
    """Of one cell or of two."""
    value = node.properties.get(name)
    return int.from_bytes(value, "big") if value is not None and len(value) in {4, 8} else None


def _first_cell(node: Node, name: str) -> int | None:
    value = node.properties.get(name, b"")
    return int.from_bytes(value[:4], "big") if len(value) >= 4 else None
