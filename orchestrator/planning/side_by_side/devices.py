"""Which devices a new generation gets: those that the spec names, else those of the old one.

A device has one owner at a time (facts 1.3): the pool, or one instance. One that the old generation
has can go to the new one only where the old one goes first.
"""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.model.host import HostState, InstanceState
from orchestrator.model.spec import Instance
from orchestrator.planning.problems import Problems
from orchestrator.planning.side_by_side.generations import Lineage


def wanted(instance: Instance, line: Lineage) -> list[str]:
    """PCI addresses."""
    named = instance.resources.devices if instance.resources else None
    if named is not None:
        return list(dict.fromkeys(named))
    return list(line.running.devices) if line.running else []


def differ(instance: Instance, has: InstanceState) -> bool:
    """Does the spec name others than the instance has?"""
    named = instance.resources.devices if instance.resources else None
    return named is not None and set(named) != set(has.devices)


def check_devices(
    instances: Mapping[str, list[str]],
    lines: Mapping[str, Lineage],
    host: HostState,
    problems: Problems,
    *,
    gives_way: bool,
) -> None:
    """Name each device that cannot be had, who has it, and what helps.

    Args:
        instances: devices of each new generation, by instance of the spec.
        gives_way: do old generations go before new ones come?
    """
    owners = {address: it for it in host.instances.values() for address in it.devices}
    free = set(host.pool.devices) if host.pool else set()
    promised: dict[str, str] = {}
    for name, addresses in instances.items():
        where = f"instances.{name}.resources.devices"
        for address in addresses:
            if address in promised:
                problems.add(where, f"{address} is for {promised[address]} already")
                continue
            promised[address] = name
            owner = owners.get(address)
            if owner is None:
                if address not in free:
                    has = ", ".join(sorted(free)) or "none"
                    problems.add(
                        where,
                        f"{address} is not in the pool, and no instance has it; free there: {has} "
                        "(kerf init --devices adds one)",
                    )
                continue
            if owner == lines[name].running and gives_way:
                continue
            problems.add(where, _why_not(address, owner, lines[name]))


def _why_not(address: str, owner: InstanceState, line: Lineage) -> str:
    if owner == line.running:
        return (
            f"{address} is {owner.name}'s, and a device has one owner: a generation beside it "
            "cannot have it; choose replace, or name the devices that the new one is to have "
            "(devices: [] for none)"
        )
    if owner in line.stopped:
        return (
            f"{address} is held by {owner.name}, which does not run; remove it (mkupgrade clean-up "
            f"once its time is over, or kerf unload {owner.name} and kerf delete {owner.name})"
        )
    return f"{address} is instance {owner.name}'s, and a device has one owner"
