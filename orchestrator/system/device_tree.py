"""Flattened device trees (DTB, version 17) as plain values, read and written by libfdt.

The format is the Devicetree Specification's, chapter 5. Whoever wrote a tree is not trusted:
libfdt checks the whole of it first (`fdt_check_full`), and there are bounds on its size, depth,
number of nodes and properties, and on names. What properties mean is not decided here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

from orchestrator.model.errors import ErrorClass, MkupgradeError, NotSupportedError

if TYPE_CHECKING:
    from orchestrator.system import _libfdt

MOST_BYTES = 1 << 20
"""The kernel takes and gives no larger tree (facts: multikernel 1.2)."""
DEEPEST = 16
"""Levels of nodes. Trees of PCI bridges go down the furthest: one level for each bridge."""
MOST_NODES = 16384
MOST_PROPERTIES = 65536

_MAGIC = b"\xd0\x0d\xfe\xed"
_NAME = re.compile(rb"[A-Za-z0-9,._+?#@-]{1,255}")
"""Of nodes and properties: what the specification allows, and no length of its own."""


class DeviceTreeError(MkupgradeError):
    """A device tree is damaged, too large, or does not say what it has to; `where` has the path
    of the node."""

    code = "device-tree"
    error_class = ErrorClass.INVALID


@dataclass(frozen=True, slots=True)
class Node:
    """One node: its properties as bytes, and the nodes below it, both in their order."""

    name: str
    """With the unit address, `memory@0`; the root's is empty."""
    properties: Mapping[str, bytes] = field(default_factory=dict)
    children: tuple[Node, ...] = ()

    def child(self, name: str) -> Node | None:
        """The node of that very name below this one."""
        return next((node for node in self.children if node.name == name), None)

    def walk(self, path: str = "") -> Iterator[tuple[str, Node]]:
        """This node and all below it, each with its path; the root's is `/`."""
        yield path or "/", self
        for node in self.children:
            yield from node.walk(f"{path}/{node.name}")


def unflatten(data: bytes, origin: str) -> Node:
    """The tree in a DTB.

    Args:
        data: the whole of it and nothing else: its header must say this very length.
        origin: where it comes from, for messages.

    Raises:
        DeviceTreeError: damaged, torn, or beyond the bounds of this module.
        NotSupportedError: libfdt is not on this host.
    """
    if not 0 < len(data) <= MOST_BYTES:
        raise DeviceTreeError(
            f"a device tree of {len(data)} bytes; 1 to {MOST_BYTES} are read", where=origin
        )
    fdt = library()
    blob = fdt.ffi.new("char[]", data)
    found = fdt.lib.fdt_check_full(blob, len(data))
    said = int.from_bytes(data[4:8], "big")
    if data.startswith(_MAGIC) and said != len(data):
        raise DeviceTreeError(
            f"{len(data)} bytes of a device tree that says it has {said}: it was cut, or changed "
            "while it was read",
            where=origin,
        )
    if found < 0:
        raise DeviceTreeError(f"not a device tree: {_said(fdt, found)}", where=origin)
    return _Reading(fdt, blob, origin).tree()


def flatten(root: Node) -> bytes:
    """The DTB of a tree.

    Raises:
        DeviceTreeError: a name that cannot be written, or more than is read again.
        NotSupportedError: libfdt is not on this host.
    """
    fdt = library()
    size = 1024
    while size <= 2 * MOST_BYTES:
        buffer = fdt.ffi.new("char[]", size)
        result = _written(fdt, root, buffer, size)
        if result != -fdt.lib.FDT_ERR_NOSPACE:
            break
        size *= 4
    if result < 0:
        raise DeviceTreeError(f"the device tree cannot be written: {_said(fdt, result)}", where="/")
    length = int.from_bytes(fdt.ffi.buffer(buffer, 8)[4:8], "big")
    data = bytes(fdt.ffi.buffer(buffer, length))
    unflatten(data, "the device tree that was written")
    return data


def library() -> _Libfdt:
    """libfdt.

    Raises:
        NotSupportedError: it is not on this host; nothing else of mkupgrade needs it.
    """
    try:
        from orchestrator.system import _libfdt
    except ImportError as error:
        raise NotSupportedError(
            f"device trees cannot be read: {error}",
            state="nothing was changed",
            next_command="apt-get install libfdt1",
        ) from error
    return _Libfdt(_libfdt.lib, _libfdt.ffi)


@dataclass(frozen=True, slots=True)
class _Libfdt:
    lib: _libfdt._Lib
    ffi: _libfdt._FFI


def _said(fdt: _Libfdt, error: int) -> str:
    return fdt.ffi.string(fdt.lib.fdt_strerror(error)).decode("ascii", "replace")


class _Building:
    """A node whose end was not reached yet."""

    __slots__ = ("children", "name", "names", "properties")

    def __init__(self, name: str, properties: dict[str, bytes]) -> None:
        self.name = name
        self.properties = properties
        self.children: list[Node] = []
        self.names: set[str] = set()

    def done(self) -> Node:
        return Node(self.name, self.properties, tuple(self.children))


