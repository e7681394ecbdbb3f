"""Single operations of overlays, forward and inverse, each as the kernel does it: by name."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.support.multikernel.settings import GRANULE, LARGEST_ID
from tests.support.multikernel.world import Instance, World


@dataclass(frozen=True)
class Operation:
    """One item: one CPU, one region, one device, one instance."""

    verb: str
    """The name of the operation's node."""
    target: str | None = None
    """Name of an instance; None: the pool, or all instances."""
    cpu: int = 0
    base: int = 0
    size: int = 0
    node: int | None = None
    pci: str = ""
    name: str = ""
    id: int | None = None
    cpus: tuple[int, ...] = ()
    devices: tuple[str, ...] = field(default=())


INVERSE = {
    "instance-create": "instance-remove",
    "instance-remove": None,
    "cpu-add": "cpu-remove",
    "cpu-remove": "cpu-add",
    "memory-add": "memory-remove",
    "memory-remove": "memory-add",
    "device-add": "device-remove",
    "device-remove": "device-add",
}


def apply(world: World, operation: Operation) -> None:
    """Do one.

    Raises:
        OSError: as the kernel's log would say it; nothing of this one is done.
    """
    if operation.target is None and not operation.verb.startswith("instance-"):
        if not world.pool_there():
            raise OSError(errno.EPERM, "no pool")
        _POOL[operation.verb](world, operation)
    elif operation.verb.startswith("instance-"):
        _INSTANCES[operation.verb](world, operation)
    else:
        instance = _instance(world, operation.target or "")
        if instance.status == "active":
            world.lock()
        _INSTANCE[operation.verb](world, instance, operation)


def undo(world: World, operation: Operation) -> None:
    """The inverse, against whatever has the name by now.

    Raises:
        OSError: it is half undone then.
    """
    verb = INVERSE[operation.verb]
    pool_memory = operation.target is None and operation.verb.startswith("memory-")
    if verb is None or (pool_memory and operation.verb == "memory-add"):
        world.log.append(f"{operation.verb} cannot be undone")
        return
    apply(world, Operation(**{**vars(operation), "verb": verb}))


def _instance(world: World, name: str) -> Instance:
    if name not in world.instances:
        raise OSError(errno.ENOENT, f"no instance {name}")
    return world.instances[name]


def _create(world: World, op: Operation) -> None:
    taken = {instance.id for instance in world.instances.values()}
    if op.name in world.instances or op.id in taken:
        raise OSError(errno.EEXIST, f"{op.name} or its id is taken")
    if op.id == 0:
        raise OSError(errno.ENOMEM, "id 0")
    number = op.id if op.id is not None else next(n for n in range(1, LARGEST_ID) if n not in taken)
    region = world.memory.take(op.size, op.node)
    instance = Instance(op.name, number, regions=[region])
    world.instances[op.name] = instance
    for cpu in op.cpus:
        if cpu in world.free_cpus() and cpu not in world.faults.soft_fail_cpus:
            instance.cpus.append(cpu)
        else:
            world.log.append(f"{op.name}: CPU {cpu} could not be reserved")
    for address in op.devices:
        if address in world.free_pci() and address not in world.faults.soft_fail_pci:
            instance.pci.append(address)
        else:
            world.log.append(f"{op.name}: {address} could not be reserved")


def _destroy(world: World, op: Operation) -> None:
    instance = _instance(world, op.name)
    if instance.status not in {"ready", "empty"}:
        raise OSError(errno.EBUSY, f"{op.name} is {instance.status}")
    for region in instance.regions:
        world.memory.give(region)
    _return_cpus(world, instance, instance.cpus)
    del world.instances[op.name]


def _return_cpus(world: World, instance: Instance, cpus: Iterable[int]) -> None:
    for cpu in list(cpus):
        instance.cpus.remove(cpu)
        if cpu in world.faults.leak_cpus:
            world.leaked.add(cpu)
            world.log.append(f"instance pool leaked: CPU {cpu}")


def _cpu_add(world: World, instance: Instance, op: Operation) -> None:
    if op.cpu not in world.free_cpus():
        raise OSError(errno.EBUSY, f"CPU {op.cpu} is not free in the pool")
    life = instance.life
    if life is not None and op.cpu not in life.known_cpus:
        raise OSError(errno.EINVAL, f"CPU {op.cpu} was not there when {instance.name} booted")
    world.acknowledged(instance)
    if op.cpu not in world.faults.unplugged_cpus:
        instance.cpus.append(op.cpu)


