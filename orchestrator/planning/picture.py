"""The step graph as one self-contained picture (SVG), without graphviz.

Three bands: `forward` on the left, with the pivot where the old kernel's ground gives way to the
new one's; `return` and `recover` on the right, at the height of the pivot, because that is where
they begin. Above them what the plan is about.
"""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.model.steps import Reversibility, Section, Step, StepGraph
from orchestrator.planning.layout import BOX_HEIGHT, BOX_WIDTH, Box, Layout, sections_of
from orchestrator.planning.schedule import expected_blackout
from orchestrator.planning.svg import Svg, cut

MARGIN, PAD, HEAD = 36.0, 26.0, 40.0
BETWEEN = 136.0
TOP = 112.0
_NARROWEST = BOX_WIDTH + 2 * PAD + 40
_TITLES = {
    Section.FORWARD: ("forward", "to the new kernel and commit"),
    Section.RETURN: ("return", "the new kernel works, the upgrade does not"),
    Section.RECOVER: ("recover", "in the old kernel, however it got there"),
}


@dataclass
class Band:
    """A section with its place on the page."""

    section: Section
    layout: Layout
    x: float
    y: float

    @property
    def width(self) -> float:
        return max(self.layout.width + 2 * PAD, _NARROWEST)

    @property
    def height(self) -> float:
        return self.layout.height + HEAD + 2 * PAD

    @property
    def right(self) -> float:
        return self.x + self.width

    @property
    def bottom(self) -> float:
        return self.y + self.height

    @property
    def origin(self) -> tuple[float, float]:
        """Of the layout's corner."""
        return self.x + (self.width - self.layout.width) / 2, self.y + HEAD + PAD

    def pivot(self) -> Box | None:
        for box in self.layout.boxes:
            if box.step and box.step.reversibility is Reversibility.PIVOT:
                return box
        return None

    def pivot_middle(self) -> float | None:
        """Height of the pivot on the page."""
        box = self.pivot()
        return None if box is None else self.origin[1] + box.y + BOX_HEIGHT / 2


def to_svg(graph: StepGraph) -> str:
    """The plan as a picture; an empty one as a page that says so."""
    bands = _arrange(sections_of(graph))
    width = max([b.right for b in bands.values()] + [760.0]) + MARGIN
    height = max([b.bottom for b in bands.values()] + [TOP + 60]) + 64
    svg = Svg(width, height, title=f"Plan {graph.name}")
    _headline(svg, graph)
    if graph.is_empty:
        svg.text(MARGIN, TOP + 30, graph.notes[0] if graph.notes else "nothing to do", "line")
        return svg.finish()
    for band in bands.values():
        _band(svg, band, graph)
    _ways(svg, bands)
    _about(svg, bands, graph)
    _legend(svg, height - 34)
    return svg.finish()


def _arrange(layouts: dict[str, Layout]) -> dict[Section, Band]:
    bands: dict[Section, Band] = {}
    x, y = MARGIN, TOP
    for section in Section:
        layout = layouts.get(section.value)
        if layout is None:
            continue
        band = bands[section] = Band(section, layout, x, y)
        x = band.right + BETWEEN
        if section is Section.FORWARD:
            middle = band.pivot_middle()
            y = max(TOP, middle - HEAD / 2) if middle is not None else TOP
    return bands


def _headline(svg: Svg, graph: StepGraph) -> None:
    svg.text(MARGIN, 48, graph.name, "headline")
    facts = [f"driver {graph.driver}", f"host {graph.host.hostname}"]
    if not graph.is_empty:
        facts.append(f"expected blackout {expected_blackout(graph):.1f} s")
        facts.append(f"{len(graph.steps)} steps")
    facts.append(f"plan {graph.digest()[:12]}")
    svg.text(MARGIN, 74, "  ·  ".join(facts), "facts")


def _band(svg: Svg, band: Band, graph: StepGraph) -> None:
    _ground(svg, band, graph)
    name, what = _TITLES[band.section]
    svg.text(band.x + 18, band.y + 25, name, "band")
    svg.text(band.x + 26 + 9.2 * len(name), band.y + 25, cut(what, band.width - 110, 6.2), "facts")
    dx, dy = band.origin
    for wire in band.layout.wires:
        svg.wire([(x + dx, y + dy) for x, y in wire])
    for box in band.layout.boxes:
        if box.step is not None:
            _box(svg, box, box.step, dx, dy)


def _ground(svg: Svg, band: Band, graph: StepGraph) -> None:
    """The old kernel's ground, the new one's, and the line between them."""
    old, new = _releases(graph)
    middle = band.pivot_middle()
    first, second = ("new", "old") if band.section is Section.RETURN else ("old", "new")
    svg.rect(band.x, band.y, band.width, band.height, f"ground {first}", radius=14)
    names = {"old": f"Linux {old}", "new": f"Linux {new}"}
    end = band.bottom if middle is None else middle
    svg.upright(band.right - 12, (band.y + HEAD + end) / 2, names[first])
    if middle is None:
        return
    svg.lower_part(band.x, middle, band.width, band.bottom - middle, f"ground {second}", radius=14)
    svg.line(band.x, middle, band.right, middle, "border")
    if band.bottom - middle > 120:
        svg.upright(band.right - 12, (middle + band.bottom) / 2, names[second])


