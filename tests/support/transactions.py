"""What tests of the engine have in common: steps that fail, and what became of the others."""

from __future__ import annotations

from typing import Any

from orchestrator.engine.report import TransactionReport
from orchestrator.engine.transaction import Engine
from orchestrator.model.errors import CheckFailedError
from orchestrator.model.steps import StepGraph

FULL = ["a", "b", "jump", "c", "commit", "d", "return.a", "return.jump", "recover.a", "recover.b"]


def fails(error: Exception | None = None, times: int = 10**6) -> Any:
    left = [times]

    def fail(context: Any) -> None:
        if left[0] > 0:
            left[0] -= 1
            raise error or CheckFailedError("it does not hold")

    return fail


def run(engine: Engine, graph: StepGraph) -> TransactionReport:
    return engine.run(engine.begin(graph))


def states(report: TransactionReport) -> dict[str, str]:
    return {s.id: s.state for s in report.steps}
