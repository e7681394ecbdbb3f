"""The whole document, and the rules between its parts."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import Field

from orchestrator.model.base import Strict, digest
from orchestrator.model.spec.checks import Check
from orchestrator.model.spec.instances import Instance
from orchestrator.model.spec.names import AbsolutePath, Label, Name
from orchestrator.model.spec.policy import Hooks, Retry, Rollback, Soak, Strategy
from orchestrator.model.spec.workloads import Workload

DriverName = Literal["auto", "live-update", "multikernel", "simulated"]


class Metadata(Strict):
    name: Name
    labels: dict[Label, str] = {}
    description: str | None = None


class Host(Strict):
    driver: DriverName = "auto"
    state_dir: AbsolutePath = PurePosixPath("/var/lib/mkupgrade")
    """Journal, spilled state and lock: 0700, on a file system that survives a reset."""


class UpgradeSpec(Strict):
    """`plan.yaml`."""

    api_version: Literal["mkupgrade/v1"]
    metadata: Metadata
    host: Host = Host()
    instances: Annotated[list[Instance], Field(min_length=1)]
    workloads: list[Workload] = []
    checks: list[Check] = []
    strategy: Strategy = Strategy()
    soak: Soak = Soak()
    rollback: Rollback = Rollback()
    retry: Retry = Retry()
    hooks: Hooks = Hooks()

    def digest(self) -> str:
        """SHA-256 of the meaning: comments, order of keys and spelling of units do not count."""
        return digest(self.model_dump(mode="json"))
