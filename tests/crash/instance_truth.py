"""What is really there of the effects of a plan for instances: in the double, not in the driver."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator.drivers.records import Records
from orchestrator.model.kinds import Kind
from orchestrator.model.landing import mark_for
from orchestrator.model.steps import Inspection, Step
from tests.crash.hosts import ABSENT, PARTIAL, PRESENT
from tests.support.multikernel.world import Instance, World

TRANSACTION = "t1"
GOALS = frozenset({Kind.HALT_INSTANCE, Kind.UNLOAD_INSTANCE, Kind.REMOVE_INSTANCE})
"""Gone is gone, whoever did it."""
PLACING = frozenset({Kind.CREATE_INSTANCE, Kind.REMOVE_INSTANCE})
OF_KERNEL = PLACING | GOALS | {Kind.LOAD_INSTANCE, Kind.START_INSTANCE}
_RECORDS = {
    Kind.MOVE_WORKLOAD: "move",
    Kind.STOP_WORKLOAD: "stop",
    Kind.START_WORKLOAD: "start",
    Kind.RUN_HOOK: "hook",
}


def generation(step: Step) -> str:
    """Name of the generation that a step is about; "None": it is about none."""
    return str(step.params.get("generation", {}).get("name"))


def truth(
    step: Step, world: World, records: Mapping[Path, dict[str, Any]], boot_id: str
) -> Inspection | None:
    """Is a step's effect there? None: it has none, or nobody can hold it to be there."""
    kind = Kind(step.kind)
    if kind in _RECORDS:
        return _recorded(step, _RECORDS[kind], records, boot_id)
    if kind not in OF_KERNEL:
        return None
    world.settle()
    found = world.instances.get(generation(step))
    if found is not None and found.id != step.params["generation"]["id"]:
        found = None
    if kind in GOALS:
        return PRESENT if _gone(kind, found) else ABSENT
    spawn = world.spawns.get(generation(step))
    if kind is Kind.START_INSTANCE and spawn is not None and spawn.halts_at is not None:
        return None  # whether it runs is its own affair
    return ABSENT if found is None else _of_new(kind, found, step)


def as_planned(instance: Instance, params: Mapping[str, Any]) -> bool:
    """Has it the CPUs, the memory and the devices of a create-instance step?"""
    return (
        instance.cpus == params["cpus"]
        and sum(region.size for region in instance.regions) == params["memory_bytes"]
        and instance.pci == params["devices"]
    )


def _of_new(kind: Kind, found: Instance, step: Step) -> Inspection:
    if kind is Kind.CREATE_INSTANCE:
        return PRESENT if as_planned(found, step.params) else PARTIAL
    if kind is Kind.START_INSTANCE:
        return PRESENT if found.status == "active" else ABSENT
    mark = mark_for(TRANSACTION, step.section)
    return PRESENT if found.image is not None and mark in found.image.cmdline else ABSENT


def _gone(kind: Kind, found: Instance | None) -> bool:
    if found is None:
        return True
    if kind is Kind.HALT_INSTANCE:
        return found.status != "active"
    return kind is Kind.UNLOAD_INSTANCE and found.image is None


def _recorded(
    step: Step, verb: str, records: Mapping[Path, dict[str, Any]], boot_id: str
) -> Inspection:
    """What commands of the spec did: the driver's records are all that there is of it. What was
    done to workloads before the host was restarted went with their instances."""
    hook = step.params.get("hook")
    name = f"{verb}.{hook['name'] if hook else step.params['workload']}"
    record = records.get(Records(Path("/nowhere"), TRANSACTION, step.section)._path(name), {})
    phase = record.get("phase")
    if phase is None or record.get("boot_id", boot_id) != boot_id:
        return ABSENT
    if phase == "ended":
        return PRESENT
    return ABSENT if hook and not hook["undo"] else PARTIAL
