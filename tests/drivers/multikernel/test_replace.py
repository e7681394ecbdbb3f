"""Whole upgrades by the real engine: new generations in the place of old ones, and faults."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.drivers.multikernel.trees.changes import CpuChange, DeviceChange, Verb
from orchestrator.drivers.multikernel.trees.changes import CreateInstance as Create
from orchestrator.model.outcomes import Outcome
from orchestrator.model.steps import Section
from tests.drivers.multikernel.pretend import NIC
from tests.drivers.multikernel.scene import GIB, Died, Dying, Once, Scene
from tests.support.memory import in_memory
from tests.support.multikernel.settings import Spawn

NO = {"name": "no", "kind": "command", "run": ["false"], "within": "0s"}


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """In memory: no test here cuts the power."""
    with in_memory(tmp_path) as directory:
        yield Scene.make(directory)


def assert_replaced(scene: Scene) -> None:
    assert scene.states() == {"web-g2": "active"}
    assert scene.client.instance("web-g2").cpus == (8, 10)
    assert scene.double.world.instances["web-g2"].regions[0].size == GIB
    assert scene.double.world.wrecked == []


def test_a_new_generation_has_the_place_of_the_old_one_which_is_gone(scene: Scene) -> None:
    free = sorted(scene.double.world.free_cpus())
    assert scene.run(scene.plan(scene.replacing())).outcome is Outcome.COMMITTED
    assert_replaced(scene)
    assert sorted(scene.double.world.free_cpus()) == free
    assert scene.plan(scene.replacing()).is_empty


def test_a_pool_without_anything_free_is_enough(scene: Scene) -> None:
    left = tuple(scene.double.world.free_cpus())
    free = scene.client.pool().memory[0].size - GIB
    assert scene.client.change(Create("batch", 9, left, free - (128 << 20))) == "applied"
    assert "or choose replace" in scene.causes(scene.spec())
    assert scene.run(scene.plan(scene.replacing())).outcome is Outcome.COMMITTED
    assert scene.client.instance("web-g2").cpus == (8, 10)


def test_a_device_goes_with_the_place(scene: Scene) -> None:
    assert scene.client.change(DeviceChange("web", Verb.ADD, (NIC.address,))) == "applied"
    assert scene.run(scene.plan(scene.replacing())).outcome is Outcome.COMMITTED
    assert scene.double.world.instances["web-g2"].pci == [NIC.address]


def test_a_device_comes_back_with_the_old_generation(scene: Scene) -> None:
    assert scene.client.change(DeviceChange("web", Verb.ADD, (NIC.address,))) == "applied"
    graph, before = scene.plan(scene.replacing(checks=[NO])), scene.picture()
    assert scene.run(graph).outcome is Outcome.ROLLED_BACK
    assert scene.picture() == before


def never_gets_ready(scene: Scene) -> None:
    scene.double.world.spawns["web-g2"] = Spawn(boots_in=10_000, ready_in=None)


def panics_at_boot(scene: Scene) -> None:
    scene.double.world.spawns["web-g2"] = Spawn(boots_in=50, halts_at=3)


def the_old_one_hangs(scene: Scene) -> None:
    """It is forced to halt, and the new one does not come up either."""
    life = scene.double.world.instances["web"].life
    assert life is not None
    life.spawn = Spawn(wedges_at=0)
    never_gets_ready(scene)


def fails_in_the_creation(scene: Scene) -> None:
    scene.double.world.faults.fail_at = {0: 12}


def loses_a_cpu(scene: Scene) -> None:
    scene.double.world.faults.soft_fail_cpus = Once({10})


def fails_in_the_removal(scene: Scene) -> None:
    scene.double.world.faults.fail_at = {0: 12}


FAULTS = [
    never_gets_ready,
    panics_at_boot,
    the_old_one_hangs,
    loses_a_cpu,
    fails_in_the_removal,
]


class Acting(Dying):
    """Something happens right before one call for one step, the first time."""

    def __init__(self, alive: Any, call: str, step: str, act: Callable[[], object]) -> None:
        super().__init__(alive, step, after=False)
        self._acts = {(call, step): act}

    def perform(self, step: Any, context: Any) -> Any:
        self._acts.pop(("perform", step.id), lambda: None)()
        return self._alive.perform(step, context)

    def revert(self, step: Any, context: Any) -> Any:
        self._acts.pop(("revert", step.id), lambda: None)()
        return self._alive.revert(step, context)


def test_a_creation_that_fails_brings_the_old_generation_back(scene: Scene) -> None:
    graph, before = scene.plan(scene.replacing()), scene.picture()
    driver = Acting(
        scene.driver(), "perform", "create-instance/web-g2", lambda: fails_in_the_creation(scene)
    )
    assert scene.run(graph, driver).outcome is Outcome.ROLLED_BACK
    assert scene.picture() == before


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_before_the_commit_brings_the_old_generation_back(scene: Scene, fault: Any) -> None:
    graph, before = scene.plan(scene.replacing()), scene.picture()
    fault(scene)
    report = scene.run(graph)
    assert report.outcome is Outcome.ROLLED_BACK
    assert report.reason
    assert scene.picture() == before
    assert scene.double.world.alive(scene.double.world.instances["web"])


def test_a_workload_is_stopped_before_the_halt_and_started_when_the_new_kernel_answers(
    scene: Scene,
) -> None:
    graph = scene.plan(scene.replacing(workloads=[scene.workload()]))
    assert ("stop-workload/db", "halt-instance/web") in graph.edges
    assert ("await-instance/web-g2", "start-workload/db") in graph.edges
    assert scene.run(graph).outcome is Outcome.COMMITTED
    assert scene.log() == ["stop db web", "start db web-g2"]


def test_workloads_stop_after_what_rests_on_them_and_start_before_it(scene: Scene) -> None:
    workloads = [scene.workload("front", after=["db"]), scene.workload("db")]
    assert scene.run(scene.plan(scene.replacing(workloads=workloads))).outcome is Outcome.COMMITTED
    assert [line.rsplit(" ", 1)[0] for line in scene.log()] == [
        "stop front", "stop db", "start db", "start front",
    ]  # fmt: skip


def test_a_workload_is_back_where_it_was_when_a_check_fails(scene: Scene) -> None:
    graph = scene.plan(scene.replacing(workloads=[scene.workload()], checks=[NO]))
    before = scene.picture()
    assert scene.run(graph).outcome is Outcome.ROLLED_BACK
    assert scene.log() == ["stop db web", "start db web-g2", "stop db web-g2", "start db web"]
    assert scene.picture() == before


STEPS = [
    "check-artifacts/rollback:kernel", "check-artifacts/web", "stop-workload/db",
    "halt-instance/web", "unload-instance/web", "remove-instance/web", "create-instance/web-g2",
    "load-instance/web-g2", "start-instance/web-g2", "await-instance/web-g2", "start-workload/db",
    "commit-instances/side-by-side",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", STEPS)
def test_dead_at_any_step_a_resume_finishes(scene: Scene, step: str, after: bool) -> None:
    graph = scene.plan(scene.replacing(workloads=[scene.workload()]))
    assert set(STEPS) == {it.id for it in graph.section(Section.FORWARD)}
    with pytest.raises(Died):
        scene.run(graph, Dying(scene.driver(), step, after=after))
    assert scene.run().outcome is Outcome.COMMITTED
    assert_replaced(scene)


class DyingBack(Dying):
    """Dies in the revert of one step."""

    def perform(self, step: Any, context: Any) -> Any:
        return self._alive.perform(step, context)

    def revert(self, step: Any, context: Any) -> Any:
        if step.id != self._step:
            return self._alive.revert(step, context)
        if self._after:
            self._alive.revert(step, context)
        raise Died


@pytest.mark.slow
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", [it for it in STEPS[2:-1] if not it.startswith("await")])
def test_dead_on_the_way_back_a_resume_brings_the_old_generation_back(
    scene: Scene, step: str, after: bool
) -> None:
    graph = scene.plan(scene.replacing(workloads=[scene.workload()], checks=[NO]))
    before = scene.picture()
    with pytest.raises(Died):
        scene.run(graph, DyingBack(scene.driver(), step, after=after))
    assert scene.run().outcome is Outcome.ROLLED_BACK
    assert scene.picture() == before


def test_a_cpu_that_is_dropped_on_the_way_back_is_asked_for_again(scene: Scene) -> None:
    world = scene.double.world
    graph, before = scene.plan(scene.replacing(checks=[NO])), scene.picture()

    driver = Acting(scene.driver(), "revert", "remove-instance/web", lambda: loses_a_cpu(scene))
    report = scene.run(graph, driver)
    assert report.outcome is Outcome.ROLLED_BACK
    assert world.log == ["web: CPU 10 could not be reserved"]
    assert scene.picture() == before


def test_a_place_that_somebody_else_took_is_told_and_not_taken_from_him(scene: Scene) -> None:
    client = scene.client
    assert client.change(Create("batch", 9, (12,), GIB)) == "applied"
    graph = scene.plan(scene.replacing(checks=[NO]))

    taken: list[str] = []

    def take() -> None:
        taken.append(client.change(CpuChange("batch", Verb.ADD, (8,))))

    report = scene.run(graph, Acting(scene.driver(), "revert", "remove-instance/web", take))
    assert taken == ["applied"]
    assert report.outcome is Outcome.ROLLBACK_INCOMPLETE
    assert client.instance("batch").cpus == (12, 8)


def test_what_somebody_else_changed_meanwhile_is_not_removed_and_stays(scene: Scene) -> None:
    """It could not be made again as he left it."""
    client = scene.client
    graph = scene.plan(scene.replacing())
    taken = CpuChange("web", Verb.ADD, (12,))
    driver = Acting(scene.driver(), "perform", "halt-instance/web", lambda: client.change(taken))
    report = scene.run(graph, driver)
    assert report.outcome is Outcome.ROLLED_BACK
    assert "somebody else has changed web" in report.reason
    assert scene.states() == {"web": "active"}
    assert client.instance("web").cpus == (8, 10, 12)


def test_a_change_behind_the_commit_is_no_reason_not_to_go_back(scene: Scene) -> None:
    before = scene.picture()
    rollback = {
        "kernel": {"image": str(scene.directory / "old")},
        "boot_deadline": "60s",
        "keep_old_kernel": "1h",
    }
    assert scene.run(scene.plan(scene.replacing(rollback=rollback))).outcome is Outcome.COMMITTED
    assert scene.client.change(CpuChange("web-g2", Verb.ADD, (12,))) == "applied"
    assert scene.roll_back().outcome is Outcome.ROLLED_BACK
    web = scene.picture()["instances"]["web"]
    assert web[:5] == before["instances"]["web"][:5]
    assert 12 in scene.picture()["free CPUs"]


@pytest.mark.slow
def test_several_are_replaced_and_come_back_whatever_their_sizes(scene: Scene) -> None:
    scene.add("api", 3, (12,), GIB // 2)
    scene.add("batch", 4, (14, 16), GIB)
    instances = scene.same_size("api", "batch", "web")
    graph, before = scene.plan(scene.replacing(instances=instances, checks=[NO])), scene.picture()
    assert ("create-instance/api-g2", "remove-instance/batch") in graph.edges
    assert scene.run(graph).outcome is Outcome.ROLLED_BACK
    assert scene.picture() == before
    assert scene.run(scene.plan(scene.replacing(instances=instances))).outcome is Outcome.COMMITTED
    assert scene.states() == {"api-g2": "active", "batch-g2": "active", "web-g2": "active"}


def test_without_the_old_image_it_is_refused_with_the_reason(scene: Scene) -> None:
    said = scene.causes(scene.replacing(rollback={}))
    assert "rollback.kernel: is needed: strategy replace takes web away before the commit" in said


def test_an_old_image_that_is_not_the_one_that_runs_is_refused(scene: Scene) -> None:
    assert scene.run(scene.plan(scene.replacing())).outcome is Outcome.COMMITTED
    (other,) = scene.same_size("web")
    said = scene.causes(scene.replacing(instances=[other | {"cmdline": {"append": ["quiet"]}}]))
    assert "instances.web: web-g2 could not come back: it runs the image with SHA-256" in said


def test_a_generation_that_could_not_be_made_again_is_refused(scene: Scene) -> None:
    regions = scene.double.world.instances["web"].regions
    regions.append(scene.double.world.memory.take(128 << 20, None))
    assert "its memory is in 2 pieces" in scene.causes(scene.replacing())


def test_less_memory_for_one_of_several_is_refused(scene: Scene) -> None:
    smaller = scene.instance("web", resources={"cpus": 1, "memory": "512MiB"})
    said = scene.causes(scene.replacing(instances=[smaller, scene.instance("api")]))
    assert "instances.web.resources.memory: 512.0 MiB is less than the 1.0 GiB of web" in said
    alone = scene.plan(scene.replacing(instances=[smaller], checks=[NO]))
    before = scene.picture()
    assert scene.run(alone).outcome is Outcome.ROLLED_BACK
    assert scene.picture() == before


def test_instances_whose_workloads_wait_for_each_other_are_refused(scene: Scene) -> None:
    workloads = [
        scene.workload("a", "web", after=["b"]),
        scene.workload("b", "api", after=["c"]),
        scene.workload("c", "web"),
    ]
    said = scene.causes(
        scene.replacing(
            instances=[scene.instance("web"), scene.instance("api")], workloads=workloads
        )
    )
    assert "instances api -> web -> api wait for each other" in said
