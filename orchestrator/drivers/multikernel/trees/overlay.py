"""Overlays: the changes that the kernel is asked for, each of one kind, and their tags.

The kernel undoes nothing of an overlay whose second operation fails, and it damages what is longer
than a page (facts 1.5). So an overlay of ours has one fragment with one operation; a change that
does not fit into a page is split; and each overlay carries a tag by which it is found again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from orchestrator.drivers.multikernel.trees.cells import (
    LONGEST_TEXT,
    View,
    is_instance_name,
    is_pci_address,
    text,
    u32,
    u64,
)
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
    MOST_CPUS,
    MemoryRegion,
    MemoryRequest,
)
from orchestrator.system.device_tree import DeviceTreeError, Node, flatten, unflatten
from orchestrator.system.multikernel import MOST_OVERLAY_BYTES

COMPATIBLE = "linux,multikernel-overlay"
INSTANCES = "/instances"
POOL = "/resources"


@dataclass(frozen=True, slots=True)
class Overlay:
    """One that is written at once."""

    change: Change
    tag: Tag

    def encode(self) -> bytes:
        """The DTB.

        Raises:
            DeviceTreeError: longer than a page, or the change or tag cannot be said.
        """
        data = self._flat()
        if len(data) > MOST_OVERLAY_BYTES:
            raise DeviceTreeError(
                f"an overlay of {len(data)} bytes; the kernel takes {MOST_OVERLAY_BYTES}",
                where=_target(self.change),
            )
        return data

    def _flat(self) -> bytes:
        said = str(self.tag)
        if Tag.parse(said) != self.tag or len(said) > LONGEST_TEXT:
            raise DeviceTreeError(f"no tag of an overlay: {said[:80]!r}", where="/mk,resources")
        change = Node("__overlay__", {}, (_operation(self.change),))
        target = {"target-path": text(_target(self.change))}
        root = {"compatible": text(COMPATIBLE), "mk,resources": text(said)}
        return flatten(Node("", root, (Node("fragment@0", target, (change,)),)))

    def fits(self) -> bool:
        """Does it fit into one write?"""
        return len(self._flat()) <= MOST_OVERLAY_BYTES


def overlays(change: Change, tag: Tag) -> list[Overlay]:
    """A change as overlays that each fit into a page, in the order to write them.

    Args:
        tag: of the first; the others differ in their part.

    Raises:
        DeviceTreeError: the change asks for nothing, or cannot be said.
    """
    parts = _parts(change, tag)
    return [
        Overlay(part, replace(tag, part=number, parts=len(parts)))
        for number, part in enumerate(parts, 1)
    ]


def read_overlay(data: bytes, origin: str) -> Overlay:
    """One of ours, as it was written.

    Raises:
        DeviceTreeError: also for what others write: several operations, no tag of ours.
    """
    root = View(unflatten(data, origin), origin)
    root.only({"compatible", "mk,resources"}, {"fragment@"})
    said = root.text("mk,resources")
    tag = Tag.parse(said)
    if tag is None:
        root.refuse(f"not tagged by mkupgrade: {said[:40]!r}")
    fragment = root.child("fragment@0")
    fragment.only({"target-path"}, {"__overlay__"})
    body = fragment.child("__overlay__")
    found = list(body.children())
    if len(root.node.children) != 1 or len(found) != 1 or body.node.properties:
        body.refuse("not one operation")
    return Overlay(_change(fragment.text("target-path"), found[0]), tag)


def _target(change: Change) -> str:
    if isinstance(change, CreateInstance | RemoveInstance):
        return INSTANCES
    return POOL if change.target is None else f"{INSTANCES}/{change.target}"


def _operation(change: Change) -> Node:
    path = _target(change)
    name = change.name if isinstance(change, CreateInstance | RemoveInstance) else change.target
    if name is not None and not is_instance_name(name):
        raise DeviceTreeError(f"no name of an instance: {name!r}", where=path)
    match change:
        case CreateInstance():
            return _create(change)
        case RemoveInstance():
            return Node("instance-remove", {"instance-name": text(change.name)})
        case CpuChange():
            kind = "cpu"
            items = [{"reg": u64(cpu)} for cpu in change.cpus]
        case MemoryChange():
            kind = "memory"
            if bool(change.regions) == bool(change.requests):
                raise DeviceTreeError("either regions or requests", where=path)
            if bool(change.requests) != (change.target is None and change.verb == Verb.ADD):
                raise DeviceTreeError("only the pool grows without saying where", where=path)
            items = [_region(item) for item in change.regions]
            items += [_region(item) for item in change.requests]
        case DeviceChange():
            kind = "device"
            items = [_device(address, path) for address in change.pci]
    if not items:
        raise DeviceTreeError(f"{kind}-{change.verb} of nothing", where=path)
    stem = "pci" if kind == "device" else kind
    nodes = tuple(Node(f"{stem}@{number}", item) for number, item in enumerate(items))
    return Node(f"{kind}-{change.verb}", {}, nodes)


def _create(change: CreateInstance) -> Node:
    if not 0 < change.id <= LAST_U32 or not change.cpus or change.memory_bytes <= 0:
        raise DeviceTreeError("an instance needs an id, a CPU and memory", where=INSTANCES)
    if change.pci:
        raise DeviceTreeError("devices are added by an overlay of their own", where=INSTANCES)
    resources = {"memory-bytes": u64(change.memory_bytes), "cpus": u64(*change.cpus)}
    if change.node is not None:
        resources["numa-nodes"] = u32(change.node)
    properties = {"instance-name": text(change.name), "id": u32(change.id)}
    return Node("instance-create", properties, (Node("resources", resources),))


def _region(item: MemoryRegion | MemoryRequest) -> dict[str, bytes]:
    where = (
        {"reg": u64(item.base, item.size)}
        if isinstance(item, MemoryRegion)
        else {"size": u64(item.size)}
    )
    return where if item.node is None else {**where, "numa-node-id": u32(item.node)}


def _device(address: str, path: str) -> dict[str, bytes]:
    if not is_pci_address(address):
        raise DeviceTreeError(f"no PCI address: {address!r}", where=path)
    return {"pci-id": text(address)}


def _parts(change: Change, tag: Tag) -> list[Change]:
    """Halves of halves until each fits; the tag is measured with the longest numbers of parts."""
    if isinstance(change, CreateInstance) and change.pci:
        devices = DeviceChange(change.name, Verb.ADD, change.pci)
        return [*_parts(replace(change, pci=()), tag), *_parts(devices, tag)]
    if Overlay(change, replace(tag, part=9999, parts=9999)).fits():
        return [change]
    return [part for half in _halves(change) for part in _parts(half, tag)]


def _halves(change: Change) -> Iterator[Change]:
    match change:
        case CreateInstance() if len(change.cpus) > 1:
            # The rest is added once the instance is there.
            middle = len(change.cpus) // 2
            yield replace(change, cpus=change.cpus[:middle])
            yield CpuChange(change.name, Verb.ADD, change.cpus[middle:])
        case CpuChange() if len(change.cpus) > 1:
            middle = len(change.cpus) // 2
            yield replace(change, cpus=change.cpus[:middle])
            yield replace(change, cpus=change.cpus[middle:])
        case DeviceChange() if len(change.pci) > 1:
            middle = len(change.pci) // 2
            yield replace(change, pci=change.pci[:middle])
            yield replace(change, pci=change.pci[middle:])
        case MemoryChange() if len(change.regions) + len(change.requests) > 1:
            middle = (len(change.regions) + len(change.requests)) // 2
            yield replace(
                change, regions=change.regions[:middle], requests=change.requests[:middle]
            )
            yield replace(
                change, regions=change.regions[middle:], requests=change.requests[middle:]
            )
        case _:
            raise DeviceTreeError("the change does not fit into a page", where=_target(change))


def _change(target: str, operation: View) -> Change:
    if target == INSTANCES:
        return _of_instances(operation)
    name = None if target == POOL else target.removeprefix(f"{INSTANCES}/")
    if name is not None and (name == target or not is_instance_name(name)):
        operation.refuse(f"no target of an overlay: {target[:80]!r}")
    kind, _, verb = operation.name.partition("-")
    if verb not in tuple(Verb) or kind not in {"cpu", "memory", "device"}:
        operation.refuse("not an operation that is known here")
    stem = "pci@" if kind == "device" else f"{kind}@"
    operation.only((), {stem})
    items = list(operation.children())
    if not items or len(items) > MOST_CPUS:
        operation.refuse(f"{len(items)} items; 1 to {MOST_CPUS} are read")
    if kind == "cpu":
        for item in items:
            item.only({"reg"})
        return CpuChange(name, Verb(verb), tuple(item.u64("reg") for item in items))
    if kind == "device":
        for item in items:
            item.only({"pci-id"})
        return DeviceChange(name, Verb(verb), tuple(item.pci_address("pci-id") for item in items))
    return _memory(name, Verb(verb), items)


def _memory(name: str | None, verb: Verb, items: list[View]) -> MemoryChange:
    if name is None and verb == Verb.ADD:
        for item in items:
            item.only({"size", "numa-node-id"})
        requests = (MemoryRequest(i.u64("size"), i.maybe_u32("numa-node-id")) for i in items)
        return MemoryChange(name, verb, requests=tuple(requests))
    for item in items:
        item.only({"reg", "numa-node-id"})
    regions = (MemoryRegion(*i.region("reg"), i.maybe_u32("numa-node-id")) for i in items)
    return MemoryChange(name, verb, regions=tuple(regions))


def _of_instances(operation: View) -> Change:
    if operation.name == "instance-remove":
        operation.only({"instance-name"})
        return RemoveInstance(operation.instance_name("instance-name"))
    if operation.name != "instance-create":
        operation.refuse("not an operation that is known here")
    operation.only({"instance-name", "id"}, {"resources"})
    resources = operation.child("resources")
    resources.only({"memory-bytes", "cpus", "numa-nodes"})
    found = CreateInstance(
        name=operation.instance_name("instance-name"),
        id=operation.u32("id"),
        cpus=resources.u64s("cpus", MOST_CPUS),
        memory_bytes=resources.u64("memory-bytes"),
        node=resources.maybe_u32("numa-nodes"),
    )
    if not found.id or not found.cpus or not found.memory_bytes:
        operation.refuse("an instance needs an id, a CPU and memory")
    return found
