"""Step kinds that put the next kernel and the way back in place: load-kernel, arm-fallback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from orchestrator.drivers.jobs import absent, partial, present, unknown
from orchestrator.drivers.live_update.job import Handler, Job
from orchestrator.drivers.records import make_private_directories
from orchestrator.model.base import digest
from orchestrator.model.errors import ErrorClass, MkupgradeError, NotSupportedError
from orchestrator.model.host import is_release
from orchestrator.model.landing import first_pid, mark_for, without_marks
from orchestrator.model.params.in_place import ArmFallback, LoadKernel, NixosProfile
from orchestrator.model.seams import Result
from orchestrator.model.steps import Inspected
from orchestrator.system import boot_loaders

KERNEL = "kernel"
FALLBACK = "fallback"


class ForeignKernelError(MkupgradeError):
    """A kernel is loaded for kexec and this transaction did not load it."""

    code = "foreign-kernel"
    error_class = ErrorClass.REFUSED


def foreign_kernel() -> ForeignKernelError:
    return ForeignKernelError(
        "a kernel is loaded for kexec already, and not by this transaction",
        where="/sys/kernel/kexec_loaded",
        state="it stays loaded; nothing was changed",
        next_command="kexec --kexec-file-syscall --unload",
    )


class LoadKernelHandler(Handler[LoadKernel]):
    """The kernel keeps one image and does not say whose it is, so a record says it for ours."""

    def perform(self, job: Job, params: LoadKernel) -> Result:
        machine = job.parts.machine
        _drop_preloaded(job)
        if machine.kexec_loaded() and not _loaded_by_us(job, params):
            raise foreign_kernel()
        mark = mark_for(job.context.transaction, job.context.section)
        cmdline = marked(params.cmdline, mark, first_pid(machine.unused_pid()))
        record = _record(job, params)
        job.records.write(KERNEL, {**record, "phase": "intended"})
        job.say(f"loading {params.image}")
        with _initrd(job, params) as initrd:
            machine.load_kernel(Path(params.image), params.image_sha256, initrd, cmdline)
        job.records.write(KERNEL, {**record, "phase": "loaded"})
        return {"release": params.release, "image": params.image, "cmdline": cmdline}

    def inspect(self, job: Job, params: LoadKernel) -> Inspected:
        if not job.parts.machine.kexec_loaded():
            return absent("/sys/kernel/kexec_loaded is 0")
        record = job.records.read(KERNEL)
        if record == {**_record(job, params), "phase": "loaded"}:
            return present("an image is loaded, and our record says that this step loaded it")
        if record == {**_record(job, params), "phase": "intended"}:
            return partial("an image is loaded; our record ends before the call returned")
        if record is None and is_preloaded(job):
            return absent("what is loaded is what `nixos stage --preload` has loaded")
        return unknown(
            "an image is loaded that this transaction has no record of; look who loaded it, "
            "unload it with `kexec --kexec-file-syscall --unload`, then `mkupgrade resume`"
        )

    def revert(self, job: Job, params: LoadKernel) -> Result:
        record = job.records.read(KERNEL)
        ours = record is not None and record.get("boot_id") == job.parts.machine.place().boot_id
        if ours and job.parts.machine.kexec_loaded():
            job.parts.machine.unload_kernel()
        job.records.drop(KERNEL)
        return {}


def is_preloaded(job: Job) -> bool:
    """Did `nixos stage --preload` load what is loaded? It makes way for this transaction's."""
    from orchestrator.nixos import preloading

    machine = job.parts.machine
    return preloading.is_ours(machine, job.context.state_dir, machine.place().boot_id)


def _drop_preloaded(job: Job) -> None:
    """For good: from here on a reset must end in what the boot loader has, and not in that."""
    from orchestrator.nixos import preloading

    machine = job.parts.machine
    dropped = preloading.drop(machine, job.context.state_dir, machine.place().boot_id)
    if dropped is not None:
        job.say(f"unloaded the kernel of {dropped.toplevel}, which `nixos stage` had preloaded")


