"""Our command line, unchanged, in the namespace of a served double.

    python -m tests.support.multikernel.served.command apply plan.yaml --yes

With MKDOUBLE_DIES=STEP:before it kills itself right before the effect of this step, with STEP:after
right behind it.

As in `driver.py`, the host guard is left out, here alone, and only where the kernel itself refuses
kexec and reboot to this process. So it lacks CAP_SYS_BOOT, too, and is not asked for it.
"""

from __future__ import annotations

import os
import signal
import sys

from orchestrator.cli.main import main as mkupgrade
from orchestrator.drivers.multikernel.driver import MultikernelDriver
from orchestrator.model.seams import Result, StepContext
from orchestrator.model.steps import Step
from orchestrator.system import capabilities, guard
from tests.support.multikernel.confined import confinement_missing


def main() -> None:
    missing = confinement_missing()
    if missing:
        sys.exit(f"not confined: {missing}")
    guard.require = lambda host, what: None
    guard.objections = lambda paths, **_: []
    capabilities._CAP_SYS_BOOT = capabilities._CAP_SYS_ADMIN
    if dies := os.environ.get("MKDOUBLE_DIES"):
        die_at(*dies.rsplit(":", 1))
    sys.argv[0] = "mkupgrade"
    mkupgrade()


def die_at(step: str, when: str) -> None:
    perform = MultikernelDriver.perform

    def dying(self: MultikernelDriver, which: Step, context: StepContext) -> Result:
        if which.id != step:
            return perform(self, which, context)
        if when == "after":
            perform(self, which, context)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("alive")

    MultikernelDriver.perform = dying  # type: ignore[method-assign]


if __name__ == "__main__":
    main()
