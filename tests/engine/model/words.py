"""What is known of a transaction, in the words of docs/transactions.md."""

from __future__ import annotations

from typing import Any

from orchestrator.engine import events
from orchestrator.model.steps import Reversibility, Section, Step, StepGraph

UNANSWERED = {"intended", "failed", "reverting", "revert-failed"}
AN_EFFECT = {"performed", "partial"}

Pause = tuple[float, float]
"""The earliest and the latest time at which a pause is over: its jitter is not foretold."""


class Facts:
    """What is known of one transaction."""

    def __init__(self, graph: StepGraph) -> None:
        self.graph = graph
        self.steps: dict[str, Step] = {s.id: s for s in graph.steps}
        self.status = dict.fromkeys(self.steps, "pending")
        self.attempts = dict.fromkeys(self.steps, 0)
        self.tries = dict.fromkeys(self.steps, 0)
        self.reverts = dict.fromkeys(self.steps, 0)
        self.deaths = dict.fromkeys(self.steps, 0)
        self.error: dict[str, dict[str, Any] | None] = dict.fromkeys(self.steps)
        self.revert_error: dict[str, dict[str, Any] | None] = dict.fromkeys(self.steps)
        self.pause: dict[str, Pause] = {}
        self.behind: set[str] = set()
        self.in_flight: set[str] = set()
        self.doubts: set[str] = set()
        self.to_inspect: set[str] = set()
        self.section = Section.FORWARD
        self.section_boot = ""
        self.reverting = False
        self.failed = False
        self.requested = False
        self.lost: str | None = None
        self.crossed: str | None = None
        self.committed = False
        self.unknown = False
        self.standing = "runs"
        """"runs", "interrupted", "waiting", or an outcome."""
        self.counted_from = 0.0
        self.last: events.Stamp | None = None
        self.seen: set[str] = set()

    # -- words of the document

    def mine(self) -> list[str]:
        """The steps of the running section, in the order of the plan."""
        return [i for i, s in self.steps.items() if s.section is self.section]

    def is_pivot(self, i: str) -> bool:
        return self.steps[i].reversibility is Reversibility.PIVOT

    def is_commit(self, i: str) -> bool:
        return self.steps[i].reversibility is Reversibility.COMMIT

    def all_before(self, i: str) -> set[str]:
        found: set[str] = set()
        new = {i}
        while new:
            new = {a for a, b in self.graph.edges if b in new} - found
            found |= new
        return found

    def all_after(self, i: str) -> set[str]:
        found: set[str] = set()
        new = {i}
        while new:
            new = {b for a, b in self.graph.edges if a in new} - found
            found |= new
        return found

    @property
    def failures_are_borne(self) -> bool:
        behind_commit = self.committed and self.section is Section.FORWARD and not self.requested
        return behind_commit or self.section is Section.RECOVER

    @property
    def turns_back(self) -> bool:
        wants = self.failed or self.requested or self.lost is not None
        return wants and not self.failures_are_borne

    @property
    def pivot_lost(self) -> bool:
        """6.4 or 6.6 follows, and nothing else is done before."""
        return self.lost is not None and self.section is not Section.RECOVER

    @property
    def leaves_clean_up(self) -> bool:
        """8.4."""
        return self.committed and self.requested

    @property
    def stopped(self) -> bool:
        return self.standing != "runs"

    @property
    def over(self) -> bool:
        return self.standing in {"committed", "rolled-back"}

    def pause_running(self) -> bool:
        """A step waits that will be tried again."""
        if self.pivot_lost:
            return False
        partial = any(self.status[i] == "partial" for i in self.pause)
        return partial or (bool(self.pause) and not self.turns_back)

    def deadline(self) -> float | None:
        """Rule 9.4."""
        limited = self.section is Section.FORWARD and not (self.committed or self.reverting)
        if not limited or self.failed or self.requested:
            return None
        return self.counted_from + self.graph.deadline
