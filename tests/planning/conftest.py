"""Specs and hosts to plan with: a small sound pair, and ways to change it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.model.host import HostState
from orchestrator.model.spec import UpgradeSpec

IMAGE = "/boot/vmlinuz-7.3.4"
OLD_IMAGE = "/boot/vmlinuz-7.2.13"
ABI = {"kho": "kho-v4", "luo": "luo-v5", "memfd": "memfd-v2"}
CAPABILITIES = [
    "root", "kexec-file", "kho", "luo", "criu", "criu-tcp", "time-namespace", "systemd",
    "boot-default", "watchdog", "old-kernel", "durable-state",
]  # fmt: skip

SpecMaker = Callable[..., UpgradeSpec]
HostMaker = Callable[..., HostState]


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
    image = {"kind": "image", "size": 12 * 2**20, "pe_signed": False}
    return {
        "driver": "simulated",
        "machine_id": "c0ffee",
        "hostname": "guest",
        "boot_id": "boot-1",
        "kernel": {
            "release": "7.2.13",
            "cmdline": "BOOT_IMAGE=/vmlinuz root=/dev/vda quiet",
            "abi": ABI,
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
                "abi": ABI,
                "kho_config": True,
            },
            OLD_IMAGE: image | {"path": OLD_IMAGE, "sha256": "b" * 64, "release": "7.2.13"},
        },
        "workloads": {
            w.name: {"name": w.name, "pids": [100 + n, 200 + n], "memory_bytes": 12 * 2**20}
            for n, w in enumerate(spec.workloads)
        },
    } | rest


@pytest.fixture
def make_spec() -> SpecMaker:
    """A spec; keywords replace whole top-level keys."""

    def make(**rest: Any) -> UpgradeSpec:
        return UpgradeSpec.model_validate(spec_data(**rest))

    return make


@pytest.fixture
def make_host() -> HostMaker:
    """A host for a spec; keywords "kernel__release" reach into parts, None-valued ones too."""

    def make(spec: UpgradeSpec, **changes: Any) -> HostState:
        data = host_data(spec)
        for key, value in changes.items():
            *way, last = key.split("__")
            part = data
            for name in way:
                part = part[name]
            part[last] = value
        return HostState.model_validate(data)

    return make
