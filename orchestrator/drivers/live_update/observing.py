"""What the driver sees of the host: everything the planner may know, with reasons."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from orchestrator.drivers.live_update.parts import Parts
from orchestrator.model.host import Artifact, Cap, Capability, HostState, KernelState
from orchestrator.model.spec import UpgradeSpec
from orchestrator.nixos import staging
from orchestrator.nixos.observing import booted_secrets, system_states
from orchestrator.system import capabilities, kernel_image, proc, running, systemd

_OTHERS = (Cap.SIDE_BY_SIDE, Cap.INSTANCE_VSOCK)
_ONE_AT_A_TIME = Capability(
    available=False, reason="live update replaces the running kernel: one runs at a time"
)
_Kind = Literal["image", "initrd", "modules"]


def observe(spec: UpgradeSpec, state_dir: Path, parts: Parts, driver: str) -> HostState:
    """Look at the host, as far as the spec is concerned. Changes nothing."""
    kernel = running.kernel_state()
    if kernel.system is not None:
        kernel = kernel.model_copy(update={"initrd_secrets": booted_secrets()})
    kexec = running.kexec_state()
    boot = parts.boot.state()
    memory, boot_id = proc.memory(), proc.boot_id()
    device = spec.rollback.watchdog
    found = capabilities.observe(state_dir, kernel, boot, str(device) if device else None)
    return HostState(
        driver=driver,
        machine_id=proc.machine_id(),
        hostname=proc.hostname(),
        boot_id=boot_id,
        kernel=kernel,
        kexec_loaded=kexec.loaded and staging.preloaded(state_dir, boot_id) is None,
        boot=boot,
        cpus=proc.cpus(),
        memory_bytes=memory.total,
        memory_available_bytes=memory.available,
        systemd_version=systemd.version(),
        criu_version=capabilities.criu_version(),
        signature_enforced=kexec.signature_enforced,
        capabilities={**found, **dict.fromkeys(_OTHERS, _ONE_AT_A_TIME)},
        systems=system_states(spec),
        artifacts={a.path: a for a in _artifacts(spec, kernel)},
        workloads={w.name: parts.workloads.find(w) for w in spec.workloads},
    )


def _artifacts(spec: UpgradeSpec, kernel: KernelState) -> Iterator[Artifact]:
    for path, kind in dict(_named(spec, kernel)).items():
        if kind == "image":
            yield kernel_image.inspect_image(path)
        elif kind == "initrd":
            yield kernel_image.inspect_initrd(path)
        else:
            yield kernel_image.inspect_modules(path)


def _named(spec: UpgradeSpec, kernel: KernelState) -> Iterator[tuple[str, _Kind]]:
    """The files of the new kernels, and those of the way back."""
    for instance in spec.instances:
        yield str(instance.kernel.image), "image"
        if instance.kernel.initrd is not None:
            yield str(instance.kernel.initrd), "initrd"
        if instance.kernel.modules is not None:
            yield str(instance.kernel.modules), "modules"
    old = spec.rollback.kernel
    image = str(old.image) if old else kernel.image
    initrd = (str(old.initrd) if old.initrd else None) if old else kernel.initrd
    if image is not None:
        yield image, "image"
    if initrd is not None:
        yield initrd, "initrd"
