"""One line for each event that people want to read while a transaction runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from orchestrator.cli.render.spans import span
from orchestrator.engine import events
from orchestrator.engine.events import Envelope
from orchestrator.model.outcomes import Outcome
from orchestrator.model.steps import Inspection, Reversibility, Step, StepGraph

LONG = 5.0
"""Seconds: a step expected to take longer is announced when it starts."""


@dataclass(frozen=True)
class Line:
    """A sign, its style, a text and a note behind it."""

    sign: str
    style: str
    text: str
    note: str = ""
    bold: bool = False


class Narrator:
    """From events to lines; remembers nothing but the plan."""

    def __init__(self, graph: StepGraph) -> None:
        self.steps = {s.id: s for s in graph.steps}

    def step(self, step_id: str) -> Step | None:
        return self.steps.get(step_id)

    def line(self, envelope: Envelope, *, announce: bool) -> Line | None:
        """The line of an event, if it deserves one.

        Args:
            announce: also say when a long step starts; where a live display shows what runs,
                it need not be said.
        """
        event = envelope.event
        if isinstance(event, events.StepIntended):
            return self._started(event, announce=announce)
        teller = _OF_STEPS.get(event.type)
        if teller is not None:
            return teller(self, event)
        told = _OF_TRANSACTIONS.get(event.type)
        return told(event, envelope) if told is not None else None

    def _started(self, event: events.StepIntended, *, announce: bool) -> Line | None:
        step = self.step(event.step)
        if step is None:
            return None
        if step.reversibility is Reversibility.PIVOT:
            # Behind it nobody may be left to say so.
            return Line("»", "bold magenta", step.title, "pivot")
        if announce and step.estimate > LONG:
            return Line("…", "dim", step.title, f"about {span(step.estimate)}")
        return None

    def _performed(self, event: events.StepPerformed) -> Line:
        return Line("✓", "green", self._title(event.step), span(event.seconds))

    def _failed(self, event: events.StepFailed) -> Line:
        what = f"{self._title(event.step)}: {_what(event.error)}"
        return Line("✗", "bold red", what, f"attempt {event.attempt}")

    def _reverted(self, event: events.StepReverted) -> Line:
        return Line("↩", "yellow", f"undone: {self._title(event.step)}", span(event.seconds))

    def _revert_failed(self, event: events.RevertFailed) -> Line:
        what = f"could not be undone: {self._title(event.step)}: {_what(event.error)}"
        return Line("✗", "bold red", what, f"attempt {event.attempt}")

    def _inspected(self, event: events.StepInspected) -> Line | None:
        if event.verdict is Inspection.ABSENT:
            return None
        bad = event.verdict in {Inspection.UNKNOWN, Inspection.LOST}
        style = "bold red" if bad else "cyan"
        text = f"{self._title(event.step)}: found {event.verdict.value}"
        return Line("?" if bad else "=", style, text, event.reason)

    def _title(self, step_id: str) -> str:
        step = self.step(step_id)
        return step.title if step else step_id


def _what(error: dict[str, Any]) -> str:
    where = error.get("where")
    return f"{error.get('what', 'failed')}" + (f" ({where})" if where else "")


def _ended(event: events.Ended, _: Envelope) -> Line:
    style = "bold green" if event.outcome is Outcome.COMMITTED else "bold yellow"
    reason = event.reason if event.reason != event.outcome.value else ""
    return Line("●", style, event.outcome.value, reason, bold=True)


def _stop(text: str, note: str = "") -> Line:
    return Line("●", "bold yellow", text, note)


_OF_STEPS: dict[str, Callable[[Narrator, Any], Line | None]] = {
    "performed": Narrator._performed,
    "failed": Narrator._failed,
    "inspected": Narrator._inspected,
    "reverted": Narrator._reverted,
    "revert_failed": Narrator._revert_failed,
}
_OF_TRANSACTIONS: dict[str, Callable[[Any, Envelope], Line]] = {
    "began": lambda e, at: Line("●", "bold", e.name, f"transaction {at.transaction}", bold=True),
    "section_entered": lambda e, _: _stop(f"Section {e.section.value}: {e.reason}"),
    "turned_back": lambda e, _: _stop(f"Turning back: {e.reason}"),
    "rollback_requested": lambda e, _: _stop(f"Rollback: {e.reason}", e.by),
    "interrupted": lambda e, _: _stop(f"Standing still: {e.reason}"),
    "resumed": lambda e, at: Line(
        "●", "bold", f"Going on: {e.reason}", f"Linux {at.stamp.release}"
    ),
    "ended": _ended,
}
