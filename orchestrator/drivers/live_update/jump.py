"""The pivot: leave this kernel. It returns only if the kernel refused, and then nothing happened.

We call reboot(2) ourselves instead of asking PID 1 to shut the system down. The workloads of the
plan are quiesced and saved by now, and an orderly shutdown of everything else would only make
their pause longer (seconds to minutes). The price: other programs are not told, so that for them
the jump is like a power cut after a sync. File systems are written out before (syncfs on each);
those with a journal replay it when they are mounted again. docs/live-update.md says so.
"""

from __future__ import annotations

from functools import partial

from orchestrator.drivers.live_update.closing import default_moved
from orchestrator.drivers.live_update.job import Handler, Job
from orchestrator.model.errors import MkupgradeError
from orchestrator.model.landing import Expected, landing
from orchestrator.model.params.in_place import Jump
from orchestrator.model.seams import Result
from orchestrator.model.steps import Inspected


class JumpHandler(Handler[Jump]):
    def perform(self, job: Job, params: Jump) -> Result:
        machine = job.parts.machine
        if params.method == "kexec" and not machine.kexec_loaded():
            raise MkupgradeError(
                "no kernel is loaded for kexec any more",
                where="/sys/kernel/kexec_loaded",
                state="the machine was not restarted",
            )
        job.say("writing out file systems")
        machine.sync()
        job.parts.watchdog.keep_alive()
        if params.method == "kexec":
            machine.jump()
        machine.reset()

    def inspect(self, job: Job, params: Jump) -> Inspected:
        context = job.context
        expected = Expected(
            transaction=context.transaction,
            section=context.section,
            method=params.method,
            from_release=params.from_release,
            to_release=params.to_release,
            boot_id=context.intended_boot_id,
            from_cmdline=params.from_cmdline,
            to_cmdline=params.to_cmdline,
            default_moved=partial(default_moved, job),
        )
        return landing(expected, job.parts.machine.place())

    def revert(self, job: Job, params: Jump) -> Result:
        """A jump that did not happen leaves nothing; one that did is no effect to revert."""
        return {}
