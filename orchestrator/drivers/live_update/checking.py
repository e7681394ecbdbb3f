"""Step kinds that ask others: run-hook, check, soak."""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.checks import Baseline, Checker, soak
from orchestrator.drivers.live_update.job import Handler, Job, OnceHandler, absent, partial, present
from orchestrator.model.kinds import RunChecks, RunHook, SoakParams
from orchestrator.model.seams import Result
from orchestrator.model.spec import Hook
from orchestrator.model.steps import Inspected, Section
from orchestrator.system import proc, subprocesses

BASELINE = "baseline"


class HookHandler(Handler[RunHook]):
    """A hook's effect is its own; ours to know is whether it began and whether it ended well."""

    def perform(self, job: Job, params: RunHook) -> Result:
        if params.undoes is not None and (why := _nothing_to_undo(job, params.undoes, params.hook)):
            return {"skipped": why}
        hook = params.hook
        job.records.write(_name(hook), {"phase": "began", "argv": hook.run})
        done = _run(job, hook, hook.run, stopped=job.context.control.stopped)
        job.records.write(_name(hook), {"phase": "ended", "argv": hook.run})
        return {"output": done.text[-2000:]}

    def inspect(self, job: Job, params: RunHook) -> Inspected:
        record = job.records.read(_name(params.hook))
        if record is None:
            return absent("the hook was not started")
        if record.get("phase") == "ended":
            return present("the hook ended well")
        if params.hook.undo is not None:
            return partial("the hook was started and did not end well")
        return absent("the hook did not end well; without an undo it has nothing to undo")

    def revert(self, job: Job, params: RunHook) -> Result:
        hook = params.hook
        if job.records.read(_name(hook)) is None:
            return {}
        if hook.undo is not None:
            _run(job, hook, hook.undo)
        job.records.drop(_name(hook))
        return {"undone": hook.undo is not None}


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


def _nothing_to_undo(job: Job, undoes: str, hook: Hook) -> str | None:
    """Why the hook needs no undoing. One that had begun when its kernel was lost was never
    answered for, and may have done all of its work."""
    results = job.context.results
    if job.context.section is Section.RECOVER and f"{Section.RETURN.value}.{undoes}" in results:
        return f"{undoes} was undone on the way back"
    if undoes in results or job.records_of(Section.FORWARD).read(_name(hook)) is not None:
        return None
    return f"{undoes} did not run"


def _run(
    job: Job, hook: Hook, argv: list[str], stopped: Callable[[], bool] | None = None
) -> subprocesses.Completed:
    context = job.context
    job.say(f"running {argv[0]}")
    return subprocesses.run(
        argv,
        timeout=max(0.1, min(hook.timeout, context.control.remaining())),
        env={
            "MKUPGRADE_TRANSACTION": context.transaction,
            "MKUPGRADE_SECTION": context.section.value,
            "MKUPGRADE_STEP": job.step.id,
        },
        stopped=stopped,
    )


def _name(hook: Hook) -> str:
    return f"hook.{hook.name}"
