"""Specs and hosts to plan with: a small sound pair, and ways to change it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.model.host import Cap, Capability, HostState
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


def lack(host: HostState, *names: str) -> HostState:
    """The host without these capabilities."""
    missing = {
        Cap(name): Capability(available=False, reason=f"{name} is broken here") for name in names
    }
    return host.model_copy(update={"capabilities": host.capabilities | missing})


def _put(data: dict[str, Any], key: str, value: Any) -> None:
    *way, last = key.split("__")
    part: Any = data
    for name in way:
        part = part[int(name)] if isinstance(part, list) else part.setdefault(name, {})
    part[last] = value


def make_a_spec(**changes: Any) -> UpgradeSpec:
    """A spec; keywords replace whole top-level keys, "a__b" reaches into "a"."""
    data = copy.deepcopy(spec_data())
    for key, value in changes.items():
        _put(data, key, value)
    return UpgradeSpec.model_validate(data)


def make_a_host(spec: UpgradeSpec, **changes: Any) -> HostState:
    """A host for a spec; keywords replace keys, "kernel__release" reaches into "kernel"."""
    data = copy.deepcopy(host_data(spec))
    for key, value in changes.items():
        _put(data, key, value)
    return HostState.model_validate(data)


@pytest.fixture
def make_spec() -> SpecMaker:
    return make_a_spec


@pytest.fixture
def make_host() -> HostMaker:
    return make_a_host


@pytest.fixture
def without() -> HostMaker:
    """(host, capability, …) -> the host without them."""
    return lack


@pytest.fixture
def workload_data() -> Callable[..., dict[str, Any]]:
    """A workload of a spec as data: name, and keys to replace."""
    return workload


@pytest.fixture(scope="session")
def session_makers() -> tuple[SpecMaker, HostMaker, HostMaker]:
    """All three, for properties."""
    return make_a_spec, make_a_host, lack
