"""Faults on demand: what goes wrong with which step, and how often."""

from __future__ import annotations

from typing import Literal

from orchestrator.model.base import Strict
from orchestrator.model.errors import ErrorClass

Operation = Literal["perform", "inspect", "revert"]


class Fault(Strict):
    """One way for a step to go wrong."""

    kind: Literal["fail", "late", "partial", "unknown", "hang", "slow", "die-before", "die-after"]
    """
    - fail: an error, and no effect
    - late: the effect, and then an error all the same
    - partial: half of the effect, and an error
    - unknown: an error, and nobody can tell whether there is an effect (`on: inspect`: the latter)
    - hang: nothing for `seconds`, or until the deadline; then an error
    - slow: the effect, after `seconds`
    - die-before, die-after: SIGKILL to this very process, before or after the effect
    """
    on: Operation = "perform"
    error_class: ErrorClass = ErrorClass.FAILED
    message: str = "a fault, as asked for"
    seconds: float = 0.0
    times: int | None = None
    """How often; None: every time, but once for die-before and die-after."""

    def plays(self, played: int) -> bool:
        """Is it this time's turn?"""
        limit = 1 if self.times is None and self.kind.startswith("die") else self.times
        return limit is None or played < limit
