"""Commands of the spec: `run-hook` of every driver on real parts, and how a step runs a program."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from orchestrator.drivers.jobs import AnyHandler, AnyJob, absent, partial, present
from orchestrator.model.params.in_place import RunHook
from orchestrator.model.seams import Result
from orchestrator.model.spec import Hook
from orchestrator.model.steps import Inspected, Section
from orchestrator.system import subprocesses

_KEPT = 2000
"""Characters of its output that the journal keeps: the last ones."""


class HookHandler(AnyHandler[AnyJob[Any], RunHook]):
    """A hook's effect is its own; ours to know is whether it began and whether it ended well."""

    def perform(self, job: AnyJob[Any], params: RunHook) -> Result:
        if params.undoes is not None and (why := _nothing_to_undo(job, params.undoes, params.hook)):
            return {"skipped": why}
        hook = params.hook
        job.records.write(_name(hook), {"phase": "began", "argv": hook.run})
        output = run_command(job, hook.run, hook.timeout, stopped=job.context.control.stopped)
        job.records.write(_name(hook), {"phase": "ended", "argv": hook.run})
        return {"output": output}

    def inspect(self, job: AnyJob[Any], params: RunHook) -> Inspected:
        record = job.records.read(_name(params.hook))
        if record is None:
            return absent("the hook was not started")
        if record.get("phase") == "ended":
            return present("the hook ended well")
        if params.hook.undo is not None:
            return partial("the hook was started and did not end well")
        return absent("the hook did not end well; without an undo it has nothing to undo")

    def revert(self, job: AnyJob[Any], params: RunHook) -> Result:
        hook = params.hook
        if job.records.read(_name(hook)) is None:
            return {}
        if hook.undo is not None:
            run_command(job, hook.undo, hook.timeout)
        job.records.drop(_name(hook))
        return {"undone": hook.undo is not None}


def run_command(
    job: AnyJob[Any],
    argv: list[str],
    timeout: float,
    *,
    stopped: Callable[[], bool] | None = None,
    env: Mapping[str, str] | None = None,
) -> str:
    """Run a command of the spec for a step, to its end; the last of what it printed.

    Args:
        timeout: seconds; it gets no longer than the step has left.
        stopped: asked now and then; the command is ended when it says so.
        env: further variables, besides those that tell of the step.

    Raises:
        MkupgradeError: it cannot be started, ends with another code than 0, or takes too long.
    """
    context = job.context
    job.say(f"running {argv[0]}")
    done = subprocesses.run(
        argv,
        timeout=max(0.1, min(timeout, context.control.remaining())),
        env={
            "MKUPGRADE_TRANSACTION": context.transaction,
            "MKUPGRADE_SECTION": context.section.value,
            "MKUPGRADE_STEP": job.step.id,
            **(env or {}),
        },
        stopped=stopped,
    )
    return done.text[-_KEPT:]


def _nothing_to_undo(job: AnyJob[Any], undoes: str, hook: Hook) -> str | None:
    """Why the hook needs no undoing. One that had begun when its kernel was lost was never
    answered for, and may have done all of its work."""
    results = job.context.results
    if job.context.section is Section.RECOVER and f"{Section.RETURN.value}.{undoes}" in results:
        return f"{undoes} was undone on the way back"
    if undoes in results or job.records_of(Section.FORWARD).read(_name(hook)) is not None:
        return None
    return f"{undoes} did not run"


def _name(hook: Hook) -> str:
    return f"hook.{hook.name}"
