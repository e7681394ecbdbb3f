"""Whole upgrades by the real engine: new generations beside the old ones, and how they fail."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.drivers.multikernel.trees.changes import CpuChange, CreateInstance, Verb
from orchestrator.loading import load_spec
from orchestrator.model.outcomes import Outcome
from orchestrator.model.steps import Section
from orchestrator.system import proc
from tests.drivers.multikernel.examples import document
from tests.drivers.multikernel.pretend import Client
from tests.drivers.multikernel.scene import GIB, Died, Dying, Scene, only_web
from tests.support.memory import in_memory
from tests.support.multikernel.settings import MK2, Spawn

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """In memory: no test here cuts the power."""
    with in_memory(tmp_path) as directory:
        yield Scene.make(directory)


def assert_new(scene: Scene) -> None:
    assert scene.states() == {"web": "loaded", "web-g2": "active"}
    assert scene.client.instance("web-g2").cpus == (12, 14)
    assert scene.double.world.wrecked == []


def test_a_new_generation_takes_the_place_of_the_old_one_which_stays_loaded(scene: Scene) -> None:
    report = scene.run(scene.plan())
    assert report.outcome is Outcome.COMMITTED
    assert_new(scene)
    found = scene.double.world.instances
    image = found["web-g2"].image
    assert image is not None
    assert f"mkupgrade.transaction={report.transaction}/forward" in image.cmdline
    assert found["web-g2"].id != found["web"].id
    assert found["web-g2"].regions[0].size == GIB
    assert scene.plan().is_empty, "the kernel's own word says that there is nothing to do"


def test_a_kernel_without_vsock_is_upgraded_by_its_status_alone(tmp_path: Path) -> None:
    scene = Scene.make(tmp_path, MK2)
    assert scene.run(scene.plan()).outcome is Outcome.COMMITTED
    assert_new(scene)


def test_what_was_kept_goes_with_the_next_upgrade(scene: Scene) -> None:
    scene.run(scene.plan())
    again = scene.spec(instances=[scene.instance("web", resources={"cpus": 2, "memory": "512MiB"})])
    assert scene.run(scene.plan(again)).outcome is Outcome.COMMITTED
    assert scene.states() == {"web-g2": "loaded", "web-g3": "active"}


def test_without_a_keep_time_the_old_generation_goes_at_once(scene: Scene) -> None:
    spec = scene.spec(rollback={"keep_old_kernel": "0s"})
    assert scene.run(scene.plan(spec)).outcome is Outcome.COMMITTED
    assert scene.states() == {"web-g2": "active"}
    assert sorted(scene.double.world.free_cpus()) == [8, 10, 16, 18, 20, 22]


def test_an_old_generation_that_hangs_is_forced_to_halt(scene: Scene) -> None:
    life = scene.double.world.instances["web"].life
    assert life is not None
    life.spawn = Spawn(wedges_at=0)
    report = scene.run(scene.plan())
    assert report.outcome is Outcome.COMMITTED
    assert_new(scene)


def never_gets_ready(scene: Scene) -> None:
    scene.double.world.spawns["web-g2"] = Spawn(boots_in=10_000, ready_in=None)


def panics_at_boot(scene: Scene) -> None:
    scene.double.world.spawns["web-g2"] = Spawn(boots_in=50, halts_at=3)


def loses_a_cpu(scene: Scene) -> None:
    scene.double.world.faults.soft_fail_cpus = {14}


def fails_in_the_overlay(scene: Scene) -> None:
    scene.double.world.faults.fail_at = {0: 12}


def somebody_takes_a_cpu(scene: Scene) -> None:
    client = scene.client
    scene.double.world.faults.meanwhile.append(
        lambda: client.change(CpuChange("web", Verb.ADD, (14,)))
    )


@pytest.mark.parametrize(
    "fault", [never_gets_ready, panics_at_boot, loses_a_cpu, fails_in_the_overlay]
)
def test_a_fault_before_the_commit_leaves_everything_as_before(scene: Scene, fault: Any) -> None:
    graph, before = scene.plan(), scene.picture()
    fault(scene)
    report = scene.run(graph)
    assert report.outcome is Outcome.ROLLED_BACK
    assert report.reason
    assert scene.picture() == before


def test_what_somebody_else_does_meanwhile_stays_and_nothing_of_ours_does(scene: Scene) -> None:
    graph = scene.plan()
    somebody_takes_a_cpu(scene)
    assert scene.run(graph).outcome is Outcome.ROLLED_BACK
    assert scene.states() == {"web": "active"}
    assert scene.client.instance("web").cpus == (8, 10, 14)


def test_a_check_that_fails_leaves_everything_as_before(scene: Scene) -> None:
    check = {"name": "no", "kind": "command", "run": ["false"], "within": "0s"}
    graph, before = scene.plan(scene.spec(checks=[check])), scene.picture()
    assert scene.run(graph).outcome is Outcome.ROLLED_BACK
    assert scene.picture() == before


def test_a_busy_kernel_is_waited_for(scene: Scene) -> None:
    graph = scene.plan()
    scene.double.world.faults.kexec_lock_busy = 5
    assert scene.run(graph).outcome is Outcome.COMMITTED
    assert_new(scene)


def test_a_workload_is_stopped_there_before_it_is_started_here(scene: Scene) -> None:
    assert (
        scene.run(scene.plan(scene.spec(workloads=[scene.workload()]))).outcome is Outcome.COMMITTED
    )
    assert (scene.directory / "log").read_text() == "stop db web\nstart db web-g2\n"


def test_a_workload_is_back_where_it_was_when_the_soak_fails(scene: Scene) -> None:
    check = {"name": "no", "kind": "command", "run": ["false"], "when": ["soak"]}
    graph = scene.plan(scene.spec(workloads=[scene.workload()], checks=[check]))
    assert scene.run(graph).outcome is Outcome.ROLLED_BACK
    said = (scene.directory / "log").read_text().splitlines()
    assert said == ["stop db web", "start db web-g2", "stop db web-g2", "start db web"]


def test_a_workload_that_was_moved_before_the_host_was_restarted_is_moved_again(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The host's units have set up pool and instance again, and the workload in it."""
    graph = scene.plan(scene.spec(workloads=[scene.workload()]))
    with pytest.raises(Died):
        scene.run(graph, Dying(scene.driver(), "move-workload/db", after=True))
    scene.client = Client(only_web())
    monkeypatch.setattr(proc, "boot_id", lambda: "the next one")
    assert scene.run().outcome is Outcome.COMMITTED
    assert scene.log() == ["stop db web", "start db web-g2"] * 2


