"""YAML events -> tree of nodes, without recursion and with limits.

A composer of a library recurses, expands aliases without a limit and stops at the first problem;
this one goes on after everything that is not a syntax error.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from orchestrator.loading import limits
from orchestrator.loading.findings import Finding
from orchestrator.loading.nodes import Entry, Mapping, Node, Place, Scalar, Sequence
from orchestrator.loading.problems import Hints, Path, quoted
from orchestrator.loading.scalars import ScalarError, resolve

NESTED = f"nested too deeply: at most {limits.MAX_DEPTH} levels are read"
_STRING_TAGS = (None, "!", "tag:yaml.org,2002:str")


class StopParsingError(Exception):
    """Going on is of no use; the problem is reported by whoever catches this."""

    def __init__(self, place: Place, message: str) -> None:
        super().__init__(message)
        self.place = place
        self.message = message


@dataclass(slots=True)
class _Measure:
    """What a finished node costs each time that an alias repeats it."""

    nodes: int
    characters: int
    height: int


@dataclass(slots=True)
class _Frame:
    """An open list or mapping."""

    node: Sequence | Mapping
    anchor: str | None
    key: tuple[str, Place] | None = None
    """Of a mapping: the key that waits for its value."""
    awaits_value: bool = False
    nodes: int = 1
    characters: int = 0
    height: int = 1


class Composer:
    """Takes one event at a time; afterwards `root` is the document and `found` its problems."""

    def __init__(self, hints: Hints) -> None:
        self._hints = hints
        self.root: Node | None = None
        self.found: list[Finding] = []
        self._stack: list[_Frame] = []
        self._anchors: dict[str, tuple[Node, _Measure] | None] = {}
        self._nodes = 0
        self._characters = 0

    @property
    def path(self) -> Path:
        """Where in the document the parser is."""
        parts: list[str | int] = []
        for frame in self._stack:
            if isinstance(frame.node, Sequence):
                parts.append(len(frame.node.items))
            elif frame.key is not None:
                parts.append(frame.key[0])
        return tuple(parts)

    def scalar(self, event: Any, place: Place) -> None:
        """A single value, which may turn out to be a key."""
        text = str(event.value)
        self._charge(place, 1, len(text))
        self._refuse_tag(event.tag, place, scalar=True)
        value = self._value(event, text, place)
        empty = not event.style and not text
        place = self._key_place() or place if empty else place
        node = Scalar(place, value, text, plain=not event.style)
        self._finish(node, event.anchor, _Measure(1, len(text), 0))

    def start(self, node: Sequence | Mapping, event: Any) -> None:
        """The beginning of a list or mapping."""
        self._charge(node.place, 1, 0)
        self._refuse_tag(event.tag, node.place, scalar=False)
        if len(self._stack) >= limits.MAX_DEPTH:
            raise StopParsingError(node.place, NESTED)
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        self._stack.append(_Frame(node, event.anchor))

    def end(self) -> None:
        """The end of the list or mapping begun last."""
        frame = self._stack.pop()
        measure = _Measure(frame.nodes, frame.characters, frame.height)
        self._finish(frame.node, frame.anchor, measure)

    def alias(self, name: str, place: Place) -> None:
        """A repetition of what was anchored before."""
        if name not in self._anchors:
            near = self._hints.nearest(name, self._anchors)
            self._report(place, f"unknown anchor {quoted(name)}", near)
            self._finish(Scalar(place, None, ""), None, _Measure(1, 0, 0))
            return
        target = self._anchors[name]
        if target is None:
            raise StopParsingError(place, f"the anchor {quoted(name)} contains itself")
        node, measure = target
        self._charge(place, measure.nodes, measure.characters)
        if len(self._stack) + measure.height > limits.MAX_DEPTH:
            raise StopParsingError(place, NESTED)
        self._finish(node, None, measure)

    def _report(self, place: Place, message: str, near: str | None = None) -> None:
        self.found.append(Finding(place, self.path, message, nearest=near))
        if len(self.found) >= limits.MAX_PROBLEMS:
            raise StopParsingError(place, "too many problems; the rest was not read")

    def _value(self, event: Any, text: str, place: Place) -> str | int | float | bool | None:
        if "\0" in text or not _is_unicode(text):
            self._report(place, "expected text without NUL characters and lone surrogates")
            return ""
        if event.style or event.tag is not None:
            return text
        try:
            return resolve(text)
        except ScalarError as error:
            self._report(place, str(error))
            return text

    def _refuse_tag(self, tag: Any, place: Place, *, scalar: bool) -> None:
        text = None if tag is None else str(tag)
        if text not in _STRING_TAGS or (text is not None and not scalar):
            shown = str(text).replace("tag:yaml.org,2002:", "!!", 1)
            self._report(place, f"tags are not read here, found {quoted(shown)}")

    def _key_place(self) -> Place | None:
        if self._stack and self._stack[-1].key is not None:
            return self._stack[-1].key[1]
        return None

    def _finish(self, node: Node, anchor: str | None, measure: _Measure) -> None:
        if anchor is not None:
            self._anchors[anchor] = (node, measure)
        if not self._stack:
            self.root = node
            return
        frame = self._stack[-1]
        frame.nodes += measure.nodes
        frame.characters += measure.characters
        frame.height = max(frame.height, measure.height + 1)
        if isinstance(frame.node, Sequence):
            frame.node.items.append(node)
        elif frame.awaits_value:
            self._set(frame, frame.node, node)
        else:
            frame.awaits_value = True
            frame.key = self._key(node)

    def _charge(self, place: Place, nodes: int, characters: int) -> None:
        self._nodes += nodes
        self._characters += characters
        if self._nodes > limits.MAX_NODES or self._characters > limits.MAX_TEXT:
            raise StopParsingError(
                place,
                f"too large: at most {limits.MAX_NODES} values and {limits.MAX_TEXT} characters "
                "are read, aliases followed",
            )

    def _set(self, frame: _Frame, mapping: Mapping, value: Node) -> None:
        if frame.key is not None:
            key, place = frame.key
            if key in mapping.entries:
                first = mapping.entries[key].place
                self._report(place, f"key given twice, first in line {first.line}")
            else:
                mapping.entries[key] = Entry(place, value)
        frame.key, frame.awaits_value = None, False

    def _key(self, node: Node) -> tuple[str, Place] | None:
        if not isinstance(node, Scalar):
            self._report(node.place, f"expected text as a key, found {node}")
            return None
        if isinstance(node.value, str):
            if node.value == "<<" and node.plain:
                self._report(node.place, 'merge keys ("<<") are YAML 1.1 and are not read')
                return None
            return node.value, node.place
        hint = f"; write it in quotes: {quoted(node.text)}" if node.text else ""
        self._report(node.place, f"expected text as a key, found {node}{hint}")
        return None


def _is_unicode(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= c <= "\udfff" for c in text)
