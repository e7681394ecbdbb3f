"""The flattened form: what is written is read again, and nothing damaged is read at all."""

from __future__ import annotations

import struct
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.model.errors import NotSupportedError
from orchestrator.system import device_tree
from orchestrator.system.device_tree import DeviceTreeError, Node, flatten, unflatten

NAMES = st.text("abz09,._+?#@-", min_size=1, max_size=40)
PROPERTIES = st.dictionaries(NAMES, st.binary(max_size=60), max_size=4)


def _node(name: str, properties: dict[str, bytes], children: list[Node]) -> Node:
    return Node(name, properties, tuple({c.name: c for c in children}.values()))


TREES = st.recursive(
    st.builds(_node, NAMES, PROPERTIES, st.just([])),
    lambda below: st.builds(_node, NAMES, PROPERTIES, st.lists(below, max_size=4)),
    max_leaves=12,
).filter(lambda node: max(path.count("/") for path, _ in node.walk()) < device_tree.DEEPEST - 1)
ROOTS = st.builds(
    lambda properties, children: _node("", properties, children),
    PROPERTIES,
    st.lists(TREES, max_size=4),
)


@given(ROOTS)
def test_what_is_written_is_read_again(tree: Node) -> None:
    assert unflatten(flatten(tree), "x") == tree


@given(ROOTS, st.data())
def test_a_cut_tree_is_refused(tree: Node, data: st.DataObject) -> None:
    whole = flatten(tree)
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    with pytest.raises(DeviceTreeError):
        unflatten(cut, "x")


def test_a_tree_read_while_it_changed_is_told_by_its_length() -> None:
    whole = flatten(Node("", {"a": b"1"}))
    with pytest.raises(DeviceTreeError, match="cut, or changed while it was read") as caught:
        unflatten(whole + b"\0\0\0\0", "instances/web/device_tree")
    assert caught.value.where == "instances/web/device_tree"


@pytest.mark.parametrize("data", [b"", b"\0" * 64, b"PK\3\4" * 20, b"\xd0\x0d\xfe\xed"])
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(DeviceTreeError):
        unflatten(data, "x")


def test_more_than_a_mebibyte_is_refused_unread() -> None:
    with pytest.raises(DeviceTreeError, match="1 to 1048576 are read"):
        unflatten(b"\0" * (device_tree.MOST_BYTES + 1), "x")


def _nested(levels: int) -> Node:
    node = Node(f"n{levels}")
    for level in range(levels - 1, 0, -1):
        node = Node(f"n{level}", {}, (node,))
    return Node("", {}, (node,))


def test_nodes_nest_as_deep_as_the_bound_and_no_deeper() -> None:
    flatten(_nested(device_tree.DEEPEST))
    with pytest.raises(DeviceTreeError, match="more than 16 levels deep"):
        flatten(_nested(device_tree.DEEPEST + 1))


def test_more_nodes_than_the_bound_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_tree, "MOST_NODES", 10)
    flatten(Node("", {}, tuple(Node(f"n{n}") for n in range(9))))
    with pytest.raises(DeviceTreeError, match="more than 10 nodes"):
        flatten(Node("", {}, tuple(Node(f"n{n}") for n in range(10))))


def test_more_properties_than_the_bound_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_tree, "MOST_PROPERTIES", 3)
    with pytest.raises(DeviceTreeError, match="more than 3 properties") as caught:
        flatten(Node("", {"a": b"", "b": b""}, (Node("n", {"c": b"", "d": b""}),)))
    assert str(caught.value.where).endswith(":/n")


def test_two_nodes_of_one_name_are_refused_with_their_path() -> None:
    with pytest.raises(DeviceTreeError, match="two nodes of this name") as caught:
        flatten(Node("", {}, (Node("a", {}, (Node("b"), Node("b"))),)))
    assert str(caught.value.where).endswith(":/a/b")


@pytest.mark.parametrize("name", ["", "a/b", "a b", "ä", "a\0b", "n" * 256])
def test_a_name_that_no_node_has_is_not_written(name: str) -> None:
    with pytest.raises(DeviceTreeError):
        flatten(Node("", {}, (Node(name),)))
    with pytest.raises(DeviceTreeError):
        flatten(Node("", {name: b""}))


def test_a_name_with_control_characters_is_refused_when_read() -> None:
    whole = flatten(Node("", {}, (Node("node"),)))
    with pytest.raises(DeviceTreeError, match="a node of a name that none has"):
        unflatten(whole.replace(b"node", b"no\x1be"), "x")


def test_a_tree_larger_than_the_first_buffer_is_written() -> None:
    tree = Node("", {"a": b"x" * 300_000})
    assert unflatten(flatten(tree), "x") == tree


def test_a_header_that_points_beyond_the_tree_is_refused() -> None:
    whole = bytearray(flatten(Node("", {"a": b"1234"})))
    for field in (8, 12, 16, 32, 36):
        damaged = bytearray(whole)
        struct.pack_into(">I", damaged, field, 0x7FFFFFF0)
        with pytest.raises(DeviceTreeError):
            unflatten(bytes(damaged), "x")


def test_without_libfdt_only_device_trees_are_out_of_reach(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "orchestrator.system._libfdt", None)
    monkeypatch.delattr("orchestrator.system._libfdt", raising=False)
    with pytest.raises(NotSupportedError, match="device trees cannot be read") as caught:
        flatten(Node(""))
    assert caught.value.next_command == "apt-get install libfdt1"
