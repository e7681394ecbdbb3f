"""Which capabilities a step requires, and which of them the host lacks."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from orchestrator.model.host import Cap, HostState
from orchestrator.model.kinds import ChannelName
from orchestrator.model.spec import Workload
from orchestrator.model.spec.workloads import CriuMigrate, RestartMigrate
from orchestrator.model.steps import Step
from orchestrator.planning.problems import Problems


def for_workload(workload: Workload) -> list[Cap]:
    """What taking or giving back this workload's state asks of the host."""
    migrate = workload.migrate
    if isinstance(migrate, CriuMigrate):
        tcp = [Cap.CRIU_TCP] if migrate.tcp_established else []
        return [Cap.ROOT, Cap.CRIU, *tcp]
    if isinstance(migrate, RestartMigrate) and not (migrate.stop and migrate.start):
        return [Cap.SYSTEMD] if workload.find.unit else []
    return []


def for_state(channel: ChannelName, *, spill: bool) -> list[Cap]:
    """What keeping state in this channel asks of the host."""
    memory = [Cap.KHO, Cap.LUO] if channel == "kho" else []
    disk = [Cap.DURABLE_STATE] if channel == "disk" or spill else []
    return memory + disk


def for_preflight(workloads: Iterable[Workload]) -> list[Cap]:
    needed = {cap for w in workloads if w.migrate.method == "criu" for cap in for_workload(w)}
    return sorted(needed)


def check_requirements(
    steps: Iterable[Step], host: HostState, problems: Problems, *, waived: Collection[Cap] = ()
) -> None:
    """Add one line per capability that is missing, with its reason and who needs it.

    Args:
        waived: may be missing, because the spec says so.
    """
    lacking = {cap for cap in Cap if cap not in waived and not host.can(cap).available}
    needed_by: dict[Cap, list[str]] = {}
    for step in steps:
        for cap in lacking.intersection(step.requires):
            needed_by.setdefault(cap, []).append(step.id)
    for cap, ids in sorted(needed_by.items()):
        problems.add(cap.value, f"{host.can(cap).reason} (needed by {_some(ids)})")


def _some(ids: list[str]) -> str:
    shown = ", ".join(ids[:3])
    return f"{shown} and {len(ids) - 3} more" if len(ids) > 3 else shown