class ArmFallbackHandler(Handler[ArmFallback]):
    """A reset must end in the old kernel: its entry is the default, its files are there."""

    def perform(self, job: Job, params: ArmFallback) -> Result:
        job.records.write(FALLBACK, _fallback(job, params))
        problem = _way_back_problem(job, params, arming=True)
        if problem is not None:
            raise NotSupportedError(problem, next_command="mkupgrade doctor")
        if params.nixos is not None:
            job.say("making the old system's boot menu")
            job.parts.nixos.arm(params.nixos, job.context.control)
            require_old_default(job, params.nixos)
        if params.watchdog is not None:
            job.parts.watchdog.arm(Path(params.watchdog), params.boot_deadline)
        return {"watchdog": params.watchdog, "note": self._note(job)}

    def inspect(self, job: Job, params: ArmFallback) -> Inspected:
        if job.records.read(FALLBACK) != _fallback(job, params):
            return absent("no record of the way back from this boot")
        problem = _way_back_problem(job, params)
        if problem is not None:
            return partial(problem)
        if params.watchdog is not None and not job.parts.watchdog.held(Path(params.watchdog)):
            # Whoever armed it has died; the device may be counting on, and must be disarmed.
            return partial(f"{params.watchdog} is not held by this process")
        return present("the way back is recorded and in place", {"watchdog": params.watchdog})

    def revert(self, job: Job, params: ArmFallback) -> Result:
        if params.watchdog is not None:
            job.parts.watchdog.disarm(Path(params.watchdog))
        if params.nixos is not None:
            job.parts.nixos.disarm(params.nixos, job.context.control)
        job.records.drop(FALLBACK)
        return {}

    @staticmethod
    def _note(job: Job) -> str | None:
        if job.parts.boot.state().loader != "none":
            return None
        return "no boot loader found: a reset starts whatever the firmware or hypervisor starts"


def marked(cmdline: str, *marks: str) -> str:
    """The command line with these marks and no other; what follows "--" is for init and stays."""
    words = without_marks(cmdline).split(" ")
    at = words.index("--") if "--" in words else len(words)
    return " ".join(word for word in [*words[:at], *marks, *words[at:]] if word)


@contextmanager
def _initrd(job: Job, params: LoadKernel) -> Iterator[Path | None]:
    """The initrd to load: the plan's, or a private copy in memory of it with its secrets."""
    initrd, program = _path(params.initrd), _path(params.initrd_secrets)
    if initrd is None or program is None:
        yield initrd
        return
    from orchestrator.nixos.initrd import with_secrets

    job.say("appending its secrets to a copy of the initrd")
    where = job.parts.runtime_dir / job.context.transaction / "initrd"
    make_private_directories(where.parent)
    control = job.context.control
    with with_secrets(initrd, program, params.initrd_sha256 or "", where, control) as copy:
        yield copy


def _record(job: Job, params: LoadKernel) -> dict[str, Any]:
    return {
        "boot_id": job.parts.machine.place().boot_id,
        "params": digest(params.model_dump(mode="json")),
    }


def _loaded_by_us(job: Job, params: LoadKernel) -> bool:
    record = job.records.read(KERNEL)
    return record is not None and record.get("boot_id") == job.parts.machine.place().boot_id


def _fallback(job: Job, params: ArmFallback) -> dict[str, Any]:
    return {
        "boot_id": job.parts.machine.place().boot_id,
        "params": params.model_dump(mode="json"),
    }


def require_old_default(job: Job, nixos: NixosProfile | None, stands: str | None = None) -> None:
    """The default boot entry must not start another kernel than the running one.

    Args:
        stands: what state the host is in, for the error.

    Raises:
        NotSupportedError: it does; with the command that puts it right.
    """
    state, here = job.parts.boot.state(), job.parts.machine.place().release
    ends_in = state.entries.get(state.default or "", here)
    if ends_in == here or not is_release(ends_in):
        return
    command = boot_loaders.command_to_set_default(state, job.parts.boot.entry_for(here) or "ENTRY")
    if nixos is not None:  # an entry that is set by hand would outlive every menu
        command = f"{nixos.previous}/bin/switch-to-configuration boot"
    raise NotSupportedError(
        f"the default boot entry {state.default} starts Linux {ends_in}, not the running "
        f"{here}: a new kernel that dies would not end in the old one",
        state=stands,
        next_command=command,
        details=tuple(f"{name}: {what}" for name, what in state.entries.items()),
    )


def _way_back_problem(job: Job, params: ArmFallback, *, arming: bool = False) -> str | None:
    default = job.parts.boot.state().default
    if params.boot_default is not None and default != params.boot_default:
        return (
            f"the default boot entry is {default or 'not set'}, "
            f"and a reset must end in {params.boot_default}"
        )
    if params.nixos is not None:
        found, pending = job.parts.nixos.state(), params.nixos.pending
        ours = {params.nixos.previous}
        if arming and pending is not None:
            ours.add(pending.toplevel)
        if found.leads_to not in ours:
            return (
                f"{found.link} leads to {found.leads_to or 'nothing'}, and a reset must end in "
                f"{params.nixos.previous}"
            )
    for path in (params.image, params.initrd):
        if path is not None and not Path(path).is_file():
            return f"{path} is needed for the way back and is not there"
    return None


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)
