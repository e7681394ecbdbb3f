"""What the schedules have seen: pairs of events, faults by place, outcomes, invariants' use."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

STEP_EVENTS = frozenset(
    {"intended", "performed", "failed", "inspected", "revert_intended", "reverted", "revert_failed"}
)
_ANY_TIME = frozenset({"resumed", "interrupted", "rollback_requested"})


def _possible() -> frozenset[tuple[str, str]]:
    """Which event may directly follow which, from the engine's rules.

    Steps run in parallel, so that almost any event of one step may follow any of another, but
    nothing is started once a section turned back, and nothing follows an end but `resumed`
    and, of a committed transaction, `rollback_requested`.
    """
    starts, forwards = {"intended"}, {"performed", "failed", "inspected"}
    backs = {"revert_intended", "reverted", "revert_failed"}
    going = forwards | starts | backs
    pairs = {(a, b) for a in going for b in going | _ANY_TIME | {"ended"}}
    pairs |= {(a, b) for a in going for b in ("turned_back", "section_entered")}
    pairs |= {("began", b) for b in ("intended", "ended", *_ANY_TIME)}
    pairs |= {("resumed", b) for b in (*going, *_ANY_TIME, "ended", "turned_back")}
    pairs |= {("resumed", "section_entered")}
    pairs |= {("rollback_requested", b) for b in (*going, *_ANY_TIME, "ended")}
    pairs |= {("rollback_requested", b) for b in ("turned_back", "section_entered")}
    pairs |= {("turned_back", b) for b in ("revert_intended", "inspected", "ended", *_ANY_TIME)}
    pairs |= {("section_entered", b) for b in ("intended", "ended", "section_entered", *_ANY_TIME)}
    pairs |= {("interrupted", b) for b in ("resumed", *forwards, "reverted", "revert_failed")}
    pairs |= {("ended", b) for b in ("resumed", "rollback_requested")}
    return frozenset(pairs)


POSSIBLE = _possible()


@dataclass
class Coverage:
    pairs: set[tuple[str, str]] = field(default_factory=set)
    """Types of consecutive events of one transaction."""
    faults: set[tuple[str, str]] = field(default_factory=set)
    """(where, kind)."""
    outcomes: Counter[str] = field(default_factory=Counter)
    hosts: Counter[str] = field(default_factory=Counter)
    lives: int = 0
    """Processes that were started."""
    events: int = 0

    def add(self, other: Coverage) -> None:
        self.pairs |= other.pairs
        self.faults |= other.faults
        self.outcomes += other.outcomes
        self.hosts += other.hosts
        self.lives += other.lives
        self.events += other.events
