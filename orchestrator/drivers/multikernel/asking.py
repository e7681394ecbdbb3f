"""Step kinds that run commands, checks and files: check-artifacts, run-hook, move-, stop- and
start-workload, check, soak."""

from __future__ import annotations

from typing import TypeVar

from orchestrator.checks import Baseline, Checker, soak
from orchestrator.drivers.hooks import run_command
from orchestrator.drivers.jobs import absent, partial, present
from orchestrator.drivers.multikernel.parts import Handler, Job
from orchestrator.model.errors import ErrorClass, MkupgradeError
from orchestrator.model.params.in_place import CheckArtifacts, RunChecks, SoakParams
from orchestrator.model.params.side_by_side import MoveWorkload, StartWorkload, StopWorkload
from orchestrator.model.seams import Result
from orchestrator.model.steps import Inspected
from orchestrator.system import kernel_image, proc, running

W = TypeVar("W", MoveWorkload, StopWorkload, StartWorkload)


class CheckArtifactsHandler(Handler[CheckArtifacts]):
    def perform(self, job: Job, params: CheckArtifacts) -> Result:
        image = kernel_image.inspect_instance_image(params.image)
        wrong = image.error
        if wrong is None and image.sha256 != params.image_sha256:
            wrong = f"sha256 is {image.sha256}, and the plan was made for {params.image_sha256}"
        if wrong is None and image.release != params.release:
            wrong = f"it holds Linux {image.release}, the plan says {params.release}"
        demanded = params.signature == "required" or (
            params.signature == "if-enforced" and running.kexec_state().signature_enforced
        )
        if wrong is None and demanded and not image.pe_signed:
            wrong = "it carries no PE signature"
        _raise_if(wrong, params.image)
        if params.initrd is not None:
            initrd = kernel_image.inspect_initrd(params.initrd)
            if initrd.error is None and initrd.sha256 != params.initrd_sha256:
                _raise_if(f"sha256 is {initrd.sha256}, another than planned with", params.initrd)
            _raise_if(initrd.error, params.initrd)
        if params.modules is not None:
            _raise_if(kernel_image.inspect_modules(params.modules).error, params.modules)
        return {"release": image.release, "sha256": image.sha256}


class _PlaceHandler(Handler[W]):
    """A workload's own commands, which may be run again; a record says whether they began and
    whether they ended well, and in which boot of the host: a restart ends all instances and what
    runs in them, and whatever is set up at boot knows nothing of the commands."""

    verb: str
    there: str
    """Where the workload is then, in words; with the parameters."""

    def forth(self, job: Job, params: W) -> None:
        raise NotImplementedError

    def back(self, job: Job, params: W) -> None:
        raise NotImplementedError

    def perform(self, job: Job, params: W) -> Result:
        name, boot = self._record(params), proc.boot_id()
        job.records.write(name, {"phase": "began", "boot_id": boot})
        self.forth(job, params)
        job.records.write(name, {"phase": "ended", "boot_id": boot})
        return {}

    def inspect(self, job: Job, params: W) -> Inspected:
        record = job.records.read(self._record(params))
        where = self.there.format(**params.model_dump())
        if record is None:
            return absent(f"no command was run for it to be {where}")
        if record.get("boot_id") != proc.boot_id():
            return absent(f"it was being {where} before the host was restarted")
        if record.get("phase") == "ended":
            return present(f"it was {where}")
        return partial(f"it was being {where}")

    def revert(self, job: Job, params: W) -> Result:
        name = self._record(params)
        record = job.records.read(name)
        if record is None:
            return {}
        if record.get("boot_id") == proc.boot_id():
            self.back(job, params)
        job.records.drop(name)
        return {}

    def _record(self, params: W) -> str:
        return f"{self.verb}.{params.workload}"


class MoveHandler(_PlaceHandler[MoveWorkload]):
    """Stopped there before it is started here: it is never in two places."""

    verb, there = "move", "moved to {target}"

    def forth(self, job: Job, params: MoveWorkload) -> None:
        if params.source is not None:
            _run(job, params.stop, params.timeout, params.source)
        _run(job, params.start, params.timeout, params.target)

    def back(self, job: Job, params: MoveWorkload) -> None:
        _run(job, params.stop, params.timeout, params.target)
        if params.source is not None:
            _run(job, params.start, params.timeout, params.source)


class StopHandler(_PlaceHandler[StopWorkload]):
    verb, there = "stop", "stopped in {instance}"

    def forth(self, job: Job, params: StopWorkload) -> None:
        _run(job, params.stop, params.timeout, params.instance)

    def back(self, job: Job, params: StopWorkload) -> None:
        _run(job, params.start, params.timeout, params.instance)


class StartHandler(_PlaceHandler[StartWorkload]):
    verb, there = "start", "started in {instance}"

    def forth(self, job: Job, params: StartWorkload) -> None:
        _run(job, params.start, params.timeout, params.instance)

    def back(self, job: Job, params: StartWorkload) -> None:
        _run(job, params.stop, params.timeout, params.instance)


class CheckHandler(Handler[RunChecks]):
    def perform(self, job: Job, params: RunChecks) -> Result:
        checker = _checker()
        hold = checker.require if params.phase == "before" else checker.require_within
        return {"checks": [it.as_dict() for it in hold(params.checks, job.context.control)]}


class SoakHandler(Handler[SoakParams]):
    def perform(self, job: Job, params: SoakParams) -> Result:
        report = soak(
            _checker(),
            params.checks,
            job.context.control,
            duration=params.duration,
            interval=params.interval,
            max_failures=params.max_failures,
        )
        return report.as_dict()


def _checker() -> Checker:
    """Of the host's kernel, which does not change: what is tainted now was so before."""
    return Checker(Baseline(tainted=proc.tainted()))


def _run(job: Job, argv: list[str], timeout: float, instance: str) -> None:
    run_command(job, argv, timeout, env={"MKUPGRADE_INSTANCE": instance})


def _raise_if(wrong: str | None, path: str) -> None:
    if wrong is not None:
        raise MkupgradeError(
            wrong,
            where=path,
            state="nothing was changed",
            next_command="mkupgrade plan",
            error_class=ErrorClass.INVALID,
        )
