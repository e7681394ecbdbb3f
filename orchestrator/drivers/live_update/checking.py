"""Step kinds that ask others: run-hook, check, soak."""

from __future__ import annotations

import time
from typing import Any

from orchestrator.drivers.live_update.job import Handler, Job, absent, partial, present
from orchestrator.model.errors import CheckFailedError, MkupgradeError
from orchestrator.model.kinds import RunChecks, RunHook, SoakParams
from orchestrator.model.seams import Result
from orchestrator.model.spec import Hook
from orchestrator.model.steps import Inspected
from orchestrator.system import subprocesses


class HookHandler(Handler[RunHook]):
    """A hook's effect is its own; ours to know is whether it began and whether it ended well."""

    def perform(self, job: Job, params: RunHook) -> Result:
        if params.if_performed is not None and params.if_performed not in job.context.results:
            return {"skipped": f"{params.if_performed} did not run"}
        hook = params.hook
        job.records.write(_name(hook), {"phase": "began", "argv": hook.run})
        done = _run(job, hook, hook.run)
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


class CheckHandler(Handler[RunChecks]):
    def perform(self, job: Job, params: RunChecks) -> Result:
        passed = []
        for number, check in enumerate(params.checks):
            job.say(f"check {check.name}", number / len(params.checks))
            passed.append(job.parts.checks.wait_for(check, params.phase, job.context.control))
        return {"checks": passed}


class SoakHandler(Handler[SoakParams]):
    """Every check, every interval, until the time is over; one round at least."""

    def perform(self, job: Job, params: SoakParams) -> Result:
        started, rounds = time.monotonic(), 0
        failures: list[dict[str, Any]] = []
        while True:
            failures += self._round(job, params)
            rounds += 1
            if len(failures) > params.max_failures:
                raise _soak_failed(params, failures)
            left = params.duration - (time.monotonic() - started)
            if left <= 0:
                return {"rounds": rounds, "failures": failures}
            job.say(f"soak: {left:.0f} s left", min(1.0, max(0.0, 1 - left / params.duration)))
            _pause(job, min(left, params.interval))

    @staticmethod
    def _round(job: Job, params: SoakParams) -> list[dict[str, Any]]:
        failed = []
        for check in params.checks:
            try:
                job.parts.checks.once(check, job.context.control)
            except MkupgradeError as error:
                failed.append({"check": check.name, "what": error.what})
        return failed


def _soak_failed(params: SoakParams, failures: list[dict[str, Any]]) -> CheckFailedError:
    last = failures[-1]
    return CheckFailedError(
        f"the soak failed: {len(failures)} failures, {params.max_failures} allowed",
        where=last["check"],
        details=tuple(f"{f['check']}: {f['what']}" for f in failures[-10:]),
    )


def _pause(job: Job, seconds: float) -> None:
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        if job.context.control.stopped():
            raise MkupgradeError("the soak was stopped by the operator")
        time.sleep(min(left, 0.2))


def _run(job: Job, hook: Hook, argv: list[str]) -> subprocesses.Completed:
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
    )


def _name(hook: Hook) -> str:
    return f"hook.{hook.name}"
