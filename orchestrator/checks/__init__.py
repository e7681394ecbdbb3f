"""Checks: what must hold before, after, or all through the soak.

Checker(baseline).run(check, control)            one try -> CheckResult
Checker(baseline).require(checks, control)       "before": each must hold now
Checker(baseline).require_within(checks, ...)    "after": each must hold within its time
soak(checker, checks, control, ...)              again and again -> SoakReport
"""

from orchestrator.checks.kernel import Sources, baseline_now
from orchestrator.checks.results import Baseline, CheckResult, Clock
from orchestrator.checks.running import Checker, SoakReport, soak

__all__ = [
    "Baseline",
    "CheckResult",
    "Checker",
    "Clock",
    "SoakReport",
    "Sources",
    "baseline_now",
    "soak",
]
