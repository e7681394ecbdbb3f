"""Baseline, pool and instance: what is written is read again; what is not understood is named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings

from orchestrator.drivers.multikernel.trees.cells import text, u32, u64
from orchestrator.drivers.multikernel.trees.forms import (
    Baseline,
    InstanceTree,
    MemoryRequest,
    PciDevice,
    PlatformDevice,
    PoolTree,
)
from orchestrator.drivers.multikernel.trees.reading import (
    read_baseline,
    read_instance,
    read_pool,
)
from orchestrator.drivers.multikernel.trees.writing import (
    baseline_tree,
    instance_tree,
    pool_tree,
)
from orchestrator.system.device_tree import DeviceTreeError, Node, flatten, unflatten
from tests.drivers.multikernel.strategies import BASELINES, INSTANCE_TREES, POOLS
from tests.support.profile import examples


def _by_address(tree: PoolTree | InstanceTree) -> PoolTree | InstanceTree:
    """A tree has its devices by bus; which bus comes first says nothing."""
    return replace(tree, pci=tuple(sorted(tree.pci, key=lambda device: device.address)))


@settings(max_examples=examples(25))
@given(BASELINES)
def test_a_baseline_is_read_as_it_was_written(baseline: Baseline) -> None:
    assert read_baseline(baseline_tree(baseline), "x") == baseline


@settings(max_examples=examples(25))
@given(POOLS)
def test_a_pool_is_read_as_it_was_written(pool: PoolTree) -> None:
    assert _by_address(read_pool(pool_tree(pool), "x")) == pool


@settings(max_examples=examples(25))
@given(INSTANCE_TREES)
def test_an_instance_is_read_as_it_was_written(instance: InstanceTree) -> None:
    assert _by_address(read_instance(instance_tree(instance), "x")) == instance


def test_a_kernel_without_a_pool_has_cpus_and_no_memory() -> None:
    pool = read_pool(pool_tree(PoolTree(cpus=(0, 2, 4))), "x")
    assert pool == PoolTree(cpus=(0, 2, 4))
    assert not pool.there


def test_a_device_is_found_below_the_bridges_that_lead_to_it() -> None:
    """The bus is in the first cell of `reg`, not in any name."""
    device = Node(
        "pci@0,0",
        {"reg": u32(9 << 16) + bytes(16), "vendor-id": u32(0x1AF4), "device-id": u32(0x1041)},
    )
    port = Node("pci@3,0", {"reg": u32(3 << 11) + bytes(16)}, (device,))
    bridge = Node(
        "pci@0",
        {"compatible": text("multikernel,pci-host-bridge"), "linux,pci-domain": u32(2)},
        (port,),
    )
    root = Node(
        "",
        {"compatible": text("multikernel-v1"), "model": text("web"), "id": u32(3)},
        (
            Node("resources", {"memory-bytes": u64(1 << 27)}),
            Node("aliases", {"enp9s0": text("/pci@0/pci@3,0/pci@0,0")}),
            bridge,
        ),
    )
    found = read_instance(flatten(root), "x")
    assert found.pci == (PciDevice("0002:09:00.0", 0x1AF4, 0x1041, "enp9s0"),)


def _changed(data: bytes, path: str, change: Callable[[Node], Node]) -> bytes:
    """A tree with one node of it replaced."""

    def walk(node: Node, at: str) -> Node:
        below = tuple(walk(child, f"{at}/{child.name}") for child in node.children)
        node = replace(node, children=below)
        return change(node) if (at or "/") == path else node

    return flatten(walk(unflatten(data, "x"), ""))


def _property(name: str, value: bytes | None) -> Callable[[Node], Node]:
    def change(node: Node) -> Node:
        kept = {key: old for key, old in node.properties.items() if key != name}
        return replace(node, properties=kept if value is None else {**kept, name: value})

    return change


WHOLE = Baseline(
    cpus=(2, 3),
    memory=(MemoryRequest(1 << 30, 0),),
    pci={"nic": PciDevice("0000:09:00.0", 1, 2, "eth0")},
    platform=(PlatformDevice("ser", "serial8250"),),
)


@pytest.mark.parametrize(
    ("path", "name", "value", "says"),
    [
        ("/", "compatible", text("multikernel-v2"), 'not "multikernel-v1"'),
        ("/", "compatible", None, "no property compatible"),
        ("/", "model", text("x"), "does not belong here"),
        ("/resources", "cpus", b"", "a pool needs a CPU"),
        ("/resources", "cpus", b"\0" * 12, "8 for each number"),
        ("/resources", "cpus", u64(1, 1), "a number twice"),
        ("/resources", "cpus", bytes(8 * 8193), "up to 8192"),
        ("/resources", "memory-base", u64(1), "does not belong here"),
        ("/resources/memory@0", "size", u32(1), "size has 4 bytes, not 8"),
        ("/resources/memory@0", "size", u64(0), "size is 0"),
        ("/resources/devices/nic", "pci-id", text("09:00.0"), "no PCI address"),
        ("/resources/devices/nic", "pci-id", b"0000:09:00.0", "no text"),
        ("/resources/devices/nic", "pci-id", b"\x1b[31m\0", "no printable text"),
        ("/resources/devices/nic", "device-type", text("usb"), "does not belong here"),
        ("/resources/devices/ser", "device-name", None, "neither device-name nor acpi-hid"),
    ],
)
def test_what_is_wrong_in_a_baseline_is_told_with_its_node(
    path: str, name: str, value: bytes | None, says: str
) -> None:
    data = _changed(baseline_tree(WHOLE), path, _property(name, value))
    with pytest.raises(DeviceTreeError, match=says) as caught:
        read_baseline(data, "baseline.dtb")
    assert caught.value.where == f"baseline.dtb:{path}"


@pytest.mark.parametrize(
    ("path", "name", "value", "says"),
    [
        ("/", "memory-granule", u64(3 << 20), "no power of two"),
        ("/resources", "cpus-available", u64(77), "not in cpus"),
        ("/resources/memory@40000000", "reg", u64(1 << 63, 1 << 63) + b"\0", "not 16"),
        ("/resources/memory@40000000", "reg", u64(2, (1 << 64) - 1), "no region of memory"),
        ("/resources/memory@40000000", "reg", u64(2, 0), "no region of memory"),
    ],
)
def test_what_is_wrong_in_a_pool_is_told_with_its_node(
    path: str, name: str, value: bytes, says: str
) -> None:
    from orchestrator.drivers.multikernel.trees.forms import MemoryRegion

    pool = PoolTree((1, 2), (1,), (MemoryRegion(1 << 30, 1 << 27),))
    with pytest.raises(DeviceTreeError, match=says) as caught:
        read_pool(_changed(pool_tree(pool), path, _property(name, value)), "root")
    assert caught.value.where == f"root:{path}"


@pytest.mark.parametrize("name", [".", "..", "a/b", "", "n" * 128, "a b"])
def test_an_instance_cannot_have_a_name_that_leads_elsewhere(name: str) -> None:
    data = _changed(
        instance_tree(InstanceTree("web", 3)), "/", _property("model", name.encode() + b"\0")
    )
    with pytest.raises(DeviceTreeError, match="no name of an instance"):
        read_instance(data, "x")
    with pytest.raises(DeviceTreeError):
        instance_tree(InstanceTree(name, 3))


def test_what_a_newer_kernel_adds_is_passed_over() -> None:
    data = instance_tree(InstanceTree("web", 3, (1,), 1 << 30, 1 << 27))
    more = _changed(data, "/resources", _property("llc-way-mask", u32(3)))
    more = _changed(
        more, "/", lambda node: replace(node, children=(*node.children, Node("chosen")))
    )
    assert read_instance(more, "x") == read_instance(data, "x")


@pytest.mark.parametrize(
    "baseline",
    [
        replace(WHOLE, cpus=()),
        replace(WHOLE, memory=()),
        replace(WHOLE, cpus=(-1,)),
        replace(WHOLE, cpus=(1 << 64,)),
        replace(WHOLE, memory=(MemoryRequest(1, 1 << 32),)),
        replace(WHOLE, pci={"nic": PciDevice("nonsense")}),
        replace(WHOLE, pci={"a/b": PciDevice("0000:09:00.0")}),
        replace(WHOLE, platform=(PlatformDevice("ser", "ä"),)),
    ],
)
def test_what_no_tree_can_say_is_not_written(baseline: Baseline) -> None:
    with pytest.raises(DeviceTreeError):
        baseline_tree(baseline)
