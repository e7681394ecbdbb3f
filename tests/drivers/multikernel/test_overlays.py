"""Overlays: one operation each, never more than a page, found again by their tag."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.drivers.multikernel.trees.cells import text, u32, u64
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
from orchestrator.drivers.multikernel.trees.forms import MemoryRegion, MemoryRequest
from orchestrator.drivers.multikernel.trees.overlay import (
    Overlay,
    overlays,
    read_overlay,
)
from orchestrator.system.device_tree import DeviceTreeError, Node, flatten, unflatten
from orchestrator.system.multikernel import MOST_OVERLAY_BYTES
from tests.drivers.multikernel.strategies import TAGS, changes
from tests.support.profile import examples

TAG = Tag("20261127T024500-ab12cd", "create-instance/web", 1)
CREATE = CreateInstance("web-g2", 7, (2, 3), 1 << 30, 0)


@settings(max_examples=examples(25))
@given(changes(), TAGS)
def test_each_part_fits_a_page_and_is_read_as_it_was_written(change: Change, tag: Tag) -> None:
    parts = overlays(change, tag)
    for number, part in enumerate(parts, 1):
        data = part.encode()
        assert len(data) <= MOST_OVERLAY_BYTES
        assert read_overlay(data, "x") == part
        assert part.tag == replace(tag, part=number, parts=len(parts))


@settings(max_examples=examples(25))
@given(changes(), TAGS)
def test_the_parts_together_ask_for_what_was_asked_for(change: Change, tag: Tag) -> None:
    parts = [part.change for part in overlays(change, tag)]
    match change:
        case CreateInstance():
            first, *rest = parts
            assert isinstance(first, CreateInstance)
            assert replace(first, cpus=change.cpus) == change
            assert all(isinstance(c, CpuChange) and c.target == change.name for c in rest)
            assert (
                sum(
                    (
                        c.cpus
                        for c in parts
                        if not isinstance(c, RemoveInstance)
                        and isinstance(c, CpuChange | CreateInstance)
                    ),
                    (),
                )
                == change.cpus
            )
        case RemoveInstance():
            assert parts == [change]
        case CpuChange():
            assert sum((c.cpus for c in parts if isinstance(c, CpuChange)), ()) == change.cpus
            kept = [c for c in parts if isinstance(c, CpuChange)]
            assert {(c.target, c.verb) for c in kept} == {(change.target, change.verb)}
        case DeviceChange():
            assert sum((c.pci for c in parts if isinstance(c, DeviceChange)), ()) == change.pci
        case MemoryChange():
            memory = [c for c in parts if isinstance(c, MemoryChange)]
            assert sum((c.regions for c in memory), ()) == change.regions
            assert sum((c.requests for c in memory), ()) == change.requests


def test_a_small_change_is_one_overlay() -> None:
    assert [part.tag.parts for part in overlays(CREATE, TAG)] == [1]


def test_an_overlay_beyond_a_page_is_never_encoded() -> None:
    with pytest.raises(DeviceTreeError, match="the kernel takes 4096"):
        Overlay(CpuChange("web", Verb.ADD, tuple(range(200))), TAG).encode()


@given(TAGS, st.integers(1, 999), st.integers(1, 999))
def test_a_tag_is_parsed_as_it_was_written(tag: Tag, part: int, parts: int) -> None:
    tag = replace(tag, part=part, parts=parts)
    assert Tag.parse(str(tag)) == tag


@pytest.mark.parametrize(
    "said",
    ["unknown", "", "mkupgrade/1 t s 0 1/1", "mkupgrade/1 t s 1 1/1 ", "mkupgrade/2 t s 1 1/1",
     "mkupgrade/1 t s x 1 1/1", "mkupgrade/1 t s 1 1/1\n"],
)  # fmt: skip
def test_the_tag_of_somebody_else_is_not_ours(said: str) -> None:
    assert Tag.parse(said) is None


@pytest.mark.parametrize(
    "tag", [Tag("a b", "s", 1), Tag("t", "", 1), Tag("t", "s" * 151, 1), Tag("t", "s", 0)]
)
def test_a_tag_that_would_not_be_found_again_is_not_written(tag: Tag) -> None:
    with pytest.raises(DeviceTreeError, match="no tag"):
        Overlay(CREATE, tag).encode()


@pytest.mark.parametrize(
    "change",
    [
        replace(CREATE, id=0),
        replace(CREATE, cpus=()),
        replace(CREATE, memory_bytes=0),
        replace(CREATE, name="a/b"),
        RemoveInstance(".."),
        CpuChange("web", Verb.ADD, ()),
        CpuChange("../resources", Verb.ADD, (1,)),
        DeviceChange(None, Verb.ADD, ("09:00.0",)),
        MemoryChange("web", Verb.ADD, requests=(MemoryRequest(1),)),
        MemoryChange(None, Verb.ADD, regions=(MemoryRegion(0, 1),)),
        MemoryChange(None, Verb.REMOVE),
    ],
)
def test_a_change_that_the_kernel_would_misread_is_not_written(change: Change) -> None:
    with pytest.raises(DeviceTreeError):
        overlays(change, TAG)[0].encode()


Edit = Callable[[Node], Node]


def _in_fragment(edit: Edit) -> Edit:
    def change(root: Node) -> Node:
        fragment = root.children[0]
        return replace(root, children=(edit(fragment),))

    return change


def _in_operation(edit: Edit) -> Edit:
    def change(fragment: Node) -> Node:
        body = fragment.children[0]
        return replace(fragment, children=(replace(body, children=(edit(body.children[0]),)),))

    return _in_fragment(change)


def _with(name: str, value: bytes) -> Edit:
    return lambda node: replace(node, properties={**node.properties, name: value})


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (_with("mk,resources", text("unknown")), "not tagged by mkupgrade"),
        (_with("x", b""), "does not belong here"),
        (lambda root: replace(root, children=(*root.children, Node("fragment@1"))),
         "not one operation"),
        (_in_fragment(_with("target-path", text("/elsewhere"))), "no target"),
        (_in_fragment(_with("target-path", text("/instances/.."))), "no target"),
        (_in_fragment(_with("target-path", text("/instances"))), "not an operation"),
        (_in_operation(lambda node: replace(node, name="cpu-ad")), "not an operation"),
        (_in_operation(lambda node: replace(node, children=())), "0 items"),
        (_in_operation(lambda node: replace(node, children=(Node("cpus@0"),))), "does not belong"),
        (_in_operation(lambda node: replace(node, children=(Node("cpu@0", {"reg": u32(1)}),))),
         "not 8"),
        (_in_operation(lambda node: replace(node, children=(
            Node("cpu@0", {"reg": u64(1), "flags": u32(0)}),))), "does not belong"),
    ],
)  # fmt: skip
def test_an_overlay_of_another_form_is_refused_with_its_node(edit: Edit, says: str) -> None:
    whole = Overlay(CpuChange("web", Verb.ADD, (4, 5)), TAG).encode()
    with pytest.raises(DeviceTreeError, match=says) as caught:
        read_overlay(flatten(edit(unflatten(whole, "x"))), "overlays/tx_2/dtbo")
    assert str(caught.value.where).startswith("overlays/tx_2/dtbo:/")
