"""The live-update driver: one kernel replaces the other by kexec, state goes through KHO or disk.

Dispatches each step to the handler of its kind; what must live between steps (a session, a
watchdog) is held by the parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from orchestrator.drivers.dispatch import Handlers, dispatch
from orchestrator.drivers.jobs import AnyHandler
from orchestrator.drivers.live_update.job import Job
from orchestrator.drivers.live_update.parts import Parts
from orchestrator.drivers.live_update.real import real_parts
from orchestrator.drivers.live_update.watch import keep_watch, let_boot_go_on
from orchestrator.model.host import HostState
from orchestrator.model.kinds import Kind
from orchestrator.model.outcomes import Outcome
from orchestrator.model.seams import Result, StepContext
from orchestrator.model.spec import UpgradeSpec
from orchestrator.model.steps import Inspected, Step
from orchestrator.system.guard import HostGuard

HANDLERS: Handlers[AnyHandler[Any, Any]] = Handlers(
    "orchestrator.drivers",
    {
        Kind.CHECK_ARTIFACTS: "live_update.preparing.CheckArtifactsHandler",
        Kind.PREFLIGHT: "live_update.preparing.PreflightHandler",
        Kind.RUN_HOOK: "hooks.HookHandler",
        Kind.LOAD_KERNEL: "live_update.kernel.LoadKernelHandler",
        Kind.ARM_FALLBACK: "live_update.kernel.ArmFallbackHandler",
        Kind.CHECKPOINT: "live_update.capture.CheckpointHandler",
        Kind.PRESERVE: "live_update.capture.PreserveHandler",
        Kind.JUMP: "live_update.jump.JumpHandler",
        Kind.RETRIEVE: "live_update.arrival.RetrieveHandler",
        Kind.RESTORE: "live_update.arrival.RestoreHandler",
        Kind.CHECK: "live_update.checking.CheckHandler",
        Kind.SOAK: "live_update.checking.SoakHandler",
        Kind.COMMIT: "live_update.closing.CommitHandler",
        Kind.RESTORE_BOOT_DEFAULT: "live_update.closing.RestoreBootDefaultHandler",
        Kind.CLEAN_UP: "live_update.closing.CleanUpHandler",
    },
)


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
        from orchestrator.drivers.live_update import observing

        return observing.observe(spec, self._state_dir, self._parts, self.name)

    def perform(self, step: Step, context: StepContext) -> Result:
        if step.kind == Kind.PREFLIGHT:
            HANDLERS.import_all()
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
        from orchestrator.drivers.live_update.pruning import prune

        return prune(self._state_dir, over)

    def _job(self, step: Step, context: StepContext) -> tuple[AnyHandler[Any, Any], Job, Any]:
        handler, params = dispatch(step, HANDLERS, self.name)
        return handler, Job(step, context, self._parts), params
