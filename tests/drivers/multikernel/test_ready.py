"""An instance's own checks of readiness: waited for before anything is moved to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.engine.report import TransactionReport
from orchestrator.model.kinds import Kind
from orchestrator.model.outcomes import Outcome
from orchestrator.model.spec import UpgradeSpec
from tests.drivers.multikernel.scene import Scene
from tests.support.multikernel.settings import Spawn


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene.make(tmp_path)


def spec(scene: Scene, run: list[str], **check: Any) -> UpgradeSpec:
    (instance,) = scene.same_size("web")
    ready = {"name": "up", "kind": "command", "run": run, "interval": "1s"} | check
    workloads = [scene.workload()]
    return scene.spec(instances=[instance | {"ready": [ready]}], workloads=workloads)


def awaited(report: TransactionReport) -> Any:
    return next(step for step in report.steps if step.kind == Kind.AWAIT_INSTANCE)


def test_nothing_is_moved_to_an_instance_before_its_own_checks_hold(scene: Scene) -> None:
    """The check fails twice, and writes into the workload's log that it was made."""
    log = scene.directory / "log"
    script = 'echo "check $MKUPGRADE_INSTANCE" >> "$0"; [ $(wc -l < "$0") -ge 3 ]'
    report = scene.run(scene.plan(spec(scene, ["sh", "-c", script, str(log)])))
    assert report.outcome is Outcome.COMMITTED
    assert scene.log() == [*["check web-g2"] * 3, "stop db web", "start db web-g2"]
    (said,) = awaited(report).result["ready"]
    assert (said["name"], said["ok"]) == ("up", True)


def test_an_instance_that_never_gets_ready_is_an_upgrade_that_did_not_happen(scene: Scene) -> None:
    before = scene.picture()
    report = scene.run(scene.plan(spec(scene, ["false"], within="20s")))
    assert report.outcome is Outcome.ROLLED_BACK
    assert scene.picture() == before
    assert awaited(report).error["details"][0] == "up: exit status 1, wanted 0"
    assert not (scene.directory / "log").exists()
    assert scene.double.world.clock.now >= 20


def test_a_kernel_that_stops_meanwhile_is_told_at_once_with_its_last_words(scene: Scene) -> None:
    scene.double.world.spawns["web-g2"] = Spawn(halts_at=9, says="Kernel panic")
    report = scene.run(scene.plan(spec(scene, ["false"], within="1h")))
    assert report.outcome is Outcome.ROLLED_BACK
    assert "stopped by itself" in report.reason
    assert awaited(report).error["details"][-1] == "Kernel panic"
    assert scene.double.world.clock.now < 60


def test_a_late_kernel_takes_no_time_from_the_checks(scene: Scene) -> None:
    """The step has the boot's time and the checks' own: a kernel that is silent ends with its."""
    scene.double.world.spawns["web-g2"] = Spawn(boots_in=10_000)
    began = scene.double.world.clock.now
    graph = scene.plan(spec(scene, ["true"], within="40s", timeout="10s"))
    (step,) = [step for step in graph.steps if step.id == "await-instance/web-g2"]
    assert step.deadline == 60 + 50
    report = scene.run(graph)
    assert "has not answered" in report.reason
    # A halt that is not answered takes 30 s more.
    assert scene.double.world.clock.now - began < 60 + 31


@pytest.mark.parametrize("strategy", ["surge", "replace"])
def test_the_way_back_waits_for_any_answer(scene: Scene, strategy: str) -> None:
    asked = spec(scene, ["sh", "-c", '[ "$MKUPGRADE_INSTANCE" = web-g2 ]'])
    old = {"kernel": {"image": str(scene.directory / "old")}, "boot_deadline": "60s"}
    plan = asked.model_dump(mode="json") | {"strategy": {"kind": strategy}, "rollback": old}
    before = scene.picture()
    report = scene.run(scene.plan(UpgradeSpec.model_validate(plan)))
    assert report.outcome is Outcome.COMMITTED
    assert scene.roll_back().outcome is Outcome.ROLLED_BACK
    after = scene.picture()
    assert {n: it[:5] for n, it in after["instances"].items()} == {
        n: it[:5] for n, it in before["instances"].items()
    }


@pytest.mark.parametrize(
    ("check", "why"),
    [
        ({"kind": "kernel"}, "is of the host's own kernel"),
        ({"kind": "systemd", "unit": "a.service"}, "is of the host's own kernel"),
        ({"kind": "tcp", "port": 80, "when": ["before"]}, "has no `when`"),
    ],
)
def test_what_says_nothing_of_the_instance_is_refused_by_the_spec(
    scene: Scene, check: dict[str, Any], why: str
) -> None:
    (instance,) = scene.same_size("web")
    with pytest.raises(ValueError, match=why):
        scene.spec(instances=[instance | {"ready": [{"name": "it"} | check]}])


def test_its_name_is_no_other_checks(scene: Scene) -> None:
    same = {"name": "up", "kind": "tcp", "port": 80}
    asked = spec(scene, ["true"]).model_dump(mode="json") | {"checks": [same]}
    assert "checks.up: the name is used 2 times" in scene.causes(UpgradeSpec.model_validate(asked))
