"""The live-update driver: one kernel replaces the other by kexec, state goes through KHO or disk.

Dispatches each step to the handler of its kind; what must live between steps (a session, a
watchdog) is held by the parts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator.drivers.dispatch import dispatch
from orchestrator.drivers.hooks import HookHandler
from orchestrator.drivers.jobs import AnyHandler
from orchestrator.drivers.live_update import observing
from orchestrator.drivers.live_update.arrival import RestoreHandler, RetrieveHandler
from orchestrator.drivers.live_update.capture import CheckpointHandler, PreserveHandler
from orchestrator.drivers.live_update.checking import CheckHandler, SoakHandler
from orchestrator.drivers.live_update.closing import (
    CleanUpHandler,
    CommitHandler,
    RestoreBootDefaultHandler,
)
from orchestrator.drivers.live_update.job import Job
from orchestrator.drivers.live_update.jump import JumpHandler
from orchestrator.drivers.live_update.kernel import ArmFallbackHandler, LoadKernelHandler
from orchestrator.drivers.live_update.parts import Parts
from orchestrator.drivers.live_update.preparing import CheckArtifactsHandler, PreflightHandler
from orchestrator.drivers.live_update.pruning import prune
from orchestrator.drivers.live_update.real import real_parts
from orchestrator.drivers.live_update.watch import keep_watch, let_boot_go_on
from orchestrator.model.host import HostState
from orchestrator.model.kinds import Kind
from orchestrator.model.outcomes import Outcome
from orchestrator.model.seams import Result, StepContext
from orchestrator.model.spec import UpgradeSpec
from orchestrator.model.steps import Inspected, Step
from orchestrator.system.guard import HostGuard

HANDLERS: Mapping[Kind, AnyHandler[Any, Any]] = {
    Kind.CHECK_ARTIFACTS: CheckArtifactsHandler(),
    Kind.PREFLIGHT: PreflightHandler(),
    Kind.RUN_HOOK: HookHandler(),
    Kind.LOAD_KERNEL: LoadKernelHandler(),
    Kind.ARM_FALLBACK: ArmFallbackHandler(),
    Kind.CHECKPOINT: CheckpointHandler(),
    Kind.PRESERVE: PreserveHandler(),
    Kind.JUMP: JumpHandler(),
    Kind.RETRIEVE: RetrieveHandler(),
    Kind.RESTORE: RestoreHandler(),
    Kind.CHECK: CheckHandler(),
    Kind.SOAK: SoakHandler(),
    Kind.COMMIT: CommitHandler(),
    Kind.RESTORE_BOOT_DEFAULT: RestoreBootDefaultHandler(),
    Kind.CLEAN_UP: CleanUpHandler(),
}


class LiveUpdateDriver:
    """Implements `orchestrator.model.seams.Driver`."""

    name = "live-update"

    def __init__(
        self, state_dir: Path, *, guard: HostGuard | None = None, parts: Parts | None = None
    ) -> None:
        """
        Args:
            state_dir: where records and spilled state are kept; it need not exist yet.
            guard: leave to change this machine; default: one that is opened now.
            parts: for tests: doubles of everything that could change the host.
        """
        self._state_dir = state_dir
        self._parts = parts or real_parts(guard or HostGuard.open())

    def observe(self, spec: UpgradeSpec) -> HostState:
        return observing.observe(spec, self._state_dir, self._parts, self.name)

    def perform(self, step: Step, context: StepContext) -> Result:
        handler, job, params = self._job(step, context)
        keep_watch(job)
        let_boot_go_on(Kind(step.kind))
        return handler.perform(job, params)

    def inspect(self, step: Step, context: StepContext) -> Inspected:
        handler, job, params = self._job(step, context)
        return handler.inspect(job, params)

    def revert(self, step: Step, context: StepContext) -> Result:
        handler, job, params = self._job(step, context)
        return handler.revert(job, params)

    def close(self) -> None:
        self._parts.channels.close()
        self._parts.watchdog.close()

    def prune(self, over: Sequence[tuple[str, Outcome]]) -> list[str]:
        """Remove what transactions that are over have left; see `pruning.prune`."""
        return prune(self._state_dir, over)

    def _job(self, step: Step, context: StepContext) -> tuple[AnyHandler[Any, Any], Job, Any]:
        handler, params = dispatch(step, HANDLERS, self.name)
        return handler, Job(step, context, self._parts), params
