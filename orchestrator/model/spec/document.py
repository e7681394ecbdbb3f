"""The whole document, and the rules between its parts."""

from __future__ import annotations

from collections.abc import Container
from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import Field

from orchestrator.model.base import Strict, digest
from orchestrator.model.quantities import Size
from orchestrator.model.spec.checks import Check, Phase
from orchestrator.model.spec.instances import Instance
from orchestrator.model.spec.names import AbsolutePath, Label, Name
from orchestrator.model.spec.policy import Hooks, Retry, Rollback, Soak, Strategy
from orchestrator.model.spec.workloads import Workload

DriverName = Literal["auto", "live-update", "multikernel", "simulated"]


class Metadata(Strict):
    """What the upgrade is called."""

    name: Name
    """The plan's name, in reports and in the journal."""
    labels: dict[Label, str] = {}
    """Free pairs of text, for whoever sorts reports."""
    description: str | None = None
    """Free text."""


class Pool(Strict):
    """What the host sets aside for instances; a key that is left out stays as it is."""

    cpus: Annotated[int, Field(ge=1)] | None = None
    """Number of CPUs, with those that instances have."""
    memory: Size | None = None
    """Memory, likewise, such as "16GiB"."""


class Host(Strict):
    """The machine, and how kernels are run on it."""

    driver: DriverName = "auto"
    """`auto`: what the host can do."""
    state_dir: AbsolutePath = PurePosixPath("/var/lib/mkupgrade")
    """Journal, spilled state and lock: 0700, on a file system that survives a reset."""
    allow_volatile_state: bool = False
    """Take a state directory that looks lost at a reset (tmpfs, an overlay on it): you know that
    it is kept, or accept that a lost one leaves workloads down and nobody to go on."""
    pool: Pool | None = None
    """What is set aside for instances; for drivers that place them side by side."""


class UpgradeSpec(Strict):
    """The desired state: what should be, never how (`plan.yaml`)."""

    api_version: Literal["mkupgrade/v1"]
    """The version of this format."""
    metadata: Metadata
    """Name and labels."""
    host: Host = Host.model_construct()
    """The machine, and how kernels are run on it."""
    instances: Annotated[list[Instance], Field(min_length=1)]
    """Kernels: on a host with one kernel there is one, the host itself."""
    workloads: list[Workload] = []
    """What must go on."""
    checks: list[Check] = []
    """Tests of the whole host; `kind` says which keys there are."""
    strategy: Strategy = Strategy.model_construct()
    """In which order instances are taken."""
    soak: Soak = Soak.model_construct()
    """How long the checks must go on passing before commit."""
    rollback: Rollback = Rollback.model_construct()
    """The way back."""
    retry: Retry = Retry.model_construct()
    """What is tried again, per class of step."""
    hooks: Hooks = Hooks.model_construct()
    """Commands of yours, before and after."""

    def checks_of(self, phase: Phase, instances: Container[str] | None = None) -> list[Check]:
        """Its own, then those of the workloads in these instances (None: in all), of a phase."""
        among = [w for w in self.workloads if instances is None or w.instance in instances]
        theirs = (check for workload in among for check in workload.checks)
        return [check for check in (*self.checks, *theirs) if phase in check.when]

    def digest(self) -> str:
        """SHA-256 of the meaning: comments, order of keys and spelling of units do not count."""
        return digest(self.model_dump(mode="json"))
