"""The simulated driver: every kind of step, on a host that is a file.

It needs no root and touches nothing but its own file. It refuses what a kernel refuses, and goes
wrong where it is asked to (see `faults`).
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from orchestrator.drivers.simulated import booting, kernels, looks, process, states
from orchestrator.drivers.simulated.creating import host_file_of, make_world, own_directory
from orchestrator.drivers.simulated.faults import Fault, Operation
from orchestrator.drivers.simulated.jobs import Effect, Job, partial, unknown
from orchestrator.drivers.simulated.seeing import host_state
from orchestrator.drivers.simulated.store import Store
from orchestrator.drivers.simulated.world import World
from orchestrator.model.errors import DeadlineError, MkupgradeError, NotSupportedError
from orchestrator.model.host import HostState
from orchestrator.model.kinds import Kind
from orchestrator.model.seams import Result, StepContext
from orchestrator.model.spec import UpgradeSpec
from orchestrator.model.steps import Inspected, Inspection, Step

Moment = Literal["before", "after"]
OnEffect = Callable[[Moment, Operation, Step], None]
"""Called right before and right after every effect. What it raises flies out of the driver; a
`BaseException` that is no `Exception` is taken for the death of the process."""

EFFECTS: dict[Kind, Effect[Any]] = {
    Kind.CHECK_ARTIFACTS: looks.CheckArtifacts(),
    Kind.PREFLIGHT: looks.Preflight(),
    Kind.RUN_HOOK: looks.RunHook(),
    Kind.LOAD_KERNEL: kernels.LoadKernel(),
    Kind.ARM_FALLBACK: kernels.ArmFallback(),
    Kind.CHECKPOINT: states.Checkpoint(),
    Kind.PRESERVE: states.Preserve(),
    Kind.JUMP: kernels.Jump(),
    Kind.RETRIEVE: states.Retrieve(),
    Kind.RESTORE: states.Restore(),
    Kind.CHECK: looks.RunChecks(),
    Kind.SOAK: looks.Soak(),
    Kind.COMMIT: kernels.Commit(),
    Kind.RESTORE_BOOT_DEFAULT: kernels.RestoreBootDefault(),
    Kind.CLEAN_UP: looks.CleanUp(),
}


class SimulatedDriver:
    """`model.seams.Driver` for a pretend host.

    Args:
        host_file: the host; see `create` and `for_spec`.
        faults: by step id, on top of those in the file.
        on_effect: see `OnEffect`.
        sync: False: do not wait for the disk (tests that cut no power).
        store: where the host is kept, instead of in its file.
    """

    name = "simulated"

    def __init__(
        self,
        host_file: Path,
        *,
        faults: Mapping[str, Fault] | None = None,
        on_effect: OnEffect | None = None,
        sync: bool = True,
        store: Store | None = None,
    ) -> None:
        self.store = store or Store(host_file, sync=sync)
        self._faults = dict(faults or {})
        self._on_effect = on_effect
        self._process = process.be_born()

    @classmethod
    def create(
        cls,
        host_file: Path,
        spec: UpgradeSpec,
        *,
        release: str = "7.2.13",
        image: Path | None = None,
        **rest: Any,
    ) -> SimulatedDriver:
        """A new host on which this spec's workloads run, in an older kernel.

        Args:
            release: of the running kernel.
            image: its image, for the way back; None: the host does not know it.
            rest: as for the constructor.
        """
        own_directory(host_file.parent)
        driver = cls(host_file, **rest)
        driver.store.write(make_world(spec, release, image))
        return driver

    @classmethod
    def for_spec(cls, spec: UpgradeSpec, **rest: Any) -> SimulatedDriver:
        """The driver for `driver: simulated`: everything lives in the spec's state directory.

        A host that is not there yet is made, and so are pretend images that the spec names inside
        the state directory.
        """
        from orchestrator.drivers.simulated.demo import prepare

        prepare(spec)
        return cls(host_file_of(spec), **rest)

    def observe(self, spec: UpgradeSpec) -> HostState:
        return host_state(self.store.read(), spec)

    def perform(self, step: Step, context: StepContext) -> Result:
        job = self._job(step, context)
        effect = _effect(step)
        params = effect.parse(step)
        fault = self._fault(step, "perform")
        if fault is not None:
            self._suffer(fault, job, "perform")
        with self._effect_of("perform", step), self._change() as world:
            world.half_done = [e for e in world.half_done if e != job.effect]
            world.in_doubt = [e for e in world.in_doubt if e != job.effect]
            result = effect.perform(world, params, job)
        effect.confirm(result, job)
        self._after(fault, job)
        return result

    def inspect(self, step: Step, context: StepContext) -> Inspected:
        job = self._job(step, context)
        effect = _effect(step)
        fault = self._fault(step, "inspect")
        if fault is not None and fault.kind == "unknown":
            return unknown(fault.message)
        if fault is not None:
            self._suffer(fault, job, "inspect")
        with self._change(looking=True) as world:
            if job.effect in world.in_doubt:
                return unknown("nobody can tell, as asked for")
            if job.effect in world.half_done:
                return partial("half of it was done, as asked for")
            return effect.inspect(world, effect.parse(step), job)

    def revert(self, step: Step, context: StepContext) -> Result:
        job = self._job(step, context)
        effect = _effect(step)
        params = effect.parse(step)
        fault = self._fault(step, "revert")
        if fault is not None:
            self._suffer(fault, job, "revert")
        with self._effect_of("revert", step), self._change() as world:
            half = job.effect in world.half_done
            world.half_done = [e for e in world.half_done if e != job.effect]
            whole = effect.inspect(world, params, job).verdict
            untouched = half and whole is Inspection.ABSENT
            result = {} if untouched else effect.revert(world, params, job)
        self._after(fault, job)
        return result

    def close(self) -> None:
        """Let go of sessions and watchdog, as the end of the process would."""
        self.die()

    def die(self) -> None:
        """From now on this driver's process is dead: what it held is gone."""
        process.die(self._process)

    def world(self) -> World:
        """The host as it is, for tests and the curious."""
        return self.store.read()

    # -- how things go wrong

    def _fault(self, step: Step, operation: Operation) -> Fault | None:
        """The fault whose turn it is, counted durably before it plays."""
        fault = self._faults.get(step.id) or self.store.read().faults.get(step.id)
        if fault is None or fault.on != operation:
            return None
        with self._change() as world:
            played = world.faults_played.get(step.id, 0)
            if not fault.plays(played):
                return None
            world.faults_played[step.id] = played + 1
        return fault

    def _suffer(self, fault: Fault, job: Job, operation: Operation) -> None:
        """What a fault does before the effect."""
        if fault.kind == "slow":
            _wait(fault, job)
        elif fault.kind == "hang":
            _wait(fault, job)
            raise DeadlineError(f"{operation} hung: {fault.message}", where=job.step.id)
        elif fault.kind == "die-before":
            _kill_this_process()
        elif fault.kind == "partial":
            with self._change() as world:
                world.half_done.append(job.effect)
            raise _asked_for(fault, job)
        elif fault.kind == "unknown":
            with self._change() as world:
                world.in_doubt.append(job.effect)
            raise _asked_for(fault, job)
        elif fault.kind == "fail":
            raise _asked_for(fault, job)

    def _after(self, fault: Fault | None, job: Job) -> None:
        """What a fault does after the effect."""
        if fault is not None and fault.kind == "die-after":
            _kill_this_process()
        if fault is not None and fault.kind == "late":
            raise _asked_for(fault, job)

    @contextmanager
    def _effect_of(self, operation: Operation, step: Step) -> Iterator[None]:
        """The two moments at which a process can die around an effect."""
        try:
            if self._on_effect is not None:
                self._on_effect("before", operation, step)
            yield
            if self._on_effect is not None:
                self._on_effect("after", operation, step)
        except Exception:
            raise
        except BaseException:
            self.die()
            raise

    @contextmanager
    def _change(self, *, looking: bool = False) -> Iterator[World]:
        with self.store.change(looking=looking) as world:
            booting.drop_what_died(world)
            yield world

    def _job(self, step: Step, context: StepContext) -> Job:
        return Job(step, context, self._process)


def _effect(step: Step) -> Effect[Any]:
    try:
        return EFFECTS[Kind(step.kind)]
    except (ValueError, KeyError):
        raise NotSupportedError(
            f'a pretend host knows no step of kind "{step.kind}"', where=step.id
        ) from None


def _wait(fault: Fault, job: Job) -> None:
    """For the fault's seconds, but no longer than the attempt may take or anybody wants it to."""
    control = job.context.control
    end = time.monotonic() + fault.seconds
    while (left := end - time.monotonic()) > 0 and control.remaining() > 0:
        if control.stopped():
            raise MkupgradeError("stopped while waiting", where=job.step.id)
        control.progress(f"{left:.0f}s to go, as asked for", 1 - left / fault.seconds)
        time.sleep(min(0.02, left))
    if left > 0:
        raise DeadlineError("its time is up", where=job.step.id)


def _asked_for(fault: Fault, job: Job) -> MkupgradeError:
    return MkupgradeError(fault.message, where=job.step.id, error_class=fault.error_class)


def _kill_this_process() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
