"""The life of an instance's kernel: loaded, started, alive, halted, unloaded.

`active` says that it was started, not that it lives: nobody tells of a kernel that hangs or has
stopped. All kexec calls and hot-plug share one lock, so each call is tried again while it is busy.
Facts 1.6 and 1.8.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.drivers.multikernel.images import instance_image, keyed_initrd
from orchestrator.drivers.multikernel.kernel import Answer, Kernel
from orchestrator.drivers.multikernel.seeing import Snapshot, Status, look
from orchestrator.model.errors import DeadlineError, ErrorClass, MkupgradeError, SystemCallError
from orchestrator.model.steps import Inspected, Inspection
from orchestrator.system.call_errors import BusyError
from orchestrator.system.multikernel_errors import ROOT, running_error

if TYPE_CHECKING:
    from orchestrator.agent.keys import Key
    from orchestrator.agent.status import Status as AgentStatus
    from orchestrator.model.params.side_by_side import AwaitedAgent

_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 2.0
_ASK_SECONDS = 1.0
_MOST_STATUS_BYTES = 64


@dataclass(frozen=True, slots=True)
class Patience:
    """How long is waited, and how."""

    remaining: Callable[[], float]
    """Seconds that are left."""
    sleep: Callable[[float], None]


@dataclass(frozen=True, slots=True)
class Named:
    """An instance by both of its names; a call is made only while they belong together."""

    name: str
    id: int

    @property
    def where(self) -> str:
        return str(ROOT / "instances" / self.name)


@dataclass(frozen=True, slots=True)
class Boot:
    """What an instance is to boot. The command line tells later whose image it is."""

    image: Path
    sha256: str
    cmdline: str
    initrd: Path | None = None
    key: Key | None = None
    """For the agent in it; goes into the initrd."""


def load(kernel: Kernel, instance: Named, boot: Boot, patience: Patience) -> None:
    """Load a kernel into an instance that has none.

    Raises:
        BusyError: it has an image, or the lock was held all the time.
        MkupgradeError, SystemCallError: nothing was loaded.
    """
    status = status_of(look(kernel), instance)
    if status is not Status.READY:
        raise BusyError(
            f"the instance is {status}: an image is loaded in it already", errno=errno.EBUSY,
            where=instance.where, state="nothing was loaded", next_command="cat /proc/kimage",
        )  # fmt: skip
    with instance_image(boot.image, boot.sha256) as image:
        if boot.initrd is None:
            _patiently(lambda: _load(kernel, instance, image, None, boot.cmdline), patience)
            return
        with keyed_initrd(boot.initrd, boot.key) as ramdisk:
            _patiently(lambda: _load(kernel, instance, image, ramdisk, boot.cmdline), patience)


def start(kernel: Kernel, instance: Named, patience: Patience) -> None:
    """Start what is loaded; waits for the CPUs of a kernel that was forced to halt before.

    One that is active is started only if its CPUs are at rest: it stopped and nobody was told.

    Raises:
        BusyError, MkupgradeError, SystemCallError: it was not started.
    """
    if status_of(look(kernel), instance) is Status.ACTIVE:
        kernel.start(instance.name, instance.id)
        return
    _patiently(lambda: kernel.start(instance.name, instance.id), patience)


def wait_alive(kernel: Kernel, instance: Named, port: int, patience: Patience) -> Answer:
    """Wait until an instance's kernel answers anything, and say what.

    Where there is no vsock, `active` is all that can be seen: SILENCE is returned at once.

    Raises:
        DeadlineError: silence until the end.
        MkupgradeError: it stopped.
    """
    if kernel.no_vsock() is not None:
        _refuse_if_stopped(kernel, instance)
        return Answer.SILENCE
    pause = _FIRST_PAUSE
    while True:
        answer = kernel.ask(instance.id, port, min(_ASK_SECONDS, max(patience.remaining(), 0.01)))
        if answer is not Answer.SILENCE:
            return answer
        _refuse_if_stopped(kernel, instance)
        if patience.remaining() <= pause:
            raise DeadlineError(
                "the kernel was started and has not answered: it has not booted, or hangs",
                where=instance.where,
                state="it has its CPUs and memory, and is called active",
                next_command=f"mkupgrade doctor; cat {instance.where}/status",
            )
        patience.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)


def wait_ready(
    kernel: Kernel, instance: Named, agent: AwaitedAgent, key: Key, patience: Patience
) -> AgentStatus:
    """Wait until the agent in an instance says that it is ready, in the kernel that was loaded.

    Raises:
        DeadlineError: it was not until the end; says why.
        MkupgradeError: it runs another kernel, somebody without the key answers, or it stopped.
    """
    pause, last = _FIRST_PAUSE, None
    while True:
        seconds = max(min(_ASK_SECONDS, patience.remaining()), 0.01)
        said = kernel.ask_agent(instance.id, agent.port, key, seconds)
        if said is not None and agent.release not in (None, said.release):
            raise MkupgradeError(
                f"it runs Linux {said.release}, and {agent.release} was loaded",
                where=instance.where,
                next_command="cat /proc/kimage",
                error_class=ErrorClass.INVALID,
            )
        if said is not None and said.ready:
            _refuse_if_idle(said, agent, instance)
            return said
        last = said or last
        _refuse_if_stopped(kernel, instance)
        if patience.remaining() <= pause:
            raise DeadlineError(
                "the kernel answers, and its agent "
                + ("is not ready" if last is not None else "does not: is its unit there?"),
                where=instance.where,
                state="it runs, and nothing was moved to it",
                next_command=f"cat {instance.where}/status",
                details=tuple(last.problems) if last is not None else (),
            )
        patience.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)


def halt(kernel: Kernel, instance: Named, patience: Patience, force: bool = True) -> bool:
    """Halt an instance's kernel; True: it was forced. One that does not run is fine.

    Args:
        force: stop its CPUs if it does not answer within the kernel's 30 s.

    Raises:
        SystemCallError: class timeout: it does not answer, and is not to be forced; it runs on.
        BusyError, MkupgradeError
    """
    if status_of(look(kernel), instance) is not Status.ACTIVE:
        return False
    try:
        _patiently(lambda: kernel.halt(instance.name, instance.id), patience)
    except SystemCallError as error:
        if status_of(look(kernel), instance) is not Status.ACTIVE:
            return False
        if error.error_class is not ErrorClass.TIMEOUT or not force:
            raise
    else:
        return False
    _patiently(lambda: kernel.halt_force(instance.name, instance.id), patience)
    return True


def unload(kernel: Kernel, instance: Named, patience: Patience) -> None:
    """Drop the image of an instance that does not run; none is fine.

    Raises:
        BusyError: it runs. MkupgradeError, SystemCallError
    """
    status = status_of(look(kernel), instance)
    if status is Status.ACTIVE:
        raise running_error(instance.where)
    if status is Status.LOADED:
        _patiently(lambda: kernel.unload(instance.name, instance.id), patience)


def inspect_loaded(kernel: Kernel, instance: Named, cmdline: str) -> Inspected:
    """Is this very command line loaded? An image of another is somebody else's."""
    now = look(kernel)
    status = status_of(now, instance)
    said = now.instances[instance.name].cmdline
    if status is Status.READY:
        return Inspected(verdict=Inspection.ABSENT, reason="the instance has no image")
    if said == cmdline.strip():
        return Inspected(
            verdict=Inspection.PRESENT, reason=f"the instance is {status} with our command line"
        )
    return Inspected(
        verdict=Inspection.UNKNOWN,
        reason=f"the instance is {status} with another command line than ours: {said!r:.200}",
    )


