"""A pretend host in a temporary directory, and a walk through a plan without the engine."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import networkx as nx
import pytest

from orchestrator import planning
from orchestrator.drivers.simulated import PretendImage, SimulatedDriver, write_image
from orchestrator.model.seams import Result, StepContext
from orchestrator.model.spec import UpgradeSpec
from orchestrator.model.steps import Inspected, Section, Step, StepGraph


class Patient:
    """A `Control` that never runs out of time."""

    def __init__(self, remaining: float = 60.0, *, stopped: bool = False) -> None:
        self._remaining, self._stopped = remaining, stopped
        self.said: list[str] = []

    def remaining(self) -> float:
        return self._remaining

    def stopped(self) -> bool:
        return self._stopped

    def progress(self, text: str, fraction: float | None = None) -> None:
        self.said.append(text)


@dataclass
class Walk:
    """One transaction, walked through by hand."""

    driver: SimulatedDriver
    graph: StepGraph
    state_dir: Path
    results: dict[str, Result] = field(default_factory=dict)
    intended: dict[str, str] = field(default_factory=dict)
    control: Patient = field(default_factory=Patient)
    digested: tuple[StepGraph, str] | None = None

    def plan_digest(self) -> str:
        """Of the graph that is walked, taken once: it costs more than most steps."""
        if self.digested is None or self.digested[0] is not self.graph:
            self.digested = (self.graph, self.graph.digest())
        return self.digested[1]

    def context(self, step: Step) -> StepContext:
        return StepContext(
            transaction="t1",
            plan_digest=self.plan_digest(),
            state_dir=self.state_dir,
            section=step.section,
            attempt=1,
            results=self.results,
            control=self.control,
            intended_boot_id=self.intended.get(step.id),
        )

    def perform(self, step_id: str) -> Result:
        step = self.graph.step(step_id)
        self.intended[step_id] = self.driver.world().boot_id
        self.results[step_id] = self.driver.perform(step, self.context(step))
        return self.results[step_id]

    def inspect(self, step_id: str) -> Inspected:
        step = self.graph.step(step_id)
        return self.driver.inspect(step, self.context(step))

    def revert(self, step_id: str) -> Result:
        step = self.graph.step(step_id)
        result = self.driver.revert(step, self.context(step))
        self.results.pop(step_id, None)
        return result

    def order(self, section: Section) -> list[str]:
        return list(nx.lexicographical_topological_sort(self.graph.as_networkx(section)))

    def run(self, section: Section, *, until: str | None = None) -> None:
        """Every step of the section in order, up to but without `until`."""
        for step_id in self.order(section):
            if step_id == until:
                return
            self.perform(step_id)

    def revert_all(self, section: Section) -> None:
        for step_id in reversed(self.order(section)):
            if step_id in self.results:
                self.revert(step_id)

    def running(self) -> dict[str, tuple[int, int]]:
        """(life, counter) of the workloads that run in this very boot."""
        world = self.driver.world()
        return {
            name: (w.life, w.counter)
            for name, w in world.workloads.items()
            if w.status == "running" and w.boot_id == world.boot_id
        }


@dataclass
class Place:
    """A state directory with pretend images in it."""

    directory: Path

    @property
    def new_image(self) -> Path:
        return self.directory / "boot" / "vmlinuz-7.3.4"

    @property
    def old_image(self) -> Path:
        return self.directory / "boot" / "vmlinuz-7.2.13"

    def spec(self, workloads: Iterable[dict[str, Any]] = (), **rest: Any) -> UpgradeSpec:
        return UpgradeSpec.model_validate(
            {
                "api_version": "mkupgrade/v1",
                "metadata": {"name": "pretend"},
                "host": {"driver": "simulated", "state_dir": str(self.directory)},
                "instances": [
                    {"name": "host", "kernel": {"image": str(self.new_image), "release": "7.3.4"}}
                ],
                "workloads": [workload(**w) for w in workloads],
            }
            | rest
        )

    def images(self, **new: Any) -> None:
        """The old kernel's image, and the new one's with what is different about it."""
        write_image(self.old_image, PretendImage(release="7.2.13"))
        write_image(self.new_image, PretendImage.model_validate({"release": "7.3.4"} | new))

    def driver(self, spec: UpgradeSpec, **rest: Any) -> SimulatedDriver:
        host_file = self.directory / "simulated-host.json"
        rest = {"image": self.old_image, "sync": False} | rest
        return SimulatedDriver.create(host_file, spec, **rest)

    def again(self, **rest: Any) -> SimulatedDriver:
        """The same host, from another process."""
        return SimulatedDriver(self.directory / "simulated-host.json", sync=False, **rest)

    def walk(self, workloads: Iterable[dict[str, Any]] = ({},), **rest: Any) -> Walk:
        """A plan of this spec, and a driver to walk it with."""
        if not self.new_image.exists():
            self.images()
        spec = self.spec(workloads, **rest)
        driver = self.driver(spec)
        return Walk(driver, planning.plan(spec, driver.observe(spec)), self.directory)


def workload(name: str = "counter", **rest: Any) -> dict[str, Any]:
    found = {"name": name, "instance": "host", "find": {"cmdline": name}}
    return found | {"migrate": {"method": "criu"}} | rest


@pytest.fixture(scope="session")
def make_place() -> type[Place]:
    """For tests that need several."""
    return Place


@pytest.fixture
def place(tmp_path: Path) -> Place:
    directory = tmp_path / "state"
    directory.mkdir(mode=0o700)
    return Place(directory)


@pytest.fixture
def in_memory() -> Iterator[Place]:
    """A place on a file system in memory, where the host has one."""
    shm = Path("/dev/shm")
    parent = shm if os.access(shm, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="mkupgrade-test-", dir=parent) as directory:
        yield Place(Path(directory))
