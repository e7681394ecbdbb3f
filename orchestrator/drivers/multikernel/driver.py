"""The multikernel driver: new generations of instances beside the old ones.

Dispatches each step to the handler of its kind. It holds nothing between steps but the consoles of
instances that start: what there is, the kernel says.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator.drivers.dispatch import dispatch
from orchestrator.drivers.hooks import HookHandler
from orchestrator.drivers.jobs import AnyHandler
from orchestrator.drivers.multikernel import (
    asking,
    carrying,
    keeping,
    observing,
    placing,
    pooling,
    pruning,
    resizing,
    running,
    trying,
)
from orchestrator.drivers.multikernel.kernel import RealKernel
from orchestrator.drivers.multikernel.parts import Job, Parts
from orchestrator.model.host import HostState
from orchestrator.model.kinds import Kind
from orchestrator.model.outcomes import Outcome
from orchestrator.model.seams import Result, StepContext
from orchestrator.model.spec import UpgradeSpec
from orchestrator.model.steps import Inspected, Step
from orchestrator.system.guard import HostGuard

HANDLERS: Mapping[Kind, AnyHandler[Any, Any]] = {
    Kind.CHECK_ARTIFACTS: asking.CheckArtifactsHandler(),
    Kind.RUN_HOOK: HookHandler(),
    Kind.MOVE_WORKLOAD: asking.MoveHandler(),
    Kind.STOP_WORKLOAD: asking.StopHandler(),
    Kind.START_WORKLOAD: asking.StartHandler(),
    Kind.TRY_WORKLOADS: trying.TryHandler(),
    Kind.ADMIT_WORKLOADS: trying.AdmitHandler(),
    Kind.CARRY_WORKLOAD: carrying.CarryHandler(),
    Kind.TAKE_WORKLOAD: carrying.TakeHandler(),
    Kind.BRING_WORKLOAD: carrying.BringHandler(),
    Kind.CHECK: asking.CheckHandler(),
    Kind.SOAK: asking.SoakHandler(),
    Kind.CREATE_INSTANCE: placing.CreateHandler(),
    Kind.REMOVE_INSTANCE: placing.RemoveHandler(),
    Kind.LOAD_INSTANCE: running.LoadHandler(),
    Kind.START_INSTANCE: running.StartHandler(),
    Kind.AWAIT_INSTANCE: running.AwaitHandler(),
    Kind.COMMIT_INSTANCES: running.CommitHandler(),
    Kind.HALT_INSTANCE: running.HaltHandler(),
    Kind.UNLOAD_INSTANCE: running.UnloadHandler(),
    Kind.ADD_CPUS: resizing.AddCpusHandler(),
    Kind.REMOVE_CPUS: resizing.RemoveCpusHandler(),
    Kind.ADD_MEMORY: resizing.AddMemoryHandler(),
    Kind.REMOVE_MEMORY: resizing.RemoveMemoryHandler(),
    Kind.GROW_POOL: pooling.GrowHandler(),
    Kind.SHRINK_POOL: pooling.ShrinkHandler(),
}


class MultikernelDriver:
    """Implements `orchestrator.model.seams.Driver`.

    Args:
        state_dir: where records of hooks and moved workloads are kept; it need not exist yet.
        parts: for tests: a double of the kernel, and its clock.

    Raises:
        NotSupportedError: this kernel is no multikernel kernel.
    """

    name = "multikernel"

    def __init__(self, state_dir: Path, *, parts: Parts | None = None) -> None:
        self._state_dir = state_dir
        if parts is None:
            parts = Parts(RealKernel(HostGuard.open()), time.monotonic, time.sleep)
        self._parts = parts
        observing.refuse_if_not_there(parts.kernel)

    def observe(self, spec: UpgradeSpec) -> HostState:
        return observing.observe(spec, self._state_dir, self._parts.kernel, self.name)

    def perform(self, step: Step, context: StepContext) -> Result:
        handler, job, params = self._job(step, context)
        return handler.perform(job, params)

    def inspect(self, step: Step, context: StepContext) -> Inspected:
        handler, job, params = self._job(step, context)
        return handler.inspect(job, params)

    def revert(self, step: Step, context: StepContext) -> Result:
        handler, job, params = self._job(step, context)
        return handler.revert(job, params)

    def prune(self, over: Sequence[tuple[str, Outcome]]) -> list[str]:
        """Give back what is kept past its time, then drop what is left of generations that are
        gone for good; see `keeping.give_back` and `pruning.prune`."""
        given = keeping.give_back(self._parts.kernel, self._state_dir, over)
        return [*given, *pruning.prune(self._parts.kernel, self._state_dir, over)]

    def expired(self, over: Sequence[tuple[str, Outcome]]) -> bool:
        """Is anything kept past its time?"""
        kept = keeping.kept(self._state_dir, keeping.committed(over))
        return any(it.until <= time.time() for it in kept)

    def why_no_way_back(self, transaction: str) -> str | None:
        """Why a committed transaction cannot be rolled back any more; see `keeping`."""
        return keeping.why_no_way_back(self._parts.kernel, self._state_dir, transaction)

    def close(self) -> None:
        self._parts.consoles.close()

    def _job(self, step: Step, context: StepContext) -> tuple[AnyHandler[Any, Any], Job, Any]:
        handler, params = dispatch(step, HANDLERS, self.name)
        return handler, Job(step, context, self._parts), params
