"""What goes on beside the steps: the watchdog in the new kernel, and the boot that waits for us."""

from __future__ import annotations

from pathlib import Path

from orchestrator.drivers.live_update.closing import COMMIT
from orchestrator.drivers.live_update.job import Job
from orchestrator.drivers.live_update.kernel import FALLBACK
from orchestrator.model.kinds import Kind
from orchestrator.model.steps import Section
from orchestrator.system import systemd

_BESIDE_THE_BOOT = frozenset({Kind.CHECK, Kind.SOAK, Kind.COMMIT, Kind.CLEAN_UP})


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


def let_boot_go_on(kind: Kind) -> None:
    """Tell systemd, if it waits for this process, that the workloads are where they should be:
    what comes now may need all of the system (mkupgrade-resume.service, Type=notify)."""
    if kind in _BESIDE_THE_BOOT:
        systemd.notify("READY=1")
