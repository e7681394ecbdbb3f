"""The planner: pure functions from spec and host state to a step graph, and about step graphs."""

from orchestrator.planning.drawing import draw
from orchestrator.planning.files import load, save
from orchestrator.planning.freshness import ensure_fresh, staleness
from orchestrator.planning.planner import plan
from orchestrator.planning.schedule import (
    Slot,
    expected_blackout,
    expected_blackouts,
    makespan,
    schedule,
)
from orchestrator.planning.soundness import check_graph

__all__ = [
    "Slot",
    "check_graph",
    "draw",
    "ensure_fresh",
    "expected_blackout",
    "expected_blackouts",
    "load",
    "makespan",
    "plan",
    "save",
    "schedule",
    "staleness",
]
