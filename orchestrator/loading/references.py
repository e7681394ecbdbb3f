"""Names that point to one another: unknown, double, circular. Looked for in the tree, so that
every problem has a place, also in a document that has other problems."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise

from orchestrator.loading.findings import Finding
from orchestrator.loading.nodes import Node, Scalar, child, items, text_of
from orchestrator.loading.problems import Path, nearest, quoted

_MOST_CYCLES = 10

Named = tuple[Path, Scalar]
"""Where a name stands, and the name."""


def check_references(root: Node) -> list[Finding]:
    """Everything that is wrong between the parts of the document."""
    instances, workloads = list(_names(root, "instances")), list(_names(root, "workloads"))
    found: list[Finding] = []
    found += _twice(instances, "instance")
    found += _twice(workloads, "workload")
    found += _twice(_check_names(root), "check")
    found += _twice([*_names(root, "hooks", "before"), *_names(root, "hooks", "after")], "hook")
    found += _unknown_instances(root, instances)
    found += _after(root, "instances", instances, "instance")
    found += _after(root, "workloads", workloads, "workload")
    return found


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


def _unknown_instances(root: Node, instances: list[Named]) -> Iterator[Finding]:
    known = [name.text for _, name in instances]
    for where, workload in items(root, "workloads"):
        name = child(workload, "instance")
        text = text_of(name)
        if isinstance(name, Scalar) and text and known and text not in known:
            yield _unknown((*where, "instance"), name, known, "instance")


def _unknown(path: Path, name: Scalar, known: Iterable[str], noun: str) -> Finding:
    known = list(known)
    near = nearest(name.text, known)
    listed = "" if near else f"; known here: {', '.join(quoted(k) for k in known) or 'none'}"
    return Finding(name.place, path, f"unknown {noun} {quoted(name.text)}{listed}", nearest=near)


def _after(root: Node, room: str, names: list[Named], noun: str) -> Iterator[Finding]:
    known = {name.text for _, name in names}
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
            elif text not in known:
                yield _unknown(here, after, sorted(known), noun)
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
