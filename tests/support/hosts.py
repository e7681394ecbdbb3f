"""A small sound spec and its host, as data: what planner and command line are tried on."""

from __future__ import annotations

from typing import Any

from orchestrator.model.spec import UpgradeSpec

IMAGE = "/boot/vmlinuz-7.3.4"
OLD_IMAGE = "/boot/vmlinuz-7.2.13"
ABI = {"kho": "kho-v4", "luo": "luo-v5", "memfd": "memfd-v2"}
CAPABILITIES = [
    "root", "kexec-file", "kho", "luo", "criu", "criu-tcp", "time-namespace", "systemd",
    "boot-default", "watchdog", "old-kernel", "durable-state", "resume-at-boot",
]  # fmt: skip


def workload(name: str = "counter", **rest: Any) -> dict[str, Any]:
    return {
        "name": name,
        "instance": "host",
        "find": {"cmdline": name},
        "migrate": {"method": "criu"},
    } | rest


def spec_data(**rest: Any) -> dict[str, Any]:
    return {
        "api_version": "mkupgrade/v1",
        "metadata": {"name": "kernel-7.3"},
        "instances": [{"name": "host", "kernel": {"image": IMAGE, "release": "7.3.4"}}],
        "workloads": [workload()],
    } | rest


def host_data(spec: UpgradeSpec, **rest: Any) -> dict[str, Any]:
    """A host that can do everything, and runs every workload of the spec."""
    image = {"kind": "image", "size": 12 * 2**20, "pe_signed": False}
    return {
        "driver": "simulated",
        "machine_id": "c0ffee",
        "hostname": "guest",
        "boot_id": "boot-1",
        "kernel": {
            "release": "7.2.13",
            "cmdline": "BOOT_IMAGE=/vmlinuz root=/dev/vda quiet",
            "abi": dict(ABI),
            "image": OLD_IMAGE,
        },
        "boot": {"loader": "systemd-boot", "default": "old", "entries": {"old": "7.2.13"}},
        "capabilities": {c: {"available": True, "reason": "seen"} for c in CAPABILITIES},
        "artifacts": {
            IMAGE: image
            | {
                "path": IMAGE,
                "sha256": "a" * 64,
                "release": "7.3.4",
                "abi": dict(ABI),
                "kho_config": True,
            },
            OLD_IMAGE: image | {"path": OLD_IMAGE, "sha256": "b" * 64, "release": "7.2.13"},
        },
        "workloads": {
            w.name: {"name": w.name, "pids": [100 + n, 200 + n], "memory_bytes": 12 * 2**20}
            for n, w in enumerate(spec.workloads)
        },
    } | rest
