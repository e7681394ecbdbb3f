"""What the driver sees of the host and its instances: what the kernel says, not our records."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from orchestrator.drivers.multikernel import agents
from orchestrator.drivers.multikernel.keeping import kept
from orchestrator.drivers.multikernel.kernel import Kernel, RealKernel
from orchestrator.drivers.multikernel.probing import Feature, probe
from orchestrator.drivers.multikernel.proc import physical_ids
from orchestrator.drivers.multikernel.seeing import SeenInstance, Snapshot, look
from orchestrator.model.errors import NotSupportedError
from orchestrator.model.host import (
    Artifact,
    Cap,
    Capability,
    HostState,
    InstanceState,
    MemoryPiece,
    PoolState,
    SideBySide,
)
from orchestrator.model.spec import UpgradeSpec
from orchestrator.system import boot_loaders, capabilities, kernel_image, proc
from orchestrator.system import running as host_kernel
from orchestrator.system.guard import HostGuard

GRANULE = 128 << 20
"""By which memory moves on x86 where the kernel does not say."""


def observe(spec: UpgradeSpec, state_dir: Path, kernel: Kernel, driver: str) -> HostState:
    """Look; changes nothing.

    Raises:
        NotSupportedError: no multikernel kernel. MkupgradeError: it does not come to rest.
    """
    now = look(kernel)
    own = host_kernel.kernel_state()
    boot, memory = boot_loaders.observe(), proc.memory()
    found = capabilities.observe(state_dir, own, boot, None)
    return HostState(
        driver=driver,
        machine_id=proc.machine_id(),
        hostname=proc.hostname(),
        boot_id=proc.boot_id(),
        kernel=own,
        boot=boot,
        cpus=proc.cpus(),
        cpu_ids=physical_ids(kernel.processors()),
        memory_bytes=memory.total,
        memory_available_bytes=memory.available,
        signature_enforced=host_kernel.kexec_state().signature_enforced,
        capabilities={
            **found,
            Cap.SIDE_BY_SIDE: side_by_side(kernel, now),
            Cap.INSTANCE_VSOCK: probe(kernel)[Feature.VSOCK],
        },
        artifacts={it.path: it for it in _artifacts(spec)},
        pool=_pool(now),
        instances={it.name: it for it in _instances(now, _agents(state_dir, now))},
        strategies=["surge", "replace", "rolling", "canary", "blue-green"],
    )


def seen_here(state_dir: Path, transactions: Iterable[str]) -> SideBySide | None:
    """Pool and instances of this machine; None: its kernel is no multikernel kernel.

    Args:
        transactions: committed ones, that may keep old generations.

    Raises:
        MkupgradeError: what the kernel says cannot be read, or does not come to rest.
    """
    kernel = RealKernel(HostGuard.open())
    if kernel.why_not() is not None:
        return None
    now = look(kernel)
    there = {(name, it.tree.id) for name, it in now.instances.items()}
    held = [it for it in kept(state_dir, transactions) if (it.name, it.id) in there]
    return SideBySide(pool=_pool(now), instances=list(_instances(now, {})), kept=held)


def side_by_side(kernel: Kernel, now: Snapshot) -> Capability:
    """Can generations be run beside each other?"""
    pool = probe(kernel)[Feature.POOL]
    if not pool.available:
        return pool
    if oddities := now.oddities():
        return Capability(available=False, reason="; ".join(oddities[:3]))
    return pool


def _pool(now: Snapshot) -> PoolState | None:
    """A part of the pool's memory is its own, for CPUs at rest: less than a granule."""
    pool = now.pool
    if not pool.there:
        return None
    total = sum(region.size for region in pool.memory)
    used = sum(it.tree.memory_bytes for it in now.instances.values())
    granule = pool.granule or GRANULE
    free = max(0, total - used - 1) // granule * granule
    return PoolState(
        cpus=list(pool.cpus),
        free_cpus=list(pool.free_cpus),
        memory_bytes=total,
        chunks=[MemoryPiece(base=it.base, size=it.size) for it in pool.memory],
        free_memory_bytes=free,
        devices=[device.address for device in pool.pci],
        granule=granule,
    )


def _agents(state_dir: Path, now: Snapshot) -> dict[str, int]:
    """Ports of the agents that can be spoken to."""
    there = {name: (it.tree.id, it.cmdline) for name, it in now.instances.items()}
    return agents.ports(state_dir, there)


def _instances(now: Snapshot, ports: Mapping[str, int]) -> Iterator[InstanceState]:
    for name, it in now.instances.items():
        yield InstanceState(
            name=name,
            id=it.tree.id,
            status=it.status.value,
            cpus=list(it.tree.cpus),
            memory_bytes=it.tree.memory_bytes,
            memory=[MemoryPiece(base=r.region.base, size=r.region.size) for r in it.regions],
            devices=[device.address for device in it.tree.pci],
            cmdline=it.cmdline,
            agent=ports.get(name),
            not_remade=_not_remade(it),
        )


def _not_remade(seen: SeenInstance) -> str | None:
    """An overlay gives one piece of memory of the kernel's choice, and PCI devices."""
    if seen.tree.platform:
        return "it has a platform device, which cannot be given to an instance by an overlay"
    if len(seen.regions) > 1:
        return f"its memory is in {len(seen.regions)} pieces, and it would be given one"
    return None


def _artifacts(spec: UpgradeSpec) -> Iterator[Artifact]:
    if old := spec.rollback.kernel:
        yield kernel_image.inspect_instance_image(str(old.image))
        if old.initrd is not None:
            yield kernel_image.inspect_initrd(str(old.initrd))
    for path in {str(it.kernel.image) for it in spec.instances}:
        yield kernel_image.inspect_instance_image(path)
    for path in {str(it.kernel.initrd) for it in spec.instances if it.kernel.initrd}:
        yield kernel_image.inspect_initrd(path)
    for path in {str(it.kernel.modules) for it in spec.instances if it.kernel.modules}:
        yield kernel_image.inspect_modules(path)


def refuse_if_not_there(kernel: Kernel) -> None:
    """Raises: MkupgradeError with the reason."""
    reason = kernel.why_not()
    if reason is not None:
        raise NotSupportedError(
            f"this is no multikernel host: {reason}",
            where="host.driver",
            state="nothing was changed",
            next_command="mkupgrade doctor",
            details=("use host.driver: live-update on a host with one kernel",),
        )
