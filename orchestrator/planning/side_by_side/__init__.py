"""Plans for kernels beside the host's own: each gets a new generation."""

from orchestrator.planning.side_by_side.graph import plan

__all__ = ["plan"]