def _cpu_remove(world: World, instance: Instance, op: Operation) -> None:
    if op.cpu not in instance.cpus:
        raise OSError(errno.EINVAL, f"{instance.name} does not have CPU {op.cpu}")
    if instance.life is not None and op.cpu == instance.life.boot_cpu:
        raise OSError(errno.EINVAL, f"CPU {op.cpu} is the boot CPU")
    if instance.life is None and not world.parked(instance):
        raise OSError(errno.EBUSY, f"CPU {op.cpu} is not parked yet")
    world.acknowledged(instance)
    _return_cpus(world, instance, [op.cpu])


def _memory_add(world: World, instance: Instance, op: Operation) -> None:
    _aligned(op)
    world.acknowledged(instance)
    if world.variant.exact_ranges or instance.status == "active":
        region = world.memory.take_exactly(op.base, op.size)
    else:
        region = world.memory.take(op.size, op.node, GRANULE)
    instance.regions.append(region)


def _memory_remove(world: World, instance: Instance, op: Operation) -> None:
    _aligned(op)
    if not instance.regions:
        raise OSError(errno.EINVAL, f"{instance.name} has no memory")
    newest = instance.regions[-1]
    exact = world.variant.exact_ranges or instance.status == "active"
    if (exact and newest.base != op.base) or newest.size != op.size:
        raise OSError(errno.EINVAL, "regions go whole, the newest first")
    if len(instance.regions) == 1 and instance.image is not None:
        raise OSError(errno.EBUSY, "the image is in it")
    world.acknowledged(instance)
    world.memory.give(instance.regions.pop())


def _aligned(op: Operation) -> None:
    if op.base % GRANULE or op.size % GRANULE or op.size <= 0:
        raise OSError(errno.EINVAL, "not aligned to memory blocks")


def _device_add(world: World, instance: Instance, op: Operation) -> None:
    if op.pci not in world.free_pci():
        raise OSError(errno.EBUSY, f"{op.pci} is not free in the pool")
    world.acknowledged(instance)
    instance.pci.append(op.pci)


def _device_remove(world: World, instance: Instance, op: Operation) -> None:
    if op.pci not in instance.pci:
        raise OSError(errno.ENODEV, f"{instance.name} does not have {op.pci}")
    world.acknowledged(instance)
    instance.pci.remove(op.pci)


def _pool_cpu_add(world: World, op: Operation) -> None:
    if op.cpu not in world.host_cpus:
        raise OSError(errno.ENODEV, f"no CPU {op.cpu}")
    if op.cpu in world.members or op.cpu in world.offline:
        raise OSError(errno.EBUSY, f"CPU {op.cpu} is not online on the host")
    world.members.append(op.cpu)


def _pool_cpu_remove(world: World, op: Operation) -> None:
    if op.cpu not in world.free_cpus():
        raise OSError(errno.EBUSY, f"CPU {op.cpu} is not free in the pool")
    world.members.remove(op.cpu)


def _pool_memory_add(world: World, op: Operation) -> None:
    world.memory.grow(op.size, op.node)


def _pool_memory_remove(world: World, op: Operation) -> None:
    world.memory.shrink(op.base, op.size)


def _pool_device_add(world: World, op: Operation) -> None:
    if op.pci not in world.host_pci:
        raise OSError(errno.ENODEV, f"no device {op.pci}")
    if op.pci in world.pool_pci:
        raise OSError(errno.EBUSY, f"{op.pci} is in the pool")
    world.pool_pci.append(op.pci)


def _pool_device_remove(world: World, op: Operation) -> None:
    if op.pci not in world.free_pci():
        raise OSError(errno.EBUSY, f"{op.pci} is not free in the pool")
    world.pool_pci.remove(op.pci)


_INSTANCES = {"instance-create": _create, "instance-remove": _destroy}
_INSTANCE = {
    "memory-remove": _memory_remove,
    "memory-add": _memory_add,
    "cpu-remove": _cpu_remove,
    "cpu-add": _cpu_add,
    "device-remove": _device_remove,
    "device-add": _device_add,
}
_POOL = {
    "cpu-remove": _pool_cpu_remove,
    "device-remove": _pool_device_remove,
    "memory-remove": _pool_memory_remove,
    "memory-add": _pool_memory_add,
    "cpu-add": _pool_cpu_add,
    "device-add": _pool_device_add,
}
