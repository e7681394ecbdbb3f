"""Pydantic's location of an error -> path, place and schema in our document."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from orchestrator.loading.nodes import Mapping, Node, Place, child
from orchestrator.loading.problems import Hints, Path
from orchestrator.loading.schema import Schema


@dataclass(frozen=True)
class Located:
    """What is at a location."""

    path: Path
    node: Node | None
    """The value there; None if the key is missing."""
    place: Place
    """Of the value, or of the nearest thing around it that exists."""
    key_place: Place
    """Of the value's key; for items of a list, of the value."""
    parent: Node | None
    parent_schema: Schema
    own_schema: Schema


class Locator:
    """Follows locations through the tree and, side by side, through the schema.

    Pydantic puts the variant's tag into the location of what is inside a variant ("migrate",
    "criu", "timeout"); it stands for no key and only chooses the schema.
    """

    def __init__(self, root: Node, schema: Schema, hints: Hints) -> None:
        self.hints = hints
        self._root = root
        self._schema = schema

    def locate(self, location: Iterable[Any]) -> Located:
        node: Node | None = self._root
        parent: Node | None = None
        here, above = self._schema, self._schema
        place = key_place = self._root.place
        path: list[str | int] = []
        for part in location:
            here = self.follow(here)
            if "discriminator" in here:
                here = self._variant(here, part)
                continue
            if part == "[key]" or not isinstance(part, str | int):
                continue
            parent, above = node, here
            path.append(part)
            here = _inside(here, part)
            node = child(node, part)
            key_place = _key_place(parent, part) or (node.place if node else key_place)
            place = node.place if node else key_place
        return Located(tuple(path), node, place, key_place, parent, above, self.follow(here))

    def follow(self, part: Schema) -> Schema:
        """The schema itself, behind references and "or null"."""
        while True:
            if "$ref" in part:
                part = self._schema["$defs"][part["$ref"].rsplit("/", 1)[1]]
            elif "anyOf" in part:
                part = next(p for p in part["anyOf"] if p.get("type") != "null")
            else:
                return part

    def _variant(self, part: Schema, tag: Any) -> Schema:
        reference = part["discriminator"]["mapping"].get(tag)
        return self.follow({"$ref": reference}) if reference else {}


def _inside(part: Schema, key: str | int) -> Schema:
    if isinstance(key, int):
        inner = part.get("items", {})
    else:
        inner = part.get("properties", {}).get(key) or part.get("additionalProperties")
    return inner if isinstance(inner, dict) else {}


def _key_place(parent: Node | None, key: str | int) -> Place | None:
    if isinstance(parent, Mapping) and isinstance(key, str) and key in parent.entries:
        return parent.entries[key].place
    return None
