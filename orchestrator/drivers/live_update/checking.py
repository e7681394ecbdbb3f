"""Step kinds that ask others: check, soak."""

from __future__ import annotations

from orchestrator.checks import Baseline, Checker, soak
from orchestrator.drivers.live_update.job import Handler, Job, OnceHandler
from orchestrator.model.params.in_place import RunChecks, SoakParams
from orchestrator.model.seams import Result
from orchestrator.model.steps import Section
from orchestrator.system import proc

BASELINE = "baseline"


class CheckHandler(OnceHandler[RunChecks]):
    """Checks of the phase "after" are asked again after a crash; those of "before" count."""

    def perform(self, job: Job, params: RunChecks) -> Result:
        self.forget(job)
        checker, before = _checker(job), params.phase == "before"
        hold = checker.require if before else checker.require_within
        results = hold(params.checks, job.context.control)
        result: Result = {"checks": [r.as_dict() for r in results]}
        return self.passed(job, result) if before else result


class SoakHandler(Handler[SoakParams]):
    def perform(self, job: Job, params: SoakParams) -> Result:
        report = soak(
            _checker(job),
            params.checks,
            job.context.control,
            duration=params.duration,
            interval=params.interval,
            max_failures=params.max_failures,
        )
        return report.as_dict()


def remember_baseline(job: Job) -> None:
    """What the kernel's state was before anything was changed, for checks in the next one."""
    job.records.write(BASELINE, {"tainted": proc.tainted()})


def _checker(job: Job) -> Checker:
    before = job.records_of(Section.FORWARD).read(BASELINE)
    tainted = before.get("tainted") if before is not None else None
    return Checker(Baseline(tainted=tainted if isinstance(tainted, int) else proc.tainted()))