def _box(svg: Svg, box: Box, step: Step, dx: float, dy: float) -> None:
    look = step.reversibility.value
    x, y = box.left + dx, box.y + dy
    room = BOX_WIDTH - 26
    if box.folded:
        svg.rect(x + 5, y + 5, BOX_WIDTH, BOX_HEIGHT, f"box {look}", radius=8)
        svg.rect(x, y, BOX_WIDTH, BOX_HEIGHT, f"box {look}", radius=8)
        title, below = f"… and {box.folded:,} more", f"{step.kind}"
        tip = f"{step.title}, and so on"
    else:
        svg.rect(x, y, BOX_WIDTH, BOX_HEIGHT, f"box {look}", radius=8, tip=_tip(step))
        title, below = step.title, f"{_about_of(step)}  ·  {_time(step.estimate)}"
        tip = step.title
    if step.blackout and look == Reversibility.REVERSIBLE.value:
        svg.rect(x + 5, y + 8, 4, BOX_HEIGHT - 16, "dark", radius=2)
    svg.text(x + 16, y + 19, cut(title, room, 7.2), f"title {look}", tip=tip)
    svg.text(x + 16, y + 34, cut(below, room, 6.4), f"sub {look}")


def _ways(svg: Svg, bands: dict[Section, Band]) -> None:
    """How one gets from section to section."""
    forward, back, recover = (bands.get(s) for s in Section)
    if forward is None or (middle := forward.pivot_middle()) is None:
        return
    pivot = forward.pivot()
    edge = (forward.origin[0] + pivot.x + BOX_WIDTH / 2) if pivot else forward.right
    if back is not None:
        svg.way([(edge, middle), (back.x, middle)])
        svg.text(forward.right + 10, middle + 17, "if it fails later", "way")
    if recover is not None and back is not None:
        above, turn = back.y - 22, forward.right + 30
        land = recover.x + recover.width / 2
        svg.way([(turn, middle), (turn, above), (land, above), (land, recover.y)])
        svg.text(turn + 10, above - 7, "if the new kernel does not come up", "way")
        if (end := back.pivot_middle()) is not None:
            start = back.pivot()
            out = (back.origin[0] + start.x + BOX_WIDTH / 2) if start else back.right
            gap, door = back.right + BETWEEN / 2, recover.y + HEAD / 2
            svg.way([(out, end), (gap, end), (gap, door), (recover.x, door)])


def _about(svg: Svg, bands: dict[Section, Band], graph: StepGraph) -> None:
    """What changes, what is kept, and why, in the free space above the way back."""
    forward, back = bands[Section.FORWARD], bands.get(Section.RETURN)
    if back is None:
        return
    x, y, end = forward.right + BETWEEN, TOP + 16, back.y - 58
    room = max(b.right for b in bands.values()) - x
    parts = (
        ("What changes", graph.changes),
        ("What is kept", graph.keeps),
        ("Why it is planned so", graph.notes),
    )
    for head, lines in parts:
        if not lines or y + 44 > end:
            continue
        svg.text(x, y, head, "band")
        y += 22
        shown = max(1, min(len(lines), int((end - y) // 20) - 1, 6))
        for line in lines[:shown]:
            svg.text(x, y, cut(line, room, 7.0), "line", tip=line)
            y += 20
        if len(lines) > shown:
            svg.text(x, y, f"… and {len(lines) - shown:,} more", "facts")
            y += 20
        y += 16


def _legend(svg: Svg, y: float) -> None:
    x = MARGIN
    for look, text in (
        ("reversible", "can be reverted"),
        ("dark", "workloads stand still"),
        ("pivot", "pivot: from here on the way back is a section"),
        ("commit", "commit"),
    ):
        if look == "dark":
            svg.rect(x + 8, y - 11, 4, 14, "dark", radius=2)
        else:
            svg.rect(x, y - 11, 20, 14, f"box {look}", radius=4)
        svg.text(x + 28, y, text, "facts")
        x += 62 + 6.4 * len(text)


def _releases(graph: StepGraph) -> tuple[str, str]:
    for step in graph.section(Section.FORWARD):
        if step.reversibility is Reversibility.PIVOT:
            old, new = (str(step.params.get(f"{end}_release", "?")) for end in ("from", "to"))
            return old, new
    return graph.host.kernel.release, "?"


def _about_of(step: Step) -> str:
    return step.id.split(".", 1)[1] if step.section is not Section.FORWARD else step.id


def _time(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def _tip(step: Step) -> str:
    needs = ", ".join(step.requires) or "nothing"
    return f"{step.id}: {step.title}. Requires {needs}. At most {step.deadline:g} s per attempt."