class _Reading:
    """One walk over a tree that `fdt_check_full` has passed."""

    def __init__(self, fdt: _Libfdt, blob: Any, origin: str) -> None:
        self._fdt = fdt
        self._blob = blob
        self._origin = origin
        self._length = fdt.ffi.new("int *")
        self._name = fdt.ffi.new("const char **")
        self._left = MOST_PROPERTIES

    def tree(self) -> Node:
        depth = self._fdt.ffi.new("int *", 0)
        open_nodes = [_Building("", self._properties(0, "/"))]
        count, offset = 1, self._fdt.lib.fdt_next_node(self._blob, 0, depth)
        while offset >= 0 and depth[0] > 0:
            count += 1
            if count > MOST_NODES:
                self._refuse("/", f"more than {MOST_NODES} nodes")
            if depth[0] > DEEPEST:
                self._refuse("/", f"nodes more than {DEEPEST} levels deep")
            while len(open_nodes) > depth[0]:
                self._close(open_nodes)
            above = "/".join(node.name for node in open_nodes)
            name = self._node_name(offset, above)
            path = f"{above}/{name}"
            if name in open_nodes[-1].names:
                self._refuse(path, "two nodes of this name")
            open_nodes[-1].names.add(name)
            open_nodes.append(_Building(name, self._properties(offset, path)))
            offset = self._fdt.lib.fdt_next_node(self._blob, offset, depth)
        if offset < 0 and offset != -self._fdt.lib.FDT_ERR_NOTFOUND:
            self._refuse("/", _said(self._fdt, offset))
        while len(open_nodes) > 1:
            self._close(open_nodes)
        return open_nodes[0].done()

    @staticmethod
    def _close(open_nodes: list[_Building]) -> None:
        node = open_nodes.pop().done()
        open_nodes[-1].children.append(node)

    def _node_name(self, offset: int, above: str) -> str:
        name = self._fdt.lib.fdt_get_name(self._blob, offset, self._length)
        if name == self._fdt.ffi.NULL:
            self._refuse(
                above or "/", f"a node without a name: {_said(self._fdt, self._length[0])}"
            )
        return self._text(name, above or "/", "node")

    def _properties(self, node: int, path: str) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        fdt, blob = self._fdt, self._blob
        offset = fdt.lib.fdt_first_property_offset(blob, node)
        while offset >= 0:
            self._left -= 1
            if self._left < 0:
                self._refuse(path, f"more than {MOST_PROPERTIES} properties in the tree")
            value = fdt.lib.fdt_getprop_by_offset(blob, offset, self._name, self._length)
            if value == fdt.ffi.NULL:
                self._refuse(path, f"a property: {_said(fdt, self._length[0])}")
            name = self._text(self._name[0], path, "property")
            if name in found:
                self._refuse(path, f"two properties {name}")
            found[name] = bytes(fdt.ffi.buffer(value, self._length[0]))
            offset = fdt.lib.fdt_next_property_offset(blob, offset)
        if offset != -fdt.lib.FDT_ERR_NOTFOUND:
            self._refuse(path, _said(fdt, offset))
        return found

    def _text(self, name: Any, path: str, what: str) -> str:
        text = self._fdt.ffi.string(name, 256)
        if not _NAME.fullmatch(text):
            self._refuse(path, f"a {what} of a name that none has: {text[:40]!r}")
        return text.decode("ascii")

    def _refuse(self, path: str, what: str) -> NoReturn:
        raise DeviceTreeError(
            f"not a device tree that is read: {what}", where=f"{self._origin}:{path}"
        )


def _written(fdt: _Libfdt, root: Node, buffer: Any, size: int) -> int:
    """0, or the first error of libfdt."""
    lib = fdt.lib
    result = lib.fdt_create(buffer, size) or lib.fdt_finish_reservemap(buffer)
    # None: the end of the node that was begun.
    waiting: list[tuple[Node | None, str]] = [(root, "")]
    while waiting and result == 0:
        node, path = waiting.pop()
        if node is None:
            result = lib.fdt_end_node(buffer)
            continue
        name = node.name.encode("ascii", "backslashreplace")
        if bool(name) == (node is root) or (name and not _NAME.fullmatch(name)):
            raise DeviceTreeError(f"a node cannot be called {node.name!r}", where=path or "/")
        result = lib.fdt_begin_node(buffer, name)
        for key, value in node.properties.items():
            if not _NAME.fullmatch(key.encode("ascii", "backslashreplace")):
                raise DeviceTreeError(f"a property cannot be called {key!r}", where=path or "/")
            result = result or lib.fdt_property(buffer, key.encode("ascii"), value, len(value))
        waiting.append((None, path))
        waiting += [(child, f"{path}/{child.name}") for child in reversed(node.children)]
    return result or lib.fdt_finish(buffer)
