"""What a served double is told and asked: functions that are found in its process, too."""

from __future__ import annotations

from typing import Any

from orchestrator.drivers.multikernel.trees.forms import PciDevice
from tests.support.multikernel.double import Double
from tests.support.multikernel.settings import NEWER, Spawn

DEVICES = tuple(PciDevice(f"0000:0{bus}:00.0", 0x1AF4, 0x1041) for bus in (8, 9))


def fresh() -> Double:
    """Host CPUs 0, 2, 4 … 30, and no pool yet."""
    return Double(NEWER)


def with_devices() -> Double:
    """A fresh one whose machine has two network cards."""
    return Double(NEWER, pci=DEVICES)


def picture(double: Double) -> dict[str, Any]:
    """All that an operation could have left."""
    world = double.world
    return {
        "instances": {
            name: (i.id, sorted(i.cpus), i.regions, i.pci, i.status, i.image)
            for name, i in world.instances.items()
        },
        "members": sorted(world.members),
        "free": sorted(world.free_cpus()),
        "chunks": world.memory.chunks,
        "pool's devices": world.free_pci(),
        "aliases": world.aliases,
        "wrecked": world.wrecked,
        "host image": world.host_image,
    }


def statuses(double: Double) -> list[str]:
    """Of all transactions, in their order."""
    return [transaction.status for transaction in double.overlays.transactions.values()]


def overlays(double: Double) -> list[bytes]:
    """As they were written, in their order."""
    return [transaction.dtbo for transaction in double.overlays.transactions.values()]


def advance(double: Double, seconds: float) -> None:
    double.world.clock.advance(seconds)


def behave(double: Double, name: str, spawn: Spawn) -> None:
    """How the next kernel in an instance behaves."""
    double.world.spawns[name] = spawn


def soft_fail(double: Double, cpu: int) -> None:
    double.world.faults.soft_fail_cpus.add(cpu)


def fail_overlay(double: Double, code: int) -> None:
    """The first operation of the next overlay fails with this errno."""
    double.world.faults.fail_at = {0: code}


def file(double: Double, path: str) -> bytes:
    return double.read(path)


def say(double: Double, name: str, text: str) -> None:
    """The kernel in an instance, on its console."""
    double.devices.say(name, text)


def typed(double: Double, number: int) -> bytes:
    """What was written to the console of the instance with this id."""
    return double.devices.typed[number]


def commands(double: Double) -> list[tuple[str, tuple[str, ...]]]:
    """Instance and what was run in it by kerf-init, in their order."""
    return double.world.commands
