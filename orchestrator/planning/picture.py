"""The step graph as one self-contained picture (SVG)."""

from __future__ import annotations

from orchestrator.model.errors import NotSupportedError
from orchestrator.model.steps import StepGraph


def to_svg(graph: StepGraph) -> str:
    raise NotSupportedError(f'no picture of plan "{graph.name}" yet; dot and Mermaid are there')
