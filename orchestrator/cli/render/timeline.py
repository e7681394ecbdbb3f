"""The timeline of a transaction as HTML and CSS: kernels, workloads and steps over one axis."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.cli.render.markup import Safe, join, tag
from orchestrator.cli.render.spans import clock, moment, span
from orchestrator.cli.render.view import Carried, Row, View

MOST_ROWS = 400
"""Steps that are drawn; the table below has all."""
CLOSE_UP = 0.6
"""A blackout shorter than this part of the whole gets a picture of its own."""


@dataclass(frozen=True)
class Axis:
    """A stretch of time, unix seconds, on 0 to 100 percent."""

    start: float
    end: float

    @property
    def length(self) -> float:
        return max(self.end - self.start, 1e-6)

    def at(self, time: float) -> float:
        return min(max((time - self.start) / self.length, 0.0), 1.0) * 100

    def shows(self, start: float, end: float) -> bool:
        return end >= self.start and start <= self.end

    def ticks(self, most: int = 8) -> list[float]:
        """Seconds since the start, round numbers, at most `most` of them."""
        step = 0.001
        while self.length / step > most:
            first = f"{step:e}"[0]
            step *= 2.5 if first == "2" else 2
        return [n * step for n in range(int(self.length / step) + 1)]


@dataclass(frozen=True)
class Line:
    """One row of the picture: what, its track over the axis, and a number."""

    label: str
    track: Safe
    right: str
    kind: str
    note: str | None = None

    def placed(self, number: int) -> Safe:
        row = f"grid-row:{number}"
        return join(
            tag("div", self.label, class_=f"label {self.kind}", title=self.note, style=row),
            tag("div", self.track, class_=f"track {self.kind}", style=row),
            tag("div", self.right, class_=f"right {self.kind}", style=row),
        )


def timelines(view: View) -> Safe:
    """Each episode of the transaction, and its blackout close up where it would be lost."""
    pictures = []
    many = len(view.episodes) > 1
    for start, end in view.episodes:
        whole = Axis(start, end)
        title = f"{moment(start)}, {span(end - start)}" if many else "The whole transaction"
        pictures.append(_picture(view, whole, title))
        window = _blackout(view, whole)
        if window and window.length < whole.length * CLOSE_UP:
            margin = window.length * 0.06
            close = Axis(max(window.start - margin, start), min(window.end + margin, end))
            pictures.append(_picture(view, close, f"Close up: blackout, {span(window.length)}"))
    return join(*pictures)


def _blackout(view: View, axis: Axis) -> Axis | None:
    """From the first workload that stands still in this stretch to the last."""
    windows = [
        (w.since, w.until or view.end)
        for workload in view.workloads
        for w in workload.blackout.windows
        if axis.shows(w.since, w.until or view.end)
    ]
    if not windows:
        return None
    return Axis(min(start for start, _ in windows), max(end for _, end in windows))


def _picture(view: View, axis: Axis, title: str) -> Safe:
    rows = [r for r in view.rows if any(axis.shows(b.start, b.end) for b in r.bars)]
    lines = [
        Line("", _ticks(axis), "", "axis"),
        Line("Linux", _kernels(view, axis), "", "band"),
        *(_workload(view, axis, w) for w in view.workloads),
        *(_step(row, axis) for row in rows[:MOST_ROWS]),
    ]
    left = len(rows) - MOST_ROWS
    placed = [line.placed(number) for number, line in enumerate(lines, start=1)]
    return tag(
        "section",
        tag("h2", title),
        tag("div", _behind(view, axis, len(lines)), *placed, class_="gantt"),
        tag("p", f"{left} further steps are in the table below.", class_="mute")
        if left > 0
        else None,
    )


def _behind(view: View, axis: Axis, lines: int) -> Safe:
    """Grid lines, blackouts and pivots, behind all rows."""
    marks = [tag("i", class_="tick", style=f"left:{_pc(axis.at(axis.start + t))}")
             for t in axis.ticks()]  # fmt: skip
    for workload in view.workloads:
        for w in workload.blackout.windows:
            end = w.until or view.end
            if axis.shows(w.since, end):
                marks.append(tag("i", class_="dark", style=_place(axis, w.since, end)))
    for time, title in view.pivots:
        if axis.shows(time, time):
            style = f"left:{_pc(axis.at(time))}"
            marks.append(tag("i", class_="pivot", style=style, title=title))
    return tag("div", *marks, class_="behind", style=f"grid-row:1/span {lines}")


def _ticks(axis: Axis) -> Safe:
    labels = [
        tag("span", clock(axis.start) if t == 0 else f"+{_short(t)}",
            style=f"left:{_pc(axis.at(axis.start + t))}")
        for t in axis.ticks()
    ]  # fmt: skip
    return join(*labels)


def _kernels(view: View, axis: Axis) -> Safe:
    boots = view.report.boots
    first = boots[0].release if boots else ""
    bars = []
    for boot in boots:
        if axis.shows(boot.first, boot.last):
            look = "old" if boot.release == first else "new"
            about = f"Linux {boot.release}, boot {boot.boot_id}"
            style = _place(axis, boot.first, boot.last)
            bars.append(tag("b", tag("span", boot.release), class_=look, style=style, title=about))
    return join(*bars)


def _workload(view: View, axis: Axis, workload: Carried) -> Line:
    bars = [tag("b", class_="runs", style="left:0;width:100%")]
    dark = 0.0
    for w in workload.blackout.windows:
        end = w.until or view.end
        if axis.shows(w.since, end):
            length = span(end - w.since)
            dark += min(end, axis.end) - max(w.since, axis.start)
            about = f"{workload.name} stood still for {length}"
            bars.append(tag("b", class_="still", style=_place(axis, w.since, end), title=about))
    return Line(workload.name, join(*bars), span(dark), "band", workload.how or None)


def _step(row: Row, axis: Axis) -> Line:
    bars = []
    for bar in row.bars:
        if axis.shows(bar.start, bar.end):
            about = f"{row.step.title}: {bar.label}, {span(bar.end - bar.start)}"
            bars.append(
                tag("b", class_=bar.look, style=_place(axis, bar.start, bar.end), title=about)
            )
    kind = "step pivotal" if row.pivot else "step commits" if row.commit else "step"
    return Line(row.step.title, join(*bars), span(row.seconds), kind, row.step.id)


def _place(axis: Axis, start: float, end: float) -> str:
    left, right = axis.at(start), axis.at(end)
    return f"left:{_pc(left)};width:{_pc(right - left)}"


def _pc(value: float) -> str:
    return f"{value:.3f}%"


def _short(seconds: float) -> str:
    return span(seconds).replace(" 00 s", "").replace(" 00 min", "")
