"""Plans for kernels beside the host's own: each gets a new generation."""

from orchestrator.planning.side_by_side.graph import STRATEGIES, plan

__all__ = ["STRATEGIES", "plan"]
