"""What this kernel can do for instances, and why not."""

from __future__ import annotations

from enum import StrEnum

from orchestrator.drivers.multikernel.kernel import Kernel
from orchestrator.drivers.multikernel.seeing import look
from orchestrator.drivers.multikernel.trees.forms import PoolTree
from orchestrator.model.errors import MkupgradeError
from orchestrator.model.host import Capability


class Feature(StrEnum):
    """What is looked for."""

    FILE_SYSTEM = "multikernel"
    LIBFDT = "device-trees"
    POOL = "pool"
    GRANULE = "memory-granule"
    """The kernel says by how much memory moves."""
    CONSOLE = "instance-console"
    VSOCK = "instance-vsock"


def probe(kernel: Kernel) -> dict[Feature, Capability]:
    """Each feature with its reason. Changes nothing, and asks an ordinary kernel nothing more."""
    reason = kernel.why_not()
    if reason is not None:
        return {feature: _no(reason) for feature in Feature}
    found = {Feature.FILE_SYSTEM: _yes("the multikernel file system is mounted")}
    try:
        pool = look(kernel).pool
    except MkupgradeError as error:
        unread = _no(f"not known: {error.what}")
        for feature in (Feature.LIBFDT, Feature.POOL, Feature.GRANULE):
            found[feature] = unread
    else:
        found |= _of_pool(pool)
    console, vsock = kernel.no_console(), kernel.no_vsock()
    found[Feature.CONSOLE] = _no(console) if console else _yes("/dev/mktty is there")
    found[Feature.VSOCK] = (
        _no(vsock) if vsock else _yes("sockets to instances can be made (AF_VSOCK)")
    )
    return found


def _of_pool(pool: PoolTree) -> dict[Feature, Capability]:
    found = {Feature.LIBFDT: _yes("the kernel's device trees can be read")}
    if pool.there:
        size = sum(region.size for region in pool.memory) >> 20
        found[Feature.POOL] = _yes(
            f"{len(pool.cpus)} CPUs, {len(pool.free_cpus)} of them free, and {size} MiB in "
            f"{len(pool.memory)} chunks"
        )
    else:
        found[Feature.POOL] = _no("no CPUs and memory have been set aside for instances")
    found[Feature.GRANULE] = (
        _no("this kernel does not say by how much memory moves; 128 MiB on x86")
        if pool.granule is None
        else _yes(f"memory moves by {pool.granule >> 20} MiB")
    )
    return found


def _yes(reason: str) -> Capability:
    return Capability(available=True, reason=reason)


def _no(reason: str) -> Capability:
    return Capability(available=False, reason=reason)
