"""What the three forms of a report have in common, worked out once from report and plan."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from orchestrator.cli.next_command import complete
from orchestrator.cli.render.marks import changes_pool, resized
from orchestrator.cli.render.spans import count
from orchestrator.engine.report import Attempt, Blackout, StepReport, TransactionReport, blackout_of
from orchestrator.model.kinds import Kind
from orchestrator.model.outcomes import Outcome
from orchestrator.model.steps import Reversibility, Section, StepGraph

LONGEST_PAUSE = 10.0
"""Seconds without anything done that still belong to one episode."""


@dataclass(frozen=True)
class Bar:
    """One attempt as it is drawn; times in unix seconds."""

    start: float
    end: float
    look: str
    """done, failed, reverted, running, open (never came back), jump."""
    label: str


@dataclass(frozen=True)
class Row:
    """A step that was tried."""

    number: int
    step: StepReport
    pivot: bool
    commit: bool
    bars: list[Bar]

    @property
    def seconds(self) -> float:
        """Time spent on it, all attempts together."""
        return sum(b.end - b.start for b in self.bars)

    @property
    def tries(self) -> int:
        """How often it was tried; taking it back is no try."""
        return sum(a.kind == "perform" for a in self.step.attempts)


@dataclass(frozen=True)
class Carried:
    """A workload and how long it stood still."""

    name: str
    blackout: Blackout
    how: str
    """ "criu over kho"."""


@dataclass(frozen=True)
class View:
    report: TransactionReport
    graph: StepGraph
    host: str
    start: float
    end: float
    """Unix seconds; for one that has not ended: of its last event."""
    rows: list[Row]
    untried: list[StepReport] = field(default_factory=list)
    workloads: list[Carried] = field(default_factory=list)

    @property
    def episodes(self) -> list[tuple[float, float]]:
        """The stretches of time in which something was done. A transaction that waited for
        somebody, or was rolled back a week after its commit, has more than one."""
        bars = sorted((b.start, b.end) for row in self.rows for b in row.bars)
        if not bars:
            return [(self.start, self.end)]
        idle = max(LONGEST_PAUSE, sum(end - start for start, end in bars))
        found = [(min(self.start, bars[0][0]), bars[0][1])]
        for start, end in bars[1:]:
            if start - found[-1][1] > idle:
                found.append((start, end))
            else:
                found[-1] = (found[-1][0], max(found[-1][1], end))
        return found

    @property
    def worked(self) -> float:
        """Seconds of all episodes together."""
        return sum(end - start for start, end in self.episodes)

    @property
    def pivots(self) -> list[tuple[float, str]]:
        """When the host jumped, and where to."""
        return [(b.start, r.step.title) for r in self.rows if r.pivot for b in r.bars]

    @property
    def reverted(self) -> list[Row]:
        return [r for r in self.rows if any(b.look == "reverted" for b in r.bars)]

    @property
    def told(self) -> list[tuple[str, str]]:
        """What performed steps want people to know, and those that were undone: the step's title,
        and one line."""
        steps = [r.step for r in self.rows]
        found = [(s, s.result) for s in steps if s.state == "performed"]
        found += [(s, a.result) for s in steps for a in s.attempts if a.result]
        return [(s.title, line) for s, result in found for line in _told(result or {})]

    @property
    def failures(self) -> list[tuple[Row, Attempt]]:
        return [(r, a) for r in self.rows for a in r.step.attempts if a.error]

    @property
    def retries(self) -> int:
        return sum(a.number > 1 and a.kind == "perform" for r in self.rows for a in r.step.attempts)


def view_of(report: TransactionReport, graph: StepGraph) -> View:
    """Bars, rows and blackouts."""
    last = max([report.ended or 0.0, report.started, *(b.last for b in report.boots)])
    kinds = {s.id: s.reversibility for s in graph.steps}
    tried = [s for s in report.steps if s.attempts]
    rows = []
    for number, step in enumerate(sorted(tried, key=lambda s: s.started or 0.0), start=1):
        pivot = kinds.get(step.id) is Reversibility.PIVOT
        commit = kinds.get(step.id) is Reversibility.COMMIT
        rows.append(Row(number, step, pivot, commit, _bars(step, report, last, pivot=pivot)))
    return View(
        report=report,
        graph=graph,
        host=graph.host.hostname or "this host",
        start=report.started,
        end=last,
        rows=rows,
        untried=[s for s in report.steps if not s.attempts],
        workloads=carried(report, graph),
    )


_STOPS = {Kind.CHECKPOINT, Kind.TAKE_WORKLOAD, Kind.CARRY_WORKLOAD}
_STARTS = {Kind.RESTORE, Kind.BRING_WORKLOAD, Kind.CARRY_WORKLOAD}


def carried(report: TransactionReport, graph: StepGraph) -> list[Carried]:
    """Every workload that the plan checkpoints or restores, with its blackout."""
    stops: dict[str, set[str]] = {}
    starts: dict[str, set[str]] = {}
    how: dict[str, str] = {}
    for step in graph.steps:
        name = _workload(step.params)
        if name is None:
            continue
        if step.kind in _STOPS:
            stops.setdefault(name, set()).add(step.id)
        if step.kind in _STARTS:
            starts.setdefault(name, set()).add(step.id)
        if step.section is Section.FORWARD:
            how.setdefault(name, _how(step.params))
    return [
        Carried(
            name,
            blackout_of(report.steps, stops.get(name, ()), starts.get(name, ())),
            how.get(name, ""),
        )
        for name in sorted(stops.keys() | starts.keys())
    ]


def _told(result: dict[str, Any]) -> list[str]:
    """See `seams.Result`."""
    lines: list[str] = []
    for key in ("problems", "warnings", "text", "note", "notes"):
        value = result.get(key)
        lines += [value] if isinstance(value, str) else value if isinstance(value, list) else []
    return [str(line) for line in lines if line]


def _workload(params: dict[str, Any]) -> str | None:
    workload = params.get("workload")
    name = workload.get("name") if isinstance(workload, dict) else None
    return name if isinstance(name, str) else None


def _how(params: dict[str, Any]) -> str:
    migrate = params["workload"].get("migrate")
    method = migrate.get("method") if isinstance(migrate, dict) else None
    if method == "restart":
        return "stopped and started"
    return f"{method or '?'} over {params.get('channel', 'stream')}"


def _bars(step: StepReport, report: TransactionReport, last: float, *, pivot: bool) -> list[Bar]:
    """One bar for each attempt. One that never came back lasts until the next sign of life."""
    ends = [a.started for a in step.attempts[1:]] + [last]
    bars = []
    for attempt, following in zip(step.attempts, ends, strict=True):
        end = attempt.ended
        if end is None:
            later = [b.first for b in report.boots if b.first > attempt.started]
            end = max(attempt.started, min([*later, following]) if later else following)
        bars.append(Bar(attempt.started, end, _look(attempt, report, pivot=pivot), _label(attempt)))
    return bars


def _look(attempt: Attempt, report: TransactionReport, *, pivot: bool) -> str:
    if attempt.answer == "failed":
        return "failed"
    if attempt.kind == "revert":
        return "reverted"
    if pivot and attempt.answer in {"done", "present", "lost"}:
        return "jump"
    if attempt.answer in {"done", "present"}:
        return "done"
    if attempt.answer == "none" and report.outcome is None and not report.interrupted:
        return "running"
    return "open"


def _label(attempt: Attempt) -> str:
    verb = "undone" if attempt.kind == "revert" else "performed"
    what = {"done": verb, "failed": "failed", "none": "no answer"}.get(
        attempt.answer, f"found {attempt.answer}"
    )
    return what if attempt.number == 1 else f"attempt {attempt.number}: {what}"


OUTCOME_WORDS = {
    Outcome.COMMITTED: "committed",
    Outcome.ROLLED_BACK: "rolled back",
    Outcome.ROLLBACK_INCOMPLETE: "rollback incomplete",
    Outcome.UNKNOWN: "outcome unknown",
}


def outcome_word(report: TransactionReport) -> str:
    """ "committed", "rolled back", …; of one that has not ended: how it stands."""
    if report.outcome is not None:
        return OUTCOME_WORDS[report.outcome]
    if report.waiting:
        return "waiting for you"
    return "interrupted" if report.interrupted else "not ended"


def outcome_tone(report: TransactionReport) -> str:
    """good, back, bad or open: what colours are chosen by."""
    if report.outcome is Outcome.COMMITTED:
        return "good"
    if report.outcome is Outcome.ROLLED_BACK:
        return "back"
    return "open" if report.outcome is None else "bad"


def kernels(report: TransactionReport) -> list[str]:
    """The releases in the order in which they ran, each boot once."""
    releases = [b.release for b in report.boots]
    return releases[:1] + [b for a, b in pairwise(releases) if a != b]


def generations(view: View) -> str | None:
    """ "3 new generations (Linux 7.1.0-mk3) and 1 new size": what was made beside the host's own
    kernel; None: that kernel was to be replaced."""
    forward = view.graph.section(Section.FORWARD)
    loads = [s for s in forward if s.kind == Kind.LOAD_INSTANCE]
    sizes = resized(forward)
    parts = []
    if loads:
        releases = ", ".join(sorted({str(s.params["release"]) for s in loads}))
        parts.append(f"{count(len(loads), 'new generation')} (Linux {releases})")
    if sizes:
        parts.append(count(len(sizes), "new size"))
    if changes_pool(forward):
        parts.append("a new pool")
    return " and ".join(parts) or None


def missed(view: View) -> str | None:
    """The release that the plan wanted, if it never ran; of the host's own kernel."""
    if generations(view) is not None:
        return None
    spec = view.graph.spec
    wanted = spec.instances[0].kernel.release if spec else None
    return wanted if wanted not in kernels(view.report) else None


def report_json(view: View) -> dict[str, Any]:
    """The form of --json: the engine's report, and the blackout of each workload."""
    command = view.report.next_command
    workloads = {
        w.name: {
            "how": w.how,
            "blackout_seconds": round(w.blackout.seconds, 6),
            "windows": [window.model_dump() for window in w.blackout.windows],
        }
        for w in view.workloads
    }
    return {
        **view.report.model_dump(mode="json"),
        "next_command": command and complete(command),
        "seconds": view.report.seconds,
        "kernels": kernels(view.report),
        "workloads": workloads,
    }
