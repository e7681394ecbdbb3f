"""The document as a tree in which everything knows its place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from orchestrator.loading.problems import Path, quoted

Value = str | int | float | bool | None


class Place(NamedTuple):
    """A position in the text; both count from 1, columns in characters."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Scalar:
    """A single value."""

    place: Place
    value: Value
    text: str
    """As it stands in the file, so that 7.10 is never shown as 7.1."""
    plain: bool = True
    """Without quotes."""

    def __str__(self) -> str:
        if self.value is None:
            return "nothing"
        if isinstance(self.value, bool):
            return f"{self.text} (a yes-or-no value)"
        if isinstance(self.value, int | float):
            return f"the number {self.text}"
        return quoted(self.value)


@dataclass(frozen=True, slots=True)
class Sequence:
    """A list."""

    place: Place
    items: list[Node] = field(default_factory=list)

    def __str__(self) -> str:
        return "a list" if self.items else "an empty list"


class Entry(NamedTuple):
    """A key's place, and its value."""

    place: Place
    value: Node


@dataclass(frozen=True, slots=True)
class Mapping:
    """Keys and values, in the order of the file."""

    place: Place
    entries: dict[str, Entry] = field(default_factory=dict)

    def __str__(self) -> str:
        return "a mapping (key: value)" if self.entries else "an empty mapping"


Node = Scalar | Sequence | Mapping


def to_data(node: Node) -> object:
    """The tree as plain lists and dictionaries. Depth is limited by the parser."""
    if isinstance(node, Mapping):
        return {key: to_data(entry.value) for key, entry in node.entries.items()}
    if isinstance(node, Sequence):
        return [to_data(item) for item in node.items]
    return node.value


def child(node: Node | None, part: str | int) -> Node | None:
    """The value under a key or index; None if there is none."""
    if isinstance(node, Mapping) and isinstance(part, str):
        entry = node.entries.get(part)
        return entry.value if entry else None
    if isinstance(node, Sequence) and isinstance(part, int) and 0 <= part < len(node.items):
        return node.items[part]
    return None


def items(node: Node | None, *path: str) -> Iterator[tuple[Path, Node]]:
    """The items of the list at this path, each with its path; none if it is no list."""
    for part in path:
        node = child(node, part)
    if isinstance(node, Sequence):
        for index, item in enumerate(node.items):
            yield (*path, index), item


def text_of(node: Node | None) -> str | None:
    """The value of a text scalar; None for anything else."""
    if isinstance(node, Scalar) and isinstance(node.value, str):
        return node.value
    return None
