"""Taking over the watchdog in the new kernel: the old one armed it, and it may still run."""

from __future__ import annotations

from pathlib import Path

from orchestrator.drivers.live_update.closing import COMMIT
from orchestrator.drivers.live_update.job import Job
from orchestrator.drivers.live_update.kernel import FALLBACK
from orchestrator.model.steps import Section


def keep_watch(job: Job) -> None:
    """Hold the transaction's watchdog, if it has one, in the new kernel until commit.

    A machine that hangs in these minutes is then reset into the old kernel, too. Before the
    jump the step arm-fallback does this; after it, no step is sure to come first.
    """
    if job.context.section is not Section.FORWARD:
        return
    records = job.records_of(Section.FORWARD)
    armed = records.read(FALLBACK)
    device = (armed or {}).get("params", {}).get("watchdog")
    if armed is None or device is None or records.read(COMMIT) is not None:
        return
    if armed.get("boot_id") != job.parts.machine.place().boot_id:
        job.parts.watchdog.arm(Path(device), armed["params"]["boot_deadline"])
