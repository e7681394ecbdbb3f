"""Where the steps of one section stand in a picture: layers from top to bottom.

Layers come from `topological_generations`; wires that pass a layer get a place in it, so that
they run between boxes and not through them; a few barycentre sweeps take out most crossings
(Sugiyama's method). Wide layers are folded: many workloads of one kind are one picture.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise

import networkx as nx

from orchestrator.model.steps import Step, StepGraph

BOX_WIDTH, BOX_HEIGHT = 276.0, 44.0
PASS_WIDTH = 26.0
"""Room for a wire that passes a layer."""
GAP_X, GAP_Y = 18.0, 30.0
WIDEST = 5
"""Boxes of one kind in one layer before they are folded."""
_SWEEPS = 4

Point = tuple[float, float]


@dataclass
class Box:
    """A step, several folded ones, or (without a step) the place where a wire passes."""

    step: Step | None
    folded: int = 0
    """How many further steps it stands for; 0: only itself."""
    x: float = 0.0
    """Of its middle."""
    y: float = 0.0
    """Of its top."""

    @property
    def width(self) -> float:
        return PASS_WIDTH if self.step is None else BOX_WIDTH

    @property
    def left(self) -> float:
        return self.x - self.width / 2


@dataclass
class Layout:
    """Boxes in place, and wires as lists of points from top to bottom."""

    boxes: list[Box] = field(default_factory=list)
    wires: list[list[Point]] = field(default_factory=list)
    width: float = 0.0
    height: float = 0.0


def lay_out(steps: list[Step], edges: Iterable[tuple[str, str]]) -> Layout:
    """Place one section; (0, 0) is the top left corner."""
    layers, boxes, pairs = _fold(steps, edges)
    rows = [[boxes[node] for node in layer] for layer in layers]
    level = {id(box): n for n, row in enumerate(rows) for box in row}
    chains = [_chain(boxes[a], boxes[b], level, rows) for a, b in pairs]
    _untangle(rows, chains)
    return _place(rows, chains)


def _fold(
    steps: list[Step], edges: Iterable[tuple[str, str]]
) -> tuple[list[list[str]], dict[str, Box], list[tuple[str, str]]]:
    """Layers of ids, a box for each, and the edges between them.

    Of many steps of one kind in one layer the first ones stay, and one box stands for the rest.
    """
    dag: nx.DiGraph[str] = nx.DiGraph()
    dag.add_nodes_from(s.id for s in steps)
    dag.add_edges_from((a, b) for a, b in edges if a in dag and b in dag)
    by_id = {s.id: s for s in steps}
    order = {s.id: n for n, s in enumerate(steps)}
    boxes: dict[str, Box] = {}
    stands_for: dict[str, str] = {}
    layers = []
    for generation in nx.topological_generations(dag):
        kinds: dict[str, list[str]] = {}
        for node in sorted(generation, key=order.__getitem__):
            kinds.setdefault(by_id[node].kind, []).append(node)
        layer = []
        for nodes in kinds.values():
            shown = nodes if len(nodes) <= WIDEST else nodes[: WIDEST - 1]
            rest = nodes[len(shown) :]
            layer += shown + rest[:1]
            boxes |= {node: Box(by_id[node]) for node in shown}
            stands_for |= {node: node for node in shown} | dict.fromkeys(rest, (rest or [""])[0])
            if rest:
                boxes[rest[0]] = Box(by_id[rest[0]], folded=len(rest))
        layers.append(layer)
    pairs = dict.fromkeys((stands_for[a], stands_for[b]) for a, b in dag.edges)
    return layers, boxes, list(pairs)


def _chain(start: Box, end: Box, level: dict[int, int], rows: list[list[Box]]) -> list[Box]:
    """The boxes that a wire goes through, with a new one in each layer that it passes."""
    passing = []
    for n in range(level[id(start)] + 1, level[id(end)]):
        box = Box(None)
        rows[n].append(box)
        passing.append(box)
    return [start, *passing, end]


def _untangle(rows: list[list[Box]], chains: list[list[Box]]) -> None:
    """Sort every row by the middle of its neighbours above, then below, a few times."""
    above: dict[int, list[Box]] = {}
    below: dict[int, list[Box]] = {}
    for chain in chains:
        for upper, lower in pairwise(chain):
            above.setdefault(id(lower), []).append(upper)
            below.setdefault(id(upper), []).append(lower)
    for sweep in range(_SWEEPS):
        downwards = sweep % 2 == 0
        neighbours = above if downwards else below
        for row in rows if downwards else reversed(rows):
            at = {id(box): _middle(n, len(row)) for n, box in enumerate(row)}
            for box in row:
                near = [other.x for other in neighbours.get(id(box), [])]
                box.x = sum(near) / len(near) if near else at[id(box)]
            row.sort(key=lambda box: box.x)
            for n, box in enumerate(row):
                box.x = _middle(n, len(row))


def _middle(position: int, count: int) -> float:
    return position - (count - 1) / 2


def _place(rows: list[list[Box]], chains: list[list[Box]]) -> Layout:
    widths = [sum(b.width for b in row) + GAP_X * (len(row) - 1) for row in rows]
    layout = Layout(width=max(widths, default=0.0))
    y = 0.0
    for row, width in zip(rows, widths, strict=True):
        x = (layout.width - width) / 2
        for box in row:
            box.x, box.y = x + box.width / 2, y
            x += box.width + GAP_X
        y += BOX_HEIGHT + GAP_Y
        layout.boxes += row
    layout.height = max(0.0, y - GAP_Y)
    layout.wires = [_points(chain) for chain in chains]
    return layout


def _points(chain: list[Box]) -> list[Point]:
    first, *passing, last = chain
    points = [(first.x, first.y + BOX_HEIGHT)]
    for box in passing:
        points += [(box.x, box.y), (box.x, box.y + BOX_HEIGHT)]
    return [*points, (last.x, last.y)]


def sections_of(graph: StepGraph) -> dict[str, Layout]:
    """A layout per section that has steps, by the section's name."""
    found: dict[str, Layout] = {}
    for step in graph.steps:
        found.setdefault(step.section.value, Layout())
    for name in found:
        steps = [s for s in graph.steps if s.section.value == name]
        found[name] = lay_out(steps, graph.edges)
    return found
