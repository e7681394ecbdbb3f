"""Step kinds that look before anything happens: check-artifacts, preflight."""

from __future__ import annotations

from orchestrator.drivers.live_update.checking import BASELINE, remember_baseline
from orchestrator.drivers.live_update.job import Handler, Job, OnceHandler
from orchestrator.drivers.live_update.kernel import (
    foreign_kernel,
    is_preloaded,
    require_old_default,
)
from orchestrator.drivers.records import drop_tree, make_private_directories
from orchestrator.handover.kho import with_device
from orchestrator.model.errors import (
    ErrorClass,
    GuardError,
    MkupgradeError,
    NotSupportedError,
    WorkloadError,
)
from orchestrator.model.host import Artifact
from orchestrator.model.params.in_place import CheckArtifacts, Preflight
from orchestrator.model.seams import Result
from orchestrator.system import boot_loaders, kernel_image, running

_TRIAL_SESSION = "mkupgrade-trial"


class ArtifactError(MkupgradeError):
    """A kernel's file is not what the plan was made for."""

    code = "artifact"
    error_class = ErrorClass.INVALID


class CheckArtifactsHandler(Handler[CheckArtifacts]):
    def perform(self, job: Job, params: CheckArtifacts) -> Result:
        image = kernel_image.inspect_image(params.image)
        problems = _problems(image, params.image_sha256)
        if image.error is None and image.release != params.release:
            problems.append(f"it holds Linux {image.release}, the plan says {params.release}")
        if _signature_missing(image, params):
            problems.append("it carries no PE signature")
        _raise_for(params.image, problems)
        if params.initrd is not None:
            initrd = kernel_image.inspect_initrd(params.initrd)
            _raise_for(params.initrd, _problems(initrd, params.initrd_sha256))
        if params.modules is not None:
            modules = kernel_image.inspect_modules(params.modules)
            _raise_for(params.modules, _problems(modules, None))
        return {"release": image.release, "sha256": image.sha256}


class PreflightHandler(OnceHandler[Preflight]):
    """It leaves a record for later checks; its trial dumps are gone when it ends."""

    def perform(self, job: Job, params: Preflight) -> Result:
        self.forget(job)
        _require_leave(job)
        if job.parts.machine.kexec_loaded() and not is_preloaded(job):
            raise foreign_kernel()
        if params.nixos is not None:
            job.say("asking the system's own pre-switch checks")
            job.parts.nixos.check(params.nixos, job.context.control)
        else:
            _require_boot_entry(job, params)
        _require_way_home(job, params)
        if "kho" in params.channels.values():
            _try_kho(job)
        findings = [f for w in params.workloads for f in self._try(job, params, w.name)]
        errors = [f"{name}: {text}" for severity, name, text in findings if severity == "error"]
        if errors:
            lines = [line for text in errors for line in text.splitlines()]
            alone = len(errors) == 1
            raise WorkloadError(
                lines[0] if alone else f"{len(errors)} problems with workloads",
                state="nothing was changed; the workloads run",
                details=tuple(lines[1:] if alone else lines),
            )
        warnings = [f"{name}: {text}" for _, name, text in findings]
        remember_baseline(job)
        return self.passed(job, {"warnings": warnings})

    def revert(self, job: Job, params: Preflight) -> Result:
        drop_tree(job.records.dir / "trial")
        job.records.drop(BASELINE)
        return super().revert(job, params)

    @staticmethod
    def _try(job: Job, params: Preflight, name: str) -> list[tuple[str, str, str]]:
        workload = next(w for w in params.workloads if w.name == name)
        scratch = job.records.dir / "trial" / name
        make_private_directories(scratch.parent)
        job.say(f"trying a checkpoint of {name}")
        try:
            found = job.parts.workloads.preflight(
                workload,
                params.channels.get(name, "disk"),
                scratch,
                job.context.control,
                job.context.state_dir,
            )
        finally:
            drop_tree(scratch.parent)
        return [(f.severity, f.workload, f.text) for f in found]


def _require_leave(job: Job) -> None:
    """What the guard will say later, while nothing has been tried yet."""
    objections = job.parts.machine.objections()
    if objections:
        raise GuardError(
            f"mkupgrade may not change this machine: {objections[0]}; as root, "
            "`mkupgrade host permit` allows it",
            state="nothing was changed",
            next_command="mkupgrade host permit",
            details=tuple(objections[1:]),
        )


def _require_boot_entry(job: Job, params: Preflight) -> None:
    """Commit makes the new kernel the default: without an entry it would fail behind the jump."""
    state = job.parts.boot.state()
    if state.loader == "none" or job.parts.boot.entry_for(params.to_release) is not None:
        return
    raise NotSupportedError(
        f"{state.loader} has no single entry that boots Linux {params.to_release}, "
        "so that it could not become the default",
        state="nothing was changed",
        next_command=f"kernel-install add {params.to_release} IMAGE"
        if state.loader == "systemd-boot"
        else "update-grub",
    )


def _require_way_home(job: Job, params: Preflight) -> None:
    """Until commit a reset must end in the kernel that runs now. A package manager that adds an
    entry may have made it the default: the newest kernel comes first in most menus."""
    state = job.parts.boot.state()
    if state.once is not None:
        raise NotSupportedError(
            f"{state.once} is chosen for the next boot only: a new kernel that dies would end "
            "there, and not in the default entry",
            state="nothing was changed",
            next_command=boot_loaders.command_to_drop_once(state),
        )
    if params.nixos is None or params.nixos.pending is None:  # else arming makes another menu
        require_old_default(job, params.nixos, "nothing was changed")


def _try_kho(job: Job) -> None:
    """A session made and dropped: finds a device that is there and does not work (EIO)."""
    open_device, control = job.parts.channels.open_device, job.context.control
    with_device(open_device, lambda d: d.create_session(_TRIAL_SESSION), control).close()


def _problems(artifact: Artifact, sha256: str | None) -> list[str]:
    if artifact.error is not None:
        return [artifact.error]
    if sha256 and artifact.sha256 != sha256:
        return [f"sha256 is {artifact.sha256}, and the plan was made for {sha256}"]
    return []


def _signature_missing(image: Artifact, params: CheckArtifacts) -> bool:
    if image.pe_signed or params.signature == "none":
        return False
    return params.signature == "required" or running.kexec_state().signature_enforced


def _raise_for(path: str, problems: list[str]) -> None:
    if problems:
        raise ArtifactError(
            problems[0],
            where=path,
            state="nothing was changed",
            next_command="mkupgrade plan",
            details=tuple(problems[1:]),
        )
