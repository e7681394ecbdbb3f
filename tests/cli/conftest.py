"""Plans without a host, and the command run in this process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from click.testing import CliRunner, Result

from orchestrator.cli.main import cli
from orchestrator.model.host import HostState
from orchestrator.model.spec import UpgradeSpec
from orchestrator.model.steps import StepGraph
from orchestrator.planning import plan

IMAGE = "/boot/vmlinuz-7.3.4"
OLD_IMAGE = "/boot/vmlinuz-7.2.13"
ABI = {"kho": "kho-v4", "luo": "luo-v5", "memfd": "memfd-v2"}
CAPABILITIES = [
    "root", "kexec-file", "kho", "luo", "criu", "criu-tcp", "time-namespace", "systemd",
    "boot-default", "watchdog", "old-kernel", "durable-state",
]  # fmt: skip

Run = Callable[..., Result]
GraphMaker = Callable[..., StepGraph]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """`run("plan", path)`: the command in this process; output and exit code in the result."""
    for name in ("NO_COLOR", "FORCE_COLOR", "MKUPGRADE_STATE_DIR", "MKUPGRADE_LOG"):
        monkeypatch.delenv(name, raising=False)

    def call(*arguments: object, **options: Any) -> Result:
        result = CliRunner().invoke(cli, [str(a) for a in arguments], **options)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return call


def _workload(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "instance": "host",
        "find": {"cmdline": name},
        "migrate": {"method": "criu"},
    }


def _image(path: str, letter: str, release: str, **rest: Any) -> dict[str, Any]:
    return {
        "kind": "image",
        "size": 12 * 2**20,
        "path": path,
        "sha256": letter * 64,
        "release": release,
        "abi": ABI,
        **rest,
    }


@pytest.fixture
def make_graph() -> GraphMaker:
    """A plan for two workloads; `host` replaces keys of the host, others keys of the spec."""

    def make(host: dict[str, Any] | None = None, **rest: Any) -> StepGraph:
        document: dict[str, Any] = {
            "api_version": "mkupgrade/v1",
            "metadata": {"name": "kernel-7.3"},
            "instances": [{"name": "host", "kernel": {"image": IMAGE, "release": "7.3.4"}}],
            "workloads": [_workload("counter"), _workload("shop")],
            **rest,
        }
        spec = UpgradeSpec.model_validate(document)
        seen: dict[str, Any] = {
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
                IMAGE: _image(IMAGE, "a", "7.3.4", kho_config=True),
                OLD_IMAGE: _image(OLD_IMAGE, "b", "7.2.13"),
            },
            "workloads": {
                w.name: {"name": w.name, "pids": [100 + n, 200 + n], "memory_bytes": 12 * 2**20}
                for n, w in enumerate(spec.workloads)
            },
            **(host or {}),
        }
        return plan(spec, HostState.model_validate(seen))

    return make
