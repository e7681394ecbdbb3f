"""How an upgrade is carried out: strategy, soak, rollback, retries, hooks."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from orchestrator.model.base import Shared, Strict
from orchestrator.model.errors import ErrorClass
from orchestrator.model.quantities import Duration
from orchestrator.model.spec.names import AbsolutePath, Argv, Name


class Strategy(Strict):
    """How instances are taken from old to new."""

    kind: Literal["in-place", "surge", "replace", "rolling", "canary", "blue-green"] = "in-place"
    """All but `in-place` need a driver that runs kernels side by side. `surge`: new generations
    beside the old ones; `replace`: in their place; `rolling`: a few instances at once; `canary`:
    some first, then a soak, then the others rolling; `blue-green`: a surge that turns the traffic
    once, by `hooks.before`."""
    each: Literal["surge", "replace"] = "replace"
    """For rolling and canary: how each instance is taken."""
    max_unavailable: Annotated[int, Field(ge=1)] = 1
    """For rolling and canary: how many instances may be down at once."""
    first: Annotated[int, Field(ge=1)] = 1
    """For canary: how many instances go first, in the order of the spec and of `after`."""
    parallel: Annotated[int, Field(ge=1, le=64)] = 4
    """Workloads handled at the same time."""


class Soak(Strict):
    """After the checks passed once: how long they must go on passing before commit."""

    duration: Duration = 30.0
    """How long; "0s" for one round of checks."""
    interval: Duration = 5.0
    """Pause between two rounds."""
    max_failures: Annotated[int, Field(ge=0)] = 0
    """Failed checks that are forgiven, all rounds together."""


class OldKernel(Strict):
    """The running kernel's own files, for the jump back; default: found on the host."""

    image: AbsolutePath
    """Its image."""
    initrd: AbsolutePath | None = None
    """Its initial RAM disk."""


class Rollback(Strict):
    """The way back when something fails."""

    automatic: bool = True
    """False: after a failure behind the jump, stop and wait for `mkupgrade rollback`."""
    boot_deadline: Duration = 300.0
    """Time from the jump until the new kernel must have taken up the transaction."""
    deadline: Duration = 3600.0
    """Time for the whole transaction up to commit."""
    watchdog: AbsolutePath | None = None
    """e.g. /dev/watchdog0: armed before the jump where the hardware keeps counting across it."""
    panic_timeout: Duration = 10.0
    """`panic=` of the new kernel: a panic becomes a reset into the default boot entry."""
    keep_old_kernel: Duration = 604800.0
    """How long `mkupgrade rollback` can bring the old kernel back after commit; the place of an
    instance's old generation is given back then."""
    kernel: OldKernel | None = None
    """The running kernel's own files, for the jump back; default: found on the host. Where an
    instance's old generation goes before the commit: the files it is started from again."""


class RetryPolicy(Strict):
    """For one class of step."""

    attempts: Annotated[int, Field(ge=1, le=100)] = 1
    """How often in all."""
    initial: Duration = 0.2
    """Pause before the second attempt; doubled each time, with jitter."""
    maximum: Duration = 10.0
    """Longest pause between two attempts."""
    on: list[ErrorClass] = [ErrorClass.BUSY, ErrorClass.TIMEOUT]
    """Classes of error that are tried again."""
    deadline: Duration | None = None
    """Time for one attempt; default: by the kind of step."""


class Retry(Strict):
    """Retry policy per class of step; `default` for classes not named."""

    default: RetryPolicy = RetryPolicy.model_construct()
    """For classes not named."""
    kernel: RetryPolicy = RetryPolicy.model_construct(attempts=5)
    """Loading and unloading kernels (EBUSY of the kexec lock)."""
    workload: RetryPolicy = RetryPolicy.model_construct()
    """Checkpoints and restores."""
    handover: RetryPolicy = RetryPolicy.model_construct()
    """Preserving and retrieving state."""
    check: RetryPolicy = RetryPolicy.model_construct()
    """Phases of checks as a whole; a single check has `within`."""
    hook: RetryPolicy = RetryPolicy.model_construct()
    """Hooks."""
    boot: RetryPolicy = RetryPolicy.model_construct()
    """The boot loader's default entry."""


class Hook(Shared):
    """A command of yours."""

    name: Name
    """How steps and reports call it; unique among hooks."""
    run: Argv
    """The command."""
    undo: Argv | None = None
    """Run when the transaction is reverted, also behind a `run` that was cut short, and perhaps
    twice; a hook without it must have nothing to undo."""
    timeout: Duration = 60.0
    """Time for one run; then its process group is killed."""


class Hooks(Strict):
    """Commands of yours, before and after."""

    before: list[Hook] = []
    """In the old kernel, before the first workload is touched."""
    after: list[Hook] = []
    """In the new kernel, after the soak and before commit."""

    @model_validator(mode="after")
    def _names_once(self) -> Hooks:
        names = [h.name for h in (*self.before, *self.after)]
        for name in names:
            if names.count(name) > 1:
                # The type lets the loader drop this in favour of its own, which has a position.
                raise PydanticCustomError(
                    "cross_reference", 'hook name "{name}" is used more than once', {"name": name}
                )
        return self
