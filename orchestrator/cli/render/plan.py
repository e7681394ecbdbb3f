"""A step graph as people read it: what changes, in which order, and how long it will hurt."""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any

from orchestrator.cli.render.marks import ALL, changes_pool, mark_of, resized
from orchestrator.cli.render.spans import count, span
from orchestrator.cli.render.text import text
from orchestrator.cli.terminal import speaks_unicode
from orchestrator.model.kinds import Kind
from orchestrator.model.steps import Reversibility, Section, Step, StepGraph

if TYPE_CHECKING:
    from rich.console import Console

WIDEST_TITLE = 68


def summary(graph: StepGraph) -> dict[str, Any]:
    """The numbers of the last line, for --json and for tests."""
    from orchestrator.planning import expected_blackout

    forward = graph.section(Section.FORWARD)
    restores = [s for s in forward if s.kind == Kind.RESTORE]
    moved = [s for s in forward if s.kind in {Kind.MOVE_WORKLOAD, Kind.START_WORKLOAD}]
    carried = [s for s in forward if s.kind in {Kind.CARRY_WORKLOAD, Kind.BRING_WORKLOAD}]
    return {
        "instances": sum(s.kind == Kind.LOAD_INSTANCE for s in forward),
        "instances_resized": len(resized(forward)),
        "pool_changed": changes_pool(forward),
        "workloads_moved": len({s.params["workload"] for s in moved}),
        "kernels": len({s.params.get("instance") for s in forward if s.kind == Kind.LOAD_KERNEL}),
        "workloads_carried": sum(not _restarts(s) for s in restores) + len(carried),
        "workloads_restarted": sum(_restarts(s) for s in restores),
        "steps": len(forward),
        "expected_blackout_seconds": round(expected_blackout(graph), 3),
    }


def last_line(graph: StepGraph) -> str:
    """ "Plan: 1 kernel to change, 2 workloads to carry over, 17 steps; …", "Plan: 3 instances to
    change, 1 workload to move, 21 steps; …" or "No changes. …"."""
    if graph.is_empty:
        return f"No changes. {_host(graph)} is as {graph.name} wants it."
    numbers = summary(graph)
    parts = []
    beside = numbers["instances"] or numbers["instances_resized"] or numbers["pool_changed"]
    if numbers["kernels"] or not beside:
        parts += [
            f"{count(numbers['kernels'], 'kernel')} to change",
            f"{count(numbers['workloads_carried'], 'workload')} to carry over",
        ]
    if numbers["workloads_restarted"]:
        parts.append(f"{numbers['workloads_restarted']} to restart")
    if numbers["instances"]:
        parts.append(f"{count(numbers['instances'], 'instance')} to change")
    if numbers["instances_resized"]:
        parts.append(f"{count(numbers['instances_resized'], 'instance')} to resize")
    if numbers["pool_changed"]:
        parts.append("the pool to resize")
    if beside and numbers["workloads_carried"]:
        parts.append(f"{count(numbers['workloads_carried'], 'workload')} to carry")
    if numbers["workloads_moved"]:
        parts.append(f"{count(numbers['workloads_moved'], 'workload')} to move")
    parts.append(count(numbers["steps"], "step"))
    blackout = span(numbers["expected_blackout_seconds"])
    return f"Plan: {', '.join(parts)}; expected blackout {blackout}."


def _restarts(restore: Step) -> bool:
    """Is the workload started anew, without its state?"""
    workload = restore.params.get("workload")
    migrate = workload.get("migrate") if isinstance(workload, dict) else None
    return isinstance(migrate, dict) and migrate.get("method") == "restart"


def show_plan(out: Console, graph: StepGraph, *, full: bool = False) -> None:
    """Print the plan; `full` unfolds the sections of the way back."""
    if not graph.is_empty:
        _Page(out, graph, full=full).show()
    elif graph.notes:
        for note in graph.notes:
            out.print(text(("  ", ""), note))
    out.print(text((last_line(graph), "bold")))


def _host(graph: StepGraph) -> str:
    return graph.host.hostname or "this host"


