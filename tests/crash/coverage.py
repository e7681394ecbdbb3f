"""What the schedules have seen: pairs of events, faults by place, outcomes, invariants' use."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


def _possible() -> frozenset[tuple[str, str]]:
    """Which event may directly follow which, from the engine's rules.

    Steps run in parallel, so that almost any event of one step may follow any of another. But
    what is in flight is answered, and what failed is looked at, before a section turns or ends;
    both turns are written together with what comes of them; after an interrupt, and after an
    end, only another process writes; and a new process looks before it believes.
    """
    begun = {"intended", "revert_intended"}
    failures = {"failed", "revert_failed"}
    answers = {"performed", "reverted", "inspected"}
    steps = begun | failures | answers
    any_time = {"resumed", "interrupted", "rollback_requested"}
    turns = {"turned_back", "section_entered"}
    follow = dict.fromkeys(begun, steps | any_time)
    follow |= dict.fromkeys(failures, steps | any_time | {"ended"})
    follow |= dict.fromkeys(answers, steps | any_time | turns | {"ended"})
    follow |= {
        "began": {"intended"} | any_time,
        "resumed": begun | {"inspected", "ended"} | turns | any_time,
        "rollback_requested": steps | any_time | turns | {"ended"},
        "turned_back": {"revert_intended", "ended"},
        "section_entered": {"intended", "ended"},
        "interrupted": {"resumed"},
        "ended": {"resumed", "rollback_requested"},
    }
    return frozenset((a, b) for a, after in follow.items() for b in after)


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
