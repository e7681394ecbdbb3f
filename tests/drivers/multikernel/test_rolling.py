"""Whole upgrades of three instances by the real engine: rolling, canary, blue-green."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.loading import load_spec
from orchestrator.model.outcomes import Outcome
from tests.drivers.multikernel.examples import document
from tests.drivers.multikernel.scene import Died, Dying, Scene
from tests.support.memory import in_memory
from tests.support.multikernel.settings import Spawn

ROOT = Path(__file__).resolve().parents[3]
NAMES = ("web", "api", "batch")
ALL_NEW = {"web-g2": "active", "api-g2": "active", "batch-g2": "active"}
YES = {"name": "yes", "kind": "command", "run": ["true"]}
NO = {"name": "no", "kind": "command", "run": ["false"], "within": "0s"}


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """In memory: no test here cuts the power."""
    with in_memory(tmp_path) as directory:
        yield Scene.three(directory)


def in_turn(scene: Scene, kind: str, *, strategy: Any = (), **rest: Any) -> Any:
    given = {"instances": scene.same_size(*NAMES), "strategy": {"kind": kind, **dict(strategy)}}
    return scene.replacing(**given | rest)


class Watching(Dying):
    """Counts how many of the three run, right after each step."""

    def __init__(self, scene: Scene) -> None:
        super().__init__(scene.driver(), "none", after=False)
        self._scene = scene
        self.running: list[int] = []
        self.performed: list[str] = []

    def perform(self, step: Any, context: Any) -> Any:
        done = self._alive.perform(step, context)
        states = self._scene.states()
        self.running.append(sum(status == "active" for status in states.values()))
        self.performed.append(step.id)
        return done


@pytest.mark.parametrize("most", [1, 2])
def test_rolling_never_takes_more_down_than_it_may(scene: Scene, most: int) -> None:
    graph = scene.plan(in_turn(scene, "rolling", strategy={"max_unavailable": most}))
    watching = Watching(scene)
    assert scene.run(graph, watching).outcome is Outcome.COMMITTED
    assert min(watching.running) >= len(NAMES) - most
    assert scene.states() == ALL_NEW


def test_rolling_takes_instances_in_the_order_of_after(scene: Scene) -> None:
    instances = scene.same_size(*NAMES, web=["batch"])
    watching = Watching(scene)
    graph = scene.plan(in_turn(scene, "rolling", instances=instances))
    assert scene.run(graph, watching).outcome is Outcome.COMMITTED
    halted = [step for step in watching.performed if step.startswith("halt-")]
    assert halted == ["halt-instance/api", "halt-instance/batch", "halt-instance/web"]


def test_an_instance_waits_for_what_its_workloads_rest_on(scene: Scene) -> None:
    workloads = [scene.workload("shop", "web", after=["db"]), scene.workload("db", "batch")]
    graph = scene.plan(in_turn(scene, "replace", workloads=workloads))
    assert ("start-workload/db", "check-artifacts/web") in graph.edges
    assert scene.run(graph).outcome is Outcome.COMMITTED
    assert scene.log() == [
        "stop db batch", "start db batch-g2", "stop shop web", "start shop web-g2",
    ]  # fmt: skip


def test_the_checks_of_a_workload_hold_back_the_next_instance(scene: Scene) -> None:
    spec = in_turn(scene, "rolling", workloads=[scene.workload("shop", "web", checks=[NO])])
    graph, before, watching = scene.plan(spec), scene.picture(), Watching(scene)
    assert scene.run(graph, watching).outcome is Outcome.ROLLED_BACK
    assert scene.picture() == before
    assert "halt-instance/web" in watching.performed
    assert "halt-instance/api" not in watching.performed


@pytest.mark.slow
@pytest.mark.parametrize("each", ["replace", "surge"])
@pytest.mark.parametrize("kind", ["rolling", "canary"])
def test_a_last_instance_that_fails_brings_all_of_them_back(
    scene: Scene, kind: str, each: str
) -> None:
    small = [scene.instance(name) for name in NAMES]
    instances = small if each == "surge" else scene.same_size(*NAMES)
    spec = in_turn(scene, kind, strategy={"each": each}, instances=instances, checks=[YES])
    graph, before = scene.plan(spec), scene.picture()
    scene.double.world.spawns["batch-g2"] = Spawn(boots_in=50, halts_at=3)
    assert scene.run(graph).outcome is Outcome.ROLLED_BACK
    assert scene.picture() == before


def test_a_canary_that_fails_in_the_soak_leaves_the_others_alone(scene: Scene) -> None:
    spec = in_turn(scene, "canary", checks=[NO | {"when": ["soak"]}])
    graph, before, watching = scene.plan(spec), scene.picture(), Watching(scene)
    assert scene.run(graph, watching).outcome is Outcome.ROLLED_BACK
    assert scene.picture() == before
    assert {"halt-instance/web", "await-instance/web-g2"} <= set(watching.performed)
    assert not {"halt-instance/api", "halt-instance/batch"} & set(watching.performed)


def test_only_the_checks_of_the_first_hold_for_the_canary(scene: Scene) -> None:
    workloads = [
        scene.workload("shop", "web", checks=[YES]),
        scene.workload("db", "batch", checks=[YES | {"name": "later"}]),
    ]
    graph = scene.plan(in_turn(scene, "canary", workloads=workloads))
    checks = {it.id: [c["name"] for c in it.params["checks"]] for it in graph.steps
              if it.kind in ("check", "soak")}  # fmt: skip
    assert checks["soak/canary:first"] == checks["check/canary:first"] == ["yes"]
    assert checks["soak/side-by-side"] == ["yes", "later"]
    assert scene.run(graph).outcome is Outcome.COMMITTED


def test_a_canary_by_surge_keeps_the_old_generations_loaded(scene: Scene) -> None:
    sizes = [scene.instance(name) for name in NAMES]
    spec = in_turn(
        scene,
        "canary",
        strategy={"each": "surge", "first": 2},
        instances=sizes,
        rollback={},
        checks=[YES],
        workloads=[scene.workload("shop", "web")],
    )
    graph = scene.plan(spec)
    assert {("await-instance/api-g2", "check/canary:first"),
            ("soak/canary:first", "check-artifacts/batch")} <= set(graph.edges)  # fmt: skip
    assert scene.run(graph).outcome is Outcome.COMMITTED
    assert scene.states() == ALL_NEW | dict.fromkeys(NAMES, "loaded")
    assert scene.log() == ["stop shop web", "start shop web-g2"]


def test_a_canary_without_a_soak_is_refused(scene: Scene) -> None:
    assert "soak.duration: canary soaks the first" in scene.causes(in_turn(scene, "canary"))


def traffic(scene: Scene) -> dict[str, Any]:
    log = str(scene.directory / "log")
    say = 'echo "traffic $0" >> "$1"'
    return {
        "name": "traffic",
        "run": ["sh", "-c", say, "new", log],
        "undo": ["sh", "-c", say, "old", log],
    }


def test_blue_green_turns_the_traffic_once_when_all_new_generations_are_up(scene: Scene) -> None:
    spec = scene.spec(
        instances=[scene.instance(name) for name in NAMES],
        strategy={"kind": "blue-green"},
        hooks={"before": [traffic(scene)]},
        workloads=[scene.workload("shop", "web")],
    )
    graph = scene.plan(spec)
    waits_for = {before for before, behind in graph.edges if behind == "run-hook/traffic"}
    assert waits_for == {f"await-instance/{name}-g2" for name in NAMES}
    assert scene.run(graph).outcome is Outcome.COMMITTED
    assert scene.log() == ["traffic new", "stop shop web", "start shop web-g2"]
    assert scene.states() == ALL_NEW | dict.fromkeys(NAMES, "loaded")


def test_blue_green_turns_the_traffic_back_when_a_check_fails(scene: Scene) -> None:
    spec = scene.spec(
        instances=[scene.instance(name) for name in NAMES],
        strategy={"kind": "blue-green"},
        hooks={"before": [traffic(scene)]},
        checks=[NO],
    )
    graph, before = scene.plan(spec), scene.picture()
    assert scene.run(graph).outcome is Outcome.ROLLED_BACK
    assert scene.log() == ["traffic new", "traffic old"]
    assert scene.picture() == before


def test_blue_green_without_a_hook_to_turn_the_traffic_is_refused(scene: Scene) -> None:
    spec = scene.spec(strategy={"kind": "blue-green"})
    assert "hooks.before: is needed: blue-green turns the traffic" in scene.causes(spec)


def example(scene: Scene) -> Any:
    """The example plan; its commands and files are the test's, and nothing answers by HTTP here."""
    return load_spec(json.dumps(document("multikernel-rolling", scene.directory)), "plan.yaml")


def test_the_example_plan_is_planned_and_carried_out(scene: Scene) -> None:
    graph, watching = scene.plan(example(scene)), Watching(scene)
    assert any("web first" in note for note in graph.notes)
    assert scene.run(graph, watching).outcome is Outcome.COMMITTED
    assert min(watching.running) == 2
    assert scene.states() == ALL_NEW
    order = [it for it in watching.performed if it.startswith(("halt-", "soak/canary"))]
    assert order == [
        "halt-instance/web", "soak/canary:first", "halt-instance/api", "halt-instance/batch",
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("step", [
    "stop-workload/shop", "remove-instance/web", "start-workload/shop", "soak/canary:first",
    "halt-instance/api", "create-instance/batch-g2", "run-hook/traffic-back",
])  # fmt: skip
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_dead_in_the_example_plan_a_resume_finishes(scene: Scene, step: str, after: bool) -> None:
    graph = scene.plan(example(scene))
    assert step in {it.id for it in graph.steps}
    with pytest.raises(Died):
        scene.run(graph, Dying(scene.driver(), step, after=after))
    assert scene.run().outcome is Outcome.COMMITTED
    assert scene.states() == ALL_NEW