class _Page:
    def __init__(self, out: Console, graph: StepGraph, *, full: bool) -> None:
        self.out = out
        self.graph = graph
        self.full = full
        self.unicode = speaks_unicode(out.file)  # type: ignore[arg-type]
        widest = max((len(s.title) for s in graph.steps), default=0)
        self.width = min(widest, WIDEST_TITLE)

    def show(self) -> None:
        g = self.graph
        self.line(
            "mkupgrade will carry out ", (g.name, "bold"), " on ", (_host(g), "bold"),
            f" (driver {g.driver}). Steps are marked with:",
        )  # fmt: skip
        self.legend()
        self.paragraphs("What changes", "~", "yellow", g.changes)
        self.paragraphs("What is kept", "=", "green", g.keeps)
        self.heading("Steps, in order, with their expected time")
        self.steps(Section.FORWARD)
        self.way_back()
        self.paragraphs("Notes", "-", "dim", g.notes)
        self.line()

    def legend(self) -> None:
        used = {mark_of(s) for s in self.graph.steps}
        for mark in (m for m in ALL if m in used):
            self.line("  ", (self.sign(mark), mark.style), f" {mark.meaning}")
        if any(s.blackout for s in self.graph.steps):
            self.line("  ", (self.bar, "red"), " workloads stand still")

    def sign(self, mark: Any) -> str:
        return str(mark.sign if self.unicode else mark.plain)

    @property
    def bar(self) -> str:
        return "▎" if self.unicode else "|"

    def steps(self, section: Section) -> None:
        for number, step in enumerate(in_order(self.graph, section), start=1):
            mark = mark_of(step)
            style = mark.style if mark.style.startswith("bold") else ""
            self.line(
                f"  {number:>3} ",
                (self.sign(mark), mark.style),
                (f" {self.bar}" if step.blackout else "  ", "red"),
                (f"{step.title:<{self.width}}", style),
                (f"  {span(step.estimate):>10}", "dim"),
            )

    def way_back(self) -> None:
        if self.full:
            for section in (Section.RETURN, Section.RECOVER):
                if self.graph.section(section):
                    self.heading(_SECTION_TITLES[section])
                    self.steps(section)
            return
        self.heading("Way back, if something fails (--full shows the steps)")
        pivots = any(s.reversibility is Reversibility.PIVOT for s in self.graph.steps)
        by_itself = pivots and self.graph.automatic_rollback
        automatic = "" if by_itself else " (on mkupgrade rollback)"
        until = "pivot" if pivots else "commit"
        self.item("-", "dim", f"before the {until}: what was done is undone, last step first")
        for section in (Section.RETURN, Section.RECOVER):
            steps = in_order(self.graph, section)
            if steps:
                total = span(sum(s.estimate for s in steps))
                titles = " → " if self.unicode else " -> "
                chain = titles.join(s.title for s in steps)
                when = automatic if section is Section.RETURN else ""
                self.item(
                    "-", "dim",
                    f"{section.value}{when}: {count(len(steps), 'step')}, {total}: {chain}",
                )  # fmt: skip

    def paragraphs(self, title: str, sign: str, style: str, lines: list[str]) -> None:
        if lines:
            self.heading(title)
            for line in lines:
                self.item(sign, style, line)

    def heading(self, title: str) -> None:
        self.line()
        self.line((title, "bold"))

    def item(self, sign: str, style: str, line: str) -> None:
        """One bullet; on a terminal, further lines hang under the first."""
        if self.out.soft_wrap:
            self.line("  ", (sign, style), " ", line)
            return
        room = max(self.out.width - 4, 20)
        for number, part in enumerate(text(line).wrap(self.out, room)):
            part.rstrip()
            head = text("  ", (sign, style), " ") if number == 0 else text("    ")
            self.out.print(head.append_text(part))

    def line(self, *parts: Any) -> None:
        self.out.print(text(*parts))


_SECTION_TITLES = {
    Section.RETURN: "Section return: from the new kernel back to the old one",
    Section.RECOVER: "Section recover: in the old kernel again",
}


def in_order(graph: StepGraph, section: Section) -> list[Step]:
    """The steps of a section in an order that they can run in; ties as the plan has them."""
    steps = graph.section(section)
    place = {s.id: n for n, s in enumerate(steps)}
    waits = [0] * len(steps)
    later: list[list[int]] = [[] for _ in steps]
    for a, b in graph.edges:
        if a in place and b in place:
            later[place[a]].append(place[b])
            waits[place[b]] += 1
    ready = [n for n, count in enumerate(waits) if not count]  # a heap: it is sorted
    order = []
    while ready:
        n = heappop(ready)
        order.append(steps[n])
        for follower in later[n]:
            waits[follower] -= 1
            if not waits[follower]:
                heappush(ready, follower)
    # Less than all: a plan from elsewhere with a ring in it; the engine refuses it.
    return order if len(order) == len(steps) else steps
