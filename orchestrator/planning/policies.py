"""Retry policy and deadline of every kind of step."""

from __future__ import annotations

from orchestrator.model.kinds import Kind
from orchestrator.model.spec import Check, Retry, RetryPolicy, Soak

CLASSES: dict[Kind, str] = {
    Kind.CHECK_ARTIFACTS: "default",
    Kind.PREFLIGHT: "default",
    Kind.RUN_HOOK: "hook",
    Kind.LOAD_KERNEL: "kernel",
    Kind.ARM_FALLBACK: "boot",
    Kind.CHECKPOINT: "workload",
    Kind.PRESERVE: "handover",
    Kind.JUMP: "kernel",
    Kind.RETRIEVE: "handover",
    Kind.RESTORE: "workload",
    Kind.CHECK: "check",
    Kind.SOAK: "check",
    Kind.COMMIT: "boot",
    Kind.RESTORE_BOOT_DEFAULT: "boot",
    Kind.CLEAN_UP: "default",
    Kind.CREATE_INSTANCE: "default",
    Kind.LOAD_INSTANCE: "kernel",
    Kind.START_INSTANCE: "kernel",
    Kind.AWAIT_INSTANCE: "default",
    Kind.MOVE_WORKLOAD: "workload",
    Kind.STOP_WORKLOAD: "workload",
    Kind.START_WORKLOAD: "workload",
    Kind.TRY_WORKLOADS: "default",
    Kind.ADMIT_WORKLOADS: "default",
    Kind.CARRY_WORKLOAD: "workload",
    Kind.TAKE_WORKLOAD: "workload",
    Kind.BRING_WORKLOAD: "workload",
    Kind.COMMIT_INSTANCES: "default",
    Kind.HALT_INSTANCE: "kernel",
    Kind.UNLOAD_INSTANCE: "kernel",
    Kind.REMOVE_INSTANCE: "default",
    Kind.ADD_CPUS: "kernel",
    Kind.REMOVE_CPUS: "kernel",
    Kind.ADD_MEMORY: "kernel",
    Kind.REMOVE_MEMORY: "kernel",
    Kind.GROW_POOL: "kernel",
    Kind.SHRINK_POOL: "kernel",
}
"""Kind -> field of `Retry`."""

SHORT = 60.0
"""Seconds for a step that is done in one go."""
SLACK = 30.0
"""Seconds on top of what a step was given by the spec, for its own start and end."""
MENU = 300.0
"""Seconds for a boot menu of many generations to be made anew."""
TRANSFER = 8.0
"""A transfer may take this many times its estimate."""


_UNNAMED = RetryPolicy()


def retry_for(kind: Kind, retry: Retry) -> RetryPolicy:
    """The spec's policy for this kind: that of its class, else `default`.

    A class that says what `RetryPolicy` says by itself counts as not named: equal specs must give
    equal plans, however they are spelled.
    """
    policy: RetryPolicy = getattr(retry, CLASSES[kind])
    return retry.default if policy == _UNNAMED else policy


def deadline(policy: RetryPolicy, by_kind: float) -> float:
    """Seconds for one attempt: the spec's, else the kind's."""
    return policy.deadline if policy.deadline is not None else by_kind


def transfer(estimate: float, timeout: float = 0.0) -> float:
    """Seconds for a step that moves state, with a tool's own timeout in it."""
    return round(SHORT + timeout + estimate * TRANSFER, 3)


def checks(phase: str, checks: list[Check]) -> float:
    """Seconds in which checks, even one after the other, have passed or failed."""
    each = sum(c.timeout + (c.within if phase == "after" else 0.0) for c in checks)
    return round(SLACK + each, 3)


def ready(checks: list[Check]) -> float:
    """Seconds in which an instance that answers has passed its own checks, or failed."""
    return round(sum(c.timeout + c.within for c in checks), 3)


def soak(soak: Soak, checks: list[Check]) -> float:
    return round(SLACK + soak.duration + soak.interval + sum(c.timeout for c in checks), 3)
