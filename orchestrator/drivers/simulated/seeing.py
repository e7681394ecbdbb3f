"""The pretend host as the planner sees it."""

from __future__ import annotations

from pathlib import PurePosixPath

from orchestrator.drivers.simulated.images import artifact
from orchestrator.drivers.simulated.world import World
from orchestrator.model.host import (
    Artifact,
    BootState,
    Cap,
    Capability,
    HostState,
    KernelState,
    SystemState,
    WorkloadState,
)
from orchestrator.model.spec import UpgradeSpec

MEMORY = 4 * 2**30


def host_state(world: World, spec: UpgradeSpec) -> HostState:
    """What `observe` says; reads the files that the spec and the host name."""
    kernel = world.kernel
    files = _artifacts(world, spec)
    return HostState(
        driver="simulated",
        machine_id=world.machine_id,
        hostname=world.hostname,
        boot_id=world.boot_id,
        kernel=KernelState(
            release=kernel.release,
            version="pretend",
            cmdline=kernel.cmdline,
            abi=kernel.abi,
            image=kernel.image,
            initrd=kernel.initrd,
            system=booted_system(kernel.cmdline),
        ),
        kexec_loaded=world.loaded is not None,
        boot=_boot(world),
        cpus=2,
        memory_bytes=MEMORY,
        memory_available_bytes=MEMORY // 2,
        systemd_version=262,
        criu_version="4.2.1",
        signature_enforced=world.signature_enforced,
        capabilities=_capabilities(world, files) | world.capabilities,
        artifacts=files,
        systems=_systems(world, spec),
        workloads={w.name: _workload(world, w.name) for w in spec.workloads},
    )


def booted_system(cmdline: str) -> str | None:
    """The NixOS system that a pretend kernel came from: what its `init=` is in."""
    words = [word for word in cmdline.split() if word.startswith("init=")]
    init = PurePosixPath(words[-1].partition("=")[2]) if words else None
    return str(init.parent) if init is not None and init.is_absolute() else None


def _systems(world: World, spec: UpgradeSpec) -> dict[str, SystemState]:
    """A pretend host takes another kernel for every other system."""
    booted = booted_system(world.kernel.cmdline)
    named = {str(i.kernel.toplevel) for i in spec.instances if i.kernel.toplevel is not None}
    return {
        top: SystemState(
            toplevel=top, reasons=[] if top == booted else [f"system: {booted} -> {top}"]
        )
        for top in sorted(named)
    }


def _boot(world: World) -> BootState:
    if world.loader == "none":
        return BootState()
    entries = {name: entry.release for name, entry in world.entries.items()}
    return BootState(loader=world.loader, default=world.default, entries=entries)


def _artifacts(world: World, spec: UpgradeSpec) -> dict[str, Artifact]:
    files = []
    for instance in spec.instances:
        kernel = instance.kernel
        files.append(artifact(str(kernel.image), "image"))
        if kernel.initrd:
            files.append(artifact(str(kernel.initrd), "initrd"))
        if kernel.modules:
            files.append(artifact(str(kernel.modules), "modules"))
    old = spec.rollback.kernel
    image = str(old.image) if old else world.kernel.image
    initrd = (str(old.initrd) if old.initrd else None) if old else world.kernel.initrd
    if image:
        files.append(artifact(image, "image"))
    if initrd:
        files.append(artifact(initrd, "initrd"))
    return {file.path: file for file in files}


_OTHERS = (Cap.SIDE_BY_SIDE, Cap.INSTANCE_VSOCK)


def _capabilities(world: World, files: dict[str, Artifact]) -> dict[Cap, Capability]:
    yes = Capability(available=True, reason="as on every pretend host")
    found: dict[Cap, Capability] = {cap: yes for cap in Cap if cap not in _OTHERS}
    alone = Capability(available=False, reason="a pretend host runs one kernel at a time")
    found |= dict.fromkeys(_OTHERS, alone)
    kernel = world.kernel
    if not kernel.kho:
        found[Cap.KHO] = found[Cap.LUO] = Capability(
            available=False,
            reason="CONFIG_KEXEC_HANDOVER is not set in the running (pretend) kernel",
        )
    elif not kernel.hands_over:
        found[Cap.KHO] = found[Cap.LUO] = Capability(
            available=False, reason="kho=on liveupdate=on are not on the running command line"
        )
    if world.loader == "none":
        found[Cap.BOOT_DEFAULT] = Capability(available=False, reason="no boot loader was found")
    old = files.get(kernel.image or "")
    if old is None or old.error:
        why = f"{kernel.image}: {old.error}" if old else "the running kernel's image is not known"
        found[Cap.OLD_KERNEL] = Capability(available=False, reason=why)
    return found


def _workload(world: World, name: str) -> WorkloadState:
    workload = world.workloads.get(name)
    if workload is None:
        return WorkloadState(name=name, error="there is no such workload on the pretend host")
    if workload.status != "running":
        return WorkloadState(name=name, error=f"it does not run (it is {workload.status})")
    return WorkloadState(
        name=name,
        pids=[workload.pid, workload.pid + 1],
        memory_bytes=workload.memory_bytes,
        volatile_files=workload.volatile_files,
    )
