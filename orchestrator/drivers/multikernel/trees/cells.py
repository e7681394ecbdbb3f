"""Properties of a node: numbers of one or two big-endian cells, and texts."""

from __future__ import annotations

import re
import struct
from collections.abc import Collection, Iterator
from typing import NoReturn

from orchestrator.drivers.multikernel.trees.forms import LAST_U32, LAST_U64
from orchestrator.system.device_tree import DeviceTreeError, Node

LONGEST_TEXT = 255
_TEXT = re.compile(r"[\x20-\x7e]*")
_PCI = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7]")
_INSTANCE = re.compile(r"(?!\.{1,2}\Z)[\x21-\x2e\x30-\x7e]{1,127}")


def u32(value: int) -> bytes:
    if not 0 <= value <= LAST_U32:
        raise DeviceTreeError(f"{value} does not fit into 32 bits")
    return struct.pack(">I", value)


def u64(*values: int) -> bytes:
    """Two cells each."""
    for value in values:
        if not 0 <= value <= LAST_U64:
            raise DeviceTreeError(f"{value} does not fit into 64 bits")
    return struct.pack(f">{len(values)}Q", *values)


def text(value: str) -> bytes:
    if len(value) > LONGEST_TEXT or not _TEXT.fullmatch(value):
        raise DeviceTreeError(f"not a text of up to {LONGEST_TEXT} printable bytes: {value[:40]!r}")
    return value.encode("ascii") + b"\0"


def is_pci_address(value: str) -> bool:
    """`DDDD:BB:SS.F` in lower case."""
    return _PCI.fullmatch(value) is not None


def is_instance_name(value: str) -> bool:
    """What can be a directory below instances/ and stand in a path of a tree."""
    return _INSTANCE.fullmatch(value) is not None


class View:
    """A node while it is read: every complaint has its path."""

    def __init__(self, node: Node, origin: str, path: str = "") -> None:
        self.node = node
        self.path = path
        self._origin = origin

    def refuse(self, what: str) -> NoReturn:
        raise DeviceTreeError(what, where=f"{self._origin}:{self.path or '/'}")

    @property
    def name(self) -> str:
        return self.node.name

    def has(self, name: str) -> bool:
        return name in self.node.properties

    def child(self, name: str) -> View:
        found = self.maybe_child(name)
        if found is None:
            self.refuse(f"there is no node {name}")
        return found

    def maybe_child(self, name: str) -> View | None:
        node = self.node.child(name)
        return None if node is None else self._below(node)

    def children(self, prefix: str = "") -> Iterator[View]:
        for node in self.node.children:
            if node.name.startswith(prefix):
                yield self._below(node)

    def only(self, properties: Collection[str], children: Collection[str] = ()) -> None:
        """Nothing but these: what is not understood may change what the rest means.

        Args:
            children: names, or what they begin with if that ends in `@`.
        """
        for name in self.node.properties:
            if name not in properties:
                self.refuse(f"a property {name}, which does not belong here")
        for node in self.node.children:
            stem = node.name.partition("@")[0] + "@" if "@" in node.name else node.name
            if node.name not in children and stem not in children:
                self.refuse(f"a node {node.name}, which does not belong here")

    def u32(self, name: str) -> int:
        return int.from_bytes(self._sized(name, 4), "big")

    def maybe_u32(self, name: str) -> int | None:
        return self.u32(name) if self.has(name) else None

    def u64(self, name: str) -> int:
        return int.from_bytes(self._sized(name, 8), "big")

    def u64s(self, name: str, most: int) -> tuple[int, ...]:
        """Any number of them up to `most`, none twice."""
        value = self._value(name)
        if len(value) % 8:
            self.refuse(f"{name} has {len(value)} bytes; 8 for each number are read")
        if len(value) // 8 > most:
            self.refuse(f"{name} has {len(value) // 8} numbers; up to {most} are read")
        numbers = struct.unpack(f">{len(value) // 8}Q", value)
        if len(set(numbers)) != len(numbers):
            self.refuse(f"{name} has a number twice")
        return numbers

    def first_cell(self, name: str) -> int:
        """Of a property that has several."""
        value = self._value(name)
        if len(value) < 4 or len(value) % 4:
            self.refuse(f"{name} has {len(value)} bytes; 4 for each cell are read")
        return int.from_bytes(value[:4], "big")

    def region(self, name: str) -> tuple[int, int]:
        """Base and size."""
        base, size = struct.unpack(">2Q", self._sized(name, 16))
        if size == 0 or base + size - 1 > LAST_U64:
            self.refuse(f"{name} is no region of memory: {size} bytes at {base:#x}")
        return base, size

    def text(self, name: str) -> str:
        value = self._value(name)
        if not value.endswith(b"\0") or len(value) > LONGEST_TEXT + 1:
            self.refuse(f"{name} is no text of up to {LONGEST_TEXT} bytes")
        found = value[:-1].decode("ascii", "replace")
        if not _TEXT.fullmatch(found):
            self.refuse(f"{name} has bytes that are no printable text")
        return found

    def maybe_text(self, name: str) -> str | None:
        return self.text(name) if self.has(name) else None

    def pci_address(self, name: str) -> str:
        found = self.text(name)
        if not is_pci_address(found):
            self.refuse(f"{name} is no PCI address DDDD:BB:SS.F: {found!r}")
        return found

    def instance_name(self, name: str) -> str:
        found = self.text(name)
        if not is_instance_name(found):
            self.refuse(f"{name} is no name of an instance: {found[:40]!r}")
        return found

    def _below(self, node: Node) -> View:
        return View(node, self._origin, f"{self.path}/{node.name}")

    def _value(self, name: str) -> bytes:
        if name not in self.node.properties:
            self.refuse(f"there is no property {name}")
        return self.node.properties[name]

    def _sized(self, name: str, size: int) -> bytes:
        value = self._value(name)
        if len(value) != size:
            self.refuse(f"{name} has {len(value)} bytes, not {size}")
        return value
