"""Names that point to one another: unknown, double, circular. Looked for in the tree, so that
every problem has a place, also in a document that has other problems."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from graphlib import CycleError, TopologicalSorter
from itertools import chain, islice, pairwise

from orchestrator.loading import limits
from orchestrator.loading.findings import Finding
from orchestrator.loading.nodes import Node, Scalar, child, items, text_of
from orchestrator.loading.problems import Hints, Path, quoted

_MOST_CYCLES = 10

Named = tuple[Path, Scalar]
"""Where a name stands, and the name."""


def check_references(root: Node, hints: Hints) -> list[Finding]:
    """What is wrong between the parts of the document: the first `limits.MAX_PROBLEMS`."""
    instances, workloads = list(_names(root, "instances")), list(_names(root, "workloads"))
    hooks = [*_names(root, "hooks", "before"), *_names(root, "hooks", "after")]
    found = chain(
        _twice(instances, "instance"),
        _twice(workloads, "workload"),
        _twice(_check_names(root), "check"),
        _twice(hooks, "hook"),
        _unknown_instances(root, _Known(instances, "instance", hints)),
        _after(root, "instances", _Known(instances, "instance", hints)),
        _after(root, "workloads", _Known(workloads, "workload", hints)),
    )
    return list(islice(found, limits.MAX_PROBLEMS))


class _Known:
    """The names that are there."""

    def __init__(self, names: list[Named], noun: str, hints: Hints) -> None:
        self.noun = noun
        self.texts = dict.fromkeys(name.text for _, name in names)
        self._hints = hints

    def unknown(self, path: Path, name: Scalar) -> Finding:
        """The finding that a name is not among them."""
        near = self._hints.nearest(name.text, self.texts)
        listed = "" if near else f"; known here: {self._listed() or 'none'}"
        message = f"unknown {self.noun} {quoted(name.text)}{listed}"
        return Finding(name.place, path, message, nearest=near)

    def _listed(self) -> str:
        listed = ", ".join(quoted(text) for text in islice(self.texts, limits.MAX_LISTED))
        more = len(self.texts) - limits.MAX_LISTED
        return f"{listed} and {more} more" if more > 0 else listed


def _names(root: Node, *path: str) -> Iterator[Named]:
    for where, item in items(root, *path):
        name = child(item, "name")
        if isinstance(name, Scalar) and text_of(name) is not None:
            yield (*where, "name"), name


def _check_names(root: Node) -> Iterator[Named]:
    yield from _names(root, "checks")
    for where, workload in items(root, "workloads"):
        for path, name in _names(workload, "checks"):
            yield (*where, *path), name


def _twice(names: Iterable[Named], noun: str) -> Iterator[Finding]:
    lines: dict[str, int] = {}
    for path, name in sorted(names, key=lambda named: named[1].place):
        if name.text in lines:
            message = f"{noun} name {quoted(name.text)} is given twice, first in line"
            yield Finding(name.place, path, f"{message} {lines[name.text]}")
        else:
            lines[name.text] = name.place.line


def _unknown_instances(root: Node, known: _Known) -> Iterator[Finding]:
    for where, workload in items(root, "workloads"):
        name = child(workload, "instance")
        text = text_of(name)
        if isinstance(name, Scalar) and text and known.texts and text not in known.texts:
            yield known.unknown((*where, "instance"), name)


def _after(root: Node, room: str, known: _Known) -> Iterator[Finding]:
    noun = known.noun
    edges: dict[tuple[str, str], Named] = {}
    for where, item in items(root, room):
        own = text_of(child(item, "name"))
        for path, after in items(item, "after"):
            text = text_of(after)
            if not isinstance(after, Scalar) or text is None:
                continue
            here = (*where, *path)
            if text == own:
                yield Finding(after.place, here, f"{noun} {quoted(text)} cannot be after itself")
            elif text not in known.texts:
                yield known.unknown(here, after)
            elif own is not None:
                edges.setdefault((own, text), (here, after))
    yield from _cycles(edges, noun)


def _cycles(edges: dict[tuple[str, str], Named], noun: str) -> Iterator[Finding]:
    edges = dict(edges)
    for _ in range(_MOST_CYCLES):
        sorter: TopologicalSorter[str] = TopologicalSorter()
        for later, earlier in edges:
            sorter.add(later, earlier)
        try:
            sorter.prepare()
        except CycleError as error:
            # graphlib lists each name before the one that waits for it.
            ring: list[str] = list(reversed(error.args[1]))
            pairs = list(pairwise(ring))
            last = max(pairs, key=lambda pair: edges[pair][1].place)
            path, name = edges.pop(last)
            start = pairs.index(last)
            shown = [pair[0] for pair in (*pairs[start:], *pairs[:start])]
            circle = " -> ".join((*shown, shown[0]))
            yield Finding(name.place, path, f"{noun}s wait for one another: {circle}")
        else:
            return
