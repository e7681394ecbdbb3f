"""Whatever goes wrong: CPUs and memory are conserved, and a workload is in one place."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from orchestrator.model.outcomes import Outcome
from orchestrator.model.steps import Section
from tests.drivers.multikernel.scene import Dying, Once, Scene
from tests.support.memory import in_memory
from tests.support.multikernel.settings import Spawn

NAMES = ("web", "api", "batch")
CHECK = {"name": "yes", "kind": "command", "run": ["true"]}
FAULTS = ("fails in the overlay", "loses a CPU", "lock held")
KERNELS = {
    "never answers": Spawn(boots_in=10_000, ready_in=None),
    "panics": Spawn(boots_in=50, halts_at=3),
    "hangs": Spawn(wedges_at=0),
}


class Faulty(Dying):
    """At given calls for given steps something goes wrong, once each."""

    def __init__(self, scene: Scene, faults: dict[tuple[str, str], str]) -> None:
        super().__init__(scene.driver(), "none", after=False)
        self._scene = scene
        self._left = dict(faults)

    def perform(self, step: Any, context: Any) -> Any:
        return self._call("perform", self._alive.perform, step, context)

    def revert(self, step: Any, context: Any) -> Any:
        return self._call("revert", self._alive.revert, step, context)

    def _call(self, name: str, call: Callable[..., Any], step: Any, context: Any) -> Any:
        fault = self._left.pop((name, step.id), None)
        faults = self._scene.double.world.faults
        if fault == "fails in the overlay":
            faults.fail_at = {0: 12}
        elif fault == "loses a CPU":
            faults.soft_fail_cpus = Once(step.params.get("cpus", [])[:1] or [8])
        elif fault == "lock held":
            faults.kexec_lock_busy = 3
        return call(step, context)


def places(scene: Scene) -> dict[str, set[str]]:
    """Where each workload runs, by what its commands were told."""
    found = {"shop": {"web"}, "db": {"batch"}}
    path = scene.directory / "log"
    for line in path.read_text().splitlines() if path.exists() else ():
        verb, name, instance = line.split()
        (found[name].add if verb == "start" else found[name].discard)(instance)
    return found


def assert_conserved(scene: Scene, before: dict[str, Any]) -> None:
    world, now = scene.double.world, scene.picture()
    had = [cpu for it in world.instances.values() for cpu in it.cpus]
    assert sorted([*had, *now["free CPUs"]]) == now["members"] == before["members"]
    owned = sum(region.size for it in world.instances.values() for region in it.regions)
    were = sum(region.size for it in before["instances"].values() for region in it[3])
    assert owned + now["free memory"] == were + before["free memory"]
    assert world.wrecked == []


@st.composite
def troubles(draw: st.DrawFn, steps: list[str]) -> dict[tuple[str, str], str]:
    call = st.tuples(st.sampled_from(["perform", "revert"]), st.sampled_from(steps))
    return draw(st.dictionaries(call, st.sampled_from(FAULTS), max_size=4))


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(data=st.data(), kind=st.sampled_from(["replace", "rolling", "canary", "surge"]))
def test_any_faults_conserve_cpus_and_memory_and_leave_a_workload_in_one_place(
    data: st.DataObject, kind: str
) -> None:
    with tempfile.TemporaryDirectory() as name, in_memory(Path(name)) as directory:
        scene = Scene.three(directory)
        workloads = [scene.workload("shop", "web"), scene.workload("db", "batch")]
        instances = (
            [scene.instance(it) for it in NAMES] if kind == "surge" else scene.same_size(*NAMES)
        )
        strategy = {"kind": kind, "max_unavailable": data.draw(st.integers(1, 2))}
        graph = scene.plan(
            scene.replacing(
                instances=instances, workloads=workloads, strategy=strategy, checks=[CHECK]
            )
        )
        before = scene.picture()
        bad = data.draw(st.dictionaries(st.sampled_from(NAMES), st.sampled_from(sorted(KERNELS))))
        scene.double.world.spawns |= {f"{it}-g2": KERNELS[how] for it, how in bad.items()}
        driver = Faulty(scene, data.draw(troubles([it.id for it in graph.steps])))
        outcome = scene.run(graph, driver).outcome
        event(outcome.value)
        assert_conserved(scene, before)
        now = places(scene)
        assert all(len(where) <= 1 for where in now.values())
        if outcome is Outcome.COMMITTED:
            assert now == {"shop": {"web-g2"}, "db": {"batch-g2"}}
        if outcome is Outcome.ROLLED_BACK:
            assert now == {"shop": {"web"}, "db": {"batch"}}
            assert scene.picture() == before


@pytest.mark.slow
@pytest.mark.timeout(600)
@settings(max_examples=15, deadline=None)
@given(data=st.data(), kind=st.sampled_from(["replace", "rolling", "surge"]))
def test_any_faults_on_the_way_back_conserve_cpus_and_memory_and_leave_a_workload_in_one_place(
    data: st.DataObject, kind: str
) -> None:
    with tempfile.TemporaryDirectory() as name, in_memory(Path(name)) as directory:
        scene = Scene.three(directory)
        workloads = [scene.workload("shop", "web"), scene.workload("db", "batch")]
        instances = (
            [scene.instance(it) for it in NAMES] if kind == "surge" else scene.same_size(*NAMES)
        )
        graph = scene.plan(
            scene.replacing(instances=instances, workloads=workloads, strategy={"kind": kind})
        )
        before = scene.picture()
        assert scene.run(graph).outcome is Outcome.COMMITTED
        bad = data.draw(st.dictionaries(st.sampled_from(NAMES), st.sampled_from(sorted(KERNELS))))
        scene.double.world.spawns |= {it: KERNELS[how] for it, how in bad.items()}
        steps = [it.id for it in graph.steps if it.section is not Section.FORWARD]
        outcome = scene.roll_back(Faulty(scene, data.draw(troubles(steps)))).outcome
        event(str(outcome))
        assert_conserved(scene, before)
        assert all(len(where) <= 1 for where in places(scene).values())
        scene.double.world.spawns.clear()
        scene.double.world.clock.advance(60)
        for _ in range(3):
            if outcome is not Outcome.ROLLBACK_INCOMPLETE:
                break
            outcome = scene.run(last=True).outcome
            assert_conserved(scene, before)
        assert outcome is Outcome.ROLLED_BACK
        assert places(scene) == {"shop": {"web"}, "db": {"batch"}}
        assert set(scene.states()) == set(NAMES)