STEPS = [
    "check-artifacts/web", "create-instance/web-g2", "load-instance/web-g2",
    "start-instance/web-g2", "await-instance/web-g2", "run-hook/traffic", "soak/side-by-side",
    "commit-instances/side-by-side", "halt-instance/web",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", STEPS)
def test_dead_at_any_step_a_resume_finishes(scene: Scene, step: str, after: bool) -> None:
    hook = {"name": "traffic", "run": ["true"], "undo": ["true"]}
    check = {"name": "yes", "kind": "command", "run": ["true"]}
    graph = scene.plan(scene.spec(hooks={"before": [hook]}, checks=[check]))
    assert {*STEPS, "check/after"} == {it.id for it in graph.section(Section.FORWARD)}
    with pytest.raises(Died):
        scene.run(graph, Dying(scene.driver(), step, after=after))
    assert scene.run().outcome is Outcome.COMMITTED
    assert_new(scene)


def test_one_generation_waits_for_another_where_the_spec_says_so(scene: Scene) -> None:
    instances = [scene.instance("db"), scene.instance("front", after=["db"])]
    graph = scene.plan(scene.spec(instances=instances))
    assert ("await-instance/db-g1", "check-artifacts/front") in graph.edges
    assert scene.run(graph).outcome is Outcome.COMMITTED
    assert scene.states() == {"web": "active", "db-g1": "active", "front-g1": "active"}


def test_a_shortfall_is_named_with_what_is_free_and_what_to_shrink(scene: Scene) -> None:
    assert scene.client.change(CreateInstance("batch", 9, (12, 14, 16, 18), GIB)) == "applied"
    big = scene.instance("web", resources={"cpus": 6, "memory": "3GiB"})
    said = scene.causes(scene.spec(instances=[big]))
    assert "needs 4 CPUs and 1.1 GiB more; free: 2 CPUs and 1.9 GiB" in said
    assert "shrink instance batch or choose replace" in said


def test_state_that_would_have_to_travel_is_refused_by_workload(scene: Scene) -> None:
    workload = {
        "name": "counter",
        "instance": "web",
        "find": {"cmdline": "counter"},
        "migrate": {"method": "criu"},
    }
    said = scene.causes(scene.spec(workloads=[workload]))
    assert "workloads.counter.migrate: method criu" in said
    assert "by the agents in both generations: instances.web.agent is needed" in said


def test_a_new_instance_says_its_size_itself(scene: Scene) -> None:
    small = {k: v for k, v in scene.instance("db").items() if k != "resources"}
    assert "instances.db.resources: cpus and memory are needed" in scene.causes(
        scene.spec(instances=[small])
    )


def test_the_example_plan_is_planned_and_carried_out(scene: Scene) -> None:
    plan = document("multikernel-surge", scene.directory, checks=[])
    graph = scene.plan(load_spec(json.dumps(plan), "plan.yaml"))
    assert ("await-instance/db-g1", "check-artifacts/web") in graph.edges
    assert scene.run(graph).outcome is Outcome.COMMITTED
    assert scene.states() == {
        "web": "loaded", "web-g2": "active", "db-g1": "active", "batch-g1": "active",
    }  # fmt: skip


def test_a_workload_waits_for_its_own_generation_only(scene: Scene) -> None:
    spec = scene.spec(
        workloads=[scene.workload()], instances=[scene.instance("web"), scene.instance("db")]
    )
    graph = scene.plan(spec)
    earlier = {before for before, behind in graph.edges if behind == "move-workload/db"}
    assert earlier == {"await-instance/web-g2"}
    commit = {before for before, behind in graph.edges if behind.startswith("commit-instances/")}
    assert commit == {"move-workload/db", "await-instance/db-g1"}