def inspect_running(kernel: Kernel, instance: Named, *, running: bool) -> Inspected:
    """Was it started (`running`), or halted?"""
    status = status_of(look(kernel), instance)
    holds = (status is Status.ACTIVE) is running
    return Inspected(
        verdict=Inspection.PRESENT if holds else Inspection.ABSENT,
        reason=f"the instance is {status}",
    )


def status_of(now: Snapshot, instance: Named) -> Status:
    """Of an instance that is there.

    Raises:
        MkupgradeError: it is not, or its name belongs to another id.
    """
    seen = now.instances.get(instance.name)
    if seen is None or seen.tree.id != instance.id:
        raise MkupgradeError(
            f"there is no instance {instance.name} with id {instance.id} (any more)",
            where=instance.where,
            state="nothing was changed by this step",
            next_command=f"ls {ROOT / 'instances'}",
        )
    return seen.status


def refuse_if_not_active(kernel: Kernel, instance: Named) -> None:
    """One file, for a look several times a second.

    Raises:
        GoneError, SystemCallError: it cannot be read. MkupgradeError: its kernel stopped.
    """
    said = kernel.read(f"instances/{instance.name}/status", _MOST_STATUS_BYTES)
    if said.strip() != Status.ACTIVE.encode():
        _refuse_if_stopped(kernel, instance)


def _load(kernel: Kernel, instance: Named, image: int, initrd: int | None, cmdline: str) -> None:
    kernel.load(instance.name, instance.id, kernel_fd=image, initrd_fd=initrd, cmdline=cmdline)


def _refuse_if_stopped(kernel: Kernel, instance: Named) -> None:
    status = status_of(look(kernel), instance)
    if status is not Status.ACTIVE:
        raise MkupgradeError(
            f"the kernel stopped by itself (halt, reboot or panic): the instance is {status}",
            where=instance.where,
            state="its image is loaded and can be started again",
            next_command=f"cat {instance.where}/status",
        )


def _refuse_if_idle(said: AgentStatus, agent: AwaitedAgent, instance: Named) -> None:
    if agent.works and not said.works:
        raise MkupgradeError(
            "its agent takes state only, and workloads are to be carried by it: the instance must "
            "enable mkupgrade-agent-work.service (mkupgrade agent --work)",
            where=instance.where,
            state="nothing was moved to it",
            error_class=ErrorClass.REFUSED,
        )


def _patiently(call: Callable[[], None], patience: Patience) -> None:
    """Again while it is busy, with longer and longer pauses."""
    import tenacity

    tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(BusyError),
        wait=tenacity.wait_exponential(multiplier=_FIRST_PAUSE, max=_LONGEST_PAUSE),
        stop=lambda state: state.upcoming_sleep >= patience.remaining(),
        sleep=patience.sleep,
        reraise=True,
    )(call)
