"""A host with instances web and batch on a double, plans for it, and the real engine."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from orchestrator import planning
from orchestrator.drivers.multikernel.driver import MultikernelDriver
from orchestrator.drivers.multikernel.parts import Parts
from orchestrator.drivers.multikernel.trees.changes import CpuChange, CreateInstance, Verb
from orchestrator.engine.identity import Identity
from orchestrator.engine.journal import Journal
from orchestrator.engine.report import TransactionReport
from orchestrator.engine.transaction import Engine
from orchestrator.model.errors import PlanError
from orchestrator.model.host import Cap, Capability, HostState
from orchestrator.model.spec import UpgradeSpec
from orchestrator.model.steps import StepGraph
from tests.drivers.multikernel.pretend import GIB, VMLINUX, Client
from tests.support.multikernel.double import Double
from tests.support.multikernel.inhabitants import Inhabitants
from tests.support.multikernel.kernel import DoubleKernel
from tests.support.multikernel.settings import NEWER, Variant

RELEASE = "7.1.0-mk3"
IMAGE = b"\x7fELF\0Linux version 7.1.0-mk3 (a@b) #1 SMP\n\0"
MOVER = 'echo "$0 $MKUPGRADE_INSTANCE" >> "$1"'
YES = Capability(available=True, reason="seen")


def _add(client: Client, name: str, number: int, cpus: tuple[int, ...], size: int) -> None:
    assert client.change(CreateInstance(name, number, cpus, size)) == "applied"
    client.load(number)
    client.start(number)
    client.wait(5)


def only_web(variant: Variant = NEWER) -> Double:
    """A host with one instance."""
    client = Client.pooled(variant)
    client.run("web")
    return client.double


def three(variant: Variant = NEWER) -> Double:
    """A host with api and batch beside web, of other sizes."""
    client = Client(only_web(variant))
    _add(client, "api", 3, (12,), GIB // 4)
    _add(client, "batch", 4, (14, 16), GIB // 2)
    return client.double


def three_up_to_date() -> Double:
    """The same three with the kernel that specs here ask for."""
    double = three()
    for name in ("web", "api", "batch"):
        _update(double, name)
    return double


def _update(double: Double, name: str) -> None:
    image = double.world.instances[name].image
    assert image is not None
    image.kernel = IMAGE
    mark = f"mkupgrade.image={hashlib.sha256(IMAGE).hexdigest()[:16]}"
    image.cmdline = f"console=mktty0 {mark}"


def gets_a_cpu(double: Double, name: str, cpu: int) -> None:
    """Somebody else changes an instance."""
    assert Client(double).change(CpuChange(name, Verb.ADD, (cpu,))) == "applied"


@dataclass
class Scene:
    directory: Path
    client: Client
    inhabitants: Inhabitants | None = None

    @classmethod
    def make(cls, directory: Path, variant: Variant = NEWER) -> Scene:
        return cls._over(only_web(variant), directory)

    @classmethod
    def three(cls, directory: Path, variant: Variant = NEWER) -> Scene:
        """With api and batch beside web, of other sizes."""
        return cls._over(three(variant), directory)

    @classmethod
    def _over(cls, double: Double, directory: Path) -> Scene:
        (directory / "vmlinux").write_bytes(IMAGE)
        (directory / "old").write_bytes(VMLINUX)
        return cls(directory, Client(double))

    def add(self, name: str, number: int, cpus: tuple[int, ...], size: int) -> None:
        """Another instance, up."""
        _add(self.client, name, number, cpus, size)

    @property
    def double(self) -> Double:
        return self.client.double

    def driver(self) -> MultikernelDriver:
        clock = self.double.world.clock
        parts = Parts(DoubleKernel(self.double, self.inhabitants), lambda: clock.now, clock.advance)
        return MultikernelDriver(self.directory, parts=parts)

    def spec(self, **rest: Any) -> UpgradeSpec:
        kernel = {"image": str(self.directory / "vmlinux"), "release": RELEASE}
        data = {
            "api_version": "mkupgrade/v1",
            "metadata": {"name": "side-by-side"},
            "host": {"driver": "multikernel", "state_dir": str(self.directory)},
            "instances": [{"name": "web", "kernel": kernel}],
            "strategy": {"kind": "surge"},
            "soak": {"duration": "0s"},
            "rollback": {"boot_deadline": "60s"},
        }
        return UpgradeSpec.model_validate(data | rest)

    def same_size(self, *names: str, **after: list[str]) -> list[dict[str, Any]]:
        """Instances of the spec that get as much as the old ones have."""
        kernel = {"image": str(self.directory / "vmlinux"), "release": RELEASE}
        return [{"name": n, "kernel": kernel, "after": after.get(n, [])} for n in names]

    def instance(self, name: str, **rest: Any) -> dict[str, Any]:
        kernel = {"image": str(self.directory / "vmlinux"), "release": RELEASE}
        size = {"cpus": 1, "memory": "512MiB"}
        return {"name": name, "kernel": kernel, "resources": size} | rest

    def replacing(self, **rest: Any) -> UpgradeSpec:
        """A spec of strategy replace, with the old kernel's image."""
        rollback = {"boot_deadline": "60s", "kernel": {"image": str(self.directory / "old")}}
        return self.spec(**{"strategy": {"kind": "replace"}, "rollback": rollback} | rest)

    def up_to_date(self, *names: str) -> None:
        """These instances run what a spec of this scene asks for, as if by an earlier upgrade."""
        for name in names:
            _update(self.double, name)

    def sized(self, **sizes: tuple[int, str]) -> list[dict[str, Any]]:
        """Instances of the spec, each with this many CPUs and this much memory."""
        return [
            self.instance(name, resources={"cpus": cpus, "memory": memory})
            for name, (cpus, memory) in sizes.items()
        ]

    def workload(self, name: str = "db", instance: str = "web", **rest: Any) -> dict[str, Any]:
        """One that writes into `log` what it is told."""
        log = str(self.directory / "log")
        migrate = {
            "method": "restart",
            "stop": ["sh", "-c", MOVER, f"stop {name}", log],
            "start": ["sh", "-c", MOVER, f"start {name}", log],
        }
        found = {"cmdline": name}
        return {"name": name, "instance": instance, "find": found, "migrate": migrate} | rest

    def log(self) -> list[str]:
        return (self.directory / "log").read_text().splitlines()

    def observe(self, spec: UpgradeSpec) -> HostState:
        """As seen; with what depends on who runs the tests."""
        host = self.driver().observe(spec)
        return host.model_copy(
            update={
                "capabilities": host.capabilities | {Cap.ROOT: YES, Cap.DURABLE_STATE: YES},
                "memory_available_bytes": 12 * GIB,
            }
        )

    def plan(self, spec: UpgradeSpec | None = None) -> StepGraph:
        spec = spec or self.spec()
        return planning.plan(spec, self.observe(spec))

    def causes(self, spec: UpgradeSpec) -> str:
        """Why there is no plan."""
        with pytest.raises(PlanError) as caught:
            self.plan(spec)
        return "\n".join(caught.value.details)

    def run(
        self,
        graph: StepGraph | None = None,
        driver: Any = None,
        *,
        last: bool = False,
        again: bool = False,
    ) -> TransactionReport:
        """Begin with `graph`, or resume what is unfinished.

        Args:
            last: of several transactions the last is that.
            again: also what was rolled back before.
        """
        with self._engine(driver) as (engine, journal):
            if graph is not None:
                return engine.run(engine.begin(graph, again=again))
            *before, unfinished = journal.transactions()
            assert last or not before
            return engine.resume(unfinished.id)

    def roll_back(self, driver: Any = None) -> TransactionReport:
        """The last transaction, which is committed."""
        with self._engine(driver) as (engine, journal):
            return engine.rollback(journal.transactions()[-1].id, "asked for")

    @contextmanager
    def _engine(self, driver: Any) -> Iterator[tuple[Engine, Journal]]:
        identity = Identity(boot_id="boot", release="7.0.0-mk2", pid=os.getpid())
        with (
            Journal.open(self.directory, volatile=lambda _: None) as journal,
            Engine(
                driver or self.driver(), journal, identity=lambda: identity, grace=0.5
            ) as engine,
        ):
            yield engine, journal

    def states(self) -> dict[str, str]:
        return {name: it.status for name, it in self.double.world.instances.items()}

    def picture(self) -> dict[str, Any]:
        """CPUs, memory, devices and instances, as the kernel has them."""
        world = self.double.world
        return {
            "free CPUs": sorted(world.free_cpus()),
            "members": sorted(world.members),
            "memory": world.memory.total(),
            "free memory": sum(it.size for it in world.memory.free()),
            "devices": world.free_pci(),
            "instances": {
                it.name: (
                    it.id,
                    it.status,
                    tuple(it.cpus),
                    tuple(it.regions),
                    tuple(it.pci),
                    it.image and hashlib.sha256(it.image.kernel).hexdigest(),
                    it.image and it.image.cmdline,
                )
                for it in world.instances.values()
            },
        }


class Once(set[int]):
    """CPUs that are dropped the first time that they are asked for."""

    def __contains__(self, cpu: object) -> bool:
        found = super().__contains__(cpu)
        self -= {cpu}
        return found


def drops_once(double: Double, cpu: int) -> None:
    """The kernel drops a CPU the next time that it is asked for."""
    double.world.faults.soft_fail_cpus = Once([cpu])


class Died(BaseException):
    """The process is gone."""


class Dying(MultikernelDriver):
    """Dies right before or right after the effect of one step."""

    def __init__(self, alive: MultikernelDriver, step: str, *, after: bool) -> None:
        self._alive, self._step, self._after = alive, step, after

    def observe(self, spec: Any) -> Any:
        return self._alive.observe(spec)

    def perform(self, step: Any, context: Any) -> Any:
        if step.id != self._step:
            return self._alive.perform(step, context)
        if self._after:
            self._alive.perform(step, context)
        raise Died

    def inspect(self, step: Any, context: Any) -> Any:
        return self._alive.inspect(step, context)

    def revert(self, step: Any, context: Any) -> Any:
        return self._alive.revert(step, context)


__all__ = ["GIB", "IMAGE", "RELEASE", "Died", "Dying", "Once", "Scene"]
