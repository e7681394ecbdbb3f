"""`mkupgrade rollback` behind the commit: the old generations run again, by the real engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.model.errors import MkupgradeError
from orchestrator.model.outcomes import Outcome
from orchestrator.model.steps import Section, StepGraph
from tests.drivers.multikernel.scene import Died, Dying, Scene
from tests.support.memory import in_memory
from tests.support.multikernel.settings import Spawn
from tests.support.profile import slow

NAMES = ("web", "api", "batch")
YES = {"name": "yes", "kind": "command", "run": ["true"]}


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """In memory: no test here cuts the power."""
    with in_memory(tmp_path) as directory:
        yield Scene.three(directory)


def without_marks(picture: dict[str, Any]) -> dict[str, Any]:
    """An old generation that is made again carries the mark of the way back."""
    found = {
        name: (*it[:-1], " ".join(w for w in (it[-1] or "").split() if "transaction=" not in w))
        for name, it in picture["instances"].items()
    }
    return picture | {"instances": found}


def told(scene: Scene, graph: StepGraph) -> dict[str, Any]:
    """The picture before; the plan is committed then."""
    before = scene.picture()
    assert scene.run(graph).outcome is Outcome.COMMITTED
    return before


def surge(scene: Scene, *, alone: bool = False) -> StepGraph:
    """A new web beside the old one, with a workload, and, unless it is alone, db, which was not
    there before."""
    undo = ["sh", "-c", 'echo undone >> "$0"', str(scene.directory / "log")]
    hook = {"name": "traffic", "run": ["true"], "undo": undo}
    instances = [scene.instance("web"), scene.instance("db")]
    workloads = [scene.workload("shop", "web"), scene.workload("db", "db")]
    some = 1 if alone else 2
    return scene.plan(
        scene.spec(instances=instances[:some], workloads=workloads[:some], hooks={"before": [hook]})
    )


def test_a_surge_is_taken_back_and_the_new_generations_are_gone(scene: Scene) -> None:
    graph = surge(scene)
    before = told(scene, graph)
    assert scene.states()["web"] == "loaded"
    report = scene.roll_back()
    assert report.outcome is Outcome.ROLLED_BACK
    assert scene.picture() == before
    assert scene.double.world.alive(scene.double.world.instances["web"])
    *workloads, last = scene.log()[-4:]
    assert last == "undone"
    assert "stop db db-g1" in workloads
    assert [it for it in workloads if "shop" in it] == ["stop shop web-g2", "start shop web"]


@pytest.mark.parametrize("kind", ["replace", *map(slow, ("rolling", "canary"))])
def test_old_generations_that_are_gone_are_made_again(scene: Scene, kind: str) -> None:
    workloads = [scene.workload("shop", "web"), scene.workload("db", "batch", checks=[YES])]
    spec = scene.replacing(
        instances=scene.same_size(*NAMES), workloads=workloads, strategy={"kind": kind}
    )
    before = told(scene, scene.plan(spec))
    assert scene.roll_back().outcome is Outcome.ROLLED_BACK
    assert without_marks(scene.picture()) == before
    assert scene.log()[-2:] in (
        ["stop shop web-g2", "start shop web"], ["stop db batch-g2", "start db batch"],
    )  # fmt: skip


def test_what_was_shrunk_for_it_has_its_size_again(scene: Scene) -> None:
    scene.up_to_date("batch")
    sizes = scene.sized(web=(4, "1GiB"), batch=(1, "512MiB"))
    before = told(scene, scene.plan(scene.spec(instances=sizes)))
    assert scene.roll_back().outcome is Outcome.ROLLED_BACK
    assert scene.picture() == before


def test_sizes_alone_are_taken_back(scene: Scene) -> None:
    scene.up_to_date(*NAMES)
    sizes = scene.sized(web=(4, "1536MiB"), batch=(1, "640MiB"))
    before = told(scene, scene.plan(scene.spec(instances=sizes)))
    assert scene.roll_back().outcome is Outcome.ROLLED_BACK
    assert scene.picture() == before


def test_a_plan_that_keeps_nothing_holds_no_way_back(scene: Scene) -> None:
    graph = scene.plan(scene.spec(rollback={"keep_old_kernel": "0s"}))
    assert not graph.section(Section.RETURN)
    assert "way back behind the commit: none (rollback.keep_old_kernel is 0s)" in graph.notes
    told(scene, graph)
    now = scene.picture()
    with pytest.raises(MkupgradeError, match="holds no way back"):
        scene.roll_back()
    assert scene.picture() == now


@pytest.mark.slow
def test_an_old_kernel_that_does_not_come_up_leaves_the_new_one_at_work(scene: Scene) -> None:
    told(scene, surge(scene))
    now = scene.picture()
    scene.double.world.spawns["web"] = Spawn(boots_in=10_000, ready_in=None)
    report = scene.roll_back()
    assert report.outcome is Outcome.ROLLBACK_INCOMPLETE
    assert scene.picture() == now
    assert scene.log()[-1] != "stop shop web-g2"
    scene.double.world.spawns["web"] = Spawn()
    assert scene.run(last=True).outcome is Outcome.ROLLED_BACK
    assert scene.states() == {"web": "active", "api": "active", "batch": "active"}


@pytest.mark.slow
def test_an_old_kernel_that_cannot_be_made_again_leaves_the_new_one_at_work(scene: Scene) -> None:
    spec = scene.replacing(instances=scene.same_size("web"), workloads=[scene.workload()])
    told(scene, scene.plan(spec))
    now = scene.picture()
    scene.double.world.spawns["web"] = Spawn(boots_in=50, halts_at=3)
    assert scene.roll_back().outcome is Outcome.ROLLBACK_INCOMPLETE
    assert scene.picture() == now
    assert scene.double.world.alive(scene.double.world.instances["web-g2"])
    assert scene.log()[-2:] == ["stop db web-g2", "start db web-g2"]


def test_an_old_generation_that_was_never_halted_is_as_wanted(scene: Scene) -> None:
    told(scene, scene.plan(scene.spec()))
    scene.client.start(2)
    scene.client.wait(5)
    assert scene.roll_back().outcome is Outcome.ROLLED_BACK
    assert scene.states()["web"] == "active"


SURGE_STEPS = [
    "return.start-instance/web", "return.await-instance/web", "return.move-workload/shop",
    "return.run-hook/traffic", "recover.halt-instance/web-g2", "recover.unload-instance/web-g2",
    "recover.remove-instance/web-g2",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", SURGE_STEPS)
def test_dead_on_the_way_back_a_resume_finishes(scene: Scene, step: str, after: bool) -> None:
    graph = surge(scene, alone=True)
    back = [it.id for it in graph.steps if it.section is not Section.FORWARD]
    assert set(SURGE_STEPS) == set(back)
    before = told(scene, graph)
    with pytest.raises(Died):
        scene.roll_back(Dying(scene.driver(), step, after=after))
    assert scene.run(last=True).outcome is Outcome.ROLLED_BACK
    assert scene.picture() == before


REPLACE_STEPS = [
    "return.check-artifacts/rollback:kernel", "return.stop-workload/db",
    "return.halt-instance/web-g2", "return.unload-instance/web-g2",
    "return.remove-instance/web-g2", "return.create-instance/web", "return.load-instance/web",
    "return.start-instance/web", "return.await-instance/web", "return.start-workload/db",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", REPLACE_STEPS)
def test_dead_while_it_is_made_again_a_resume_finishes(
    scene: Scene, step: str, after: bool
) -> None:
    spec = scene.replacing(instances=scene.same_size("web"), workloads=[scene.workload()])
    graph = scene.plan(spec)
    assert set(REPLACE_STEPS) == {it.id for it in graph.section(Section.RETURN)}
    before = told(scene, graph)
    with pytest.raises(Died):
        scene.roll_back(Dying(scene.driver(), step, after=after))
    assert scene.run(last=True).outcome is Outcome.ROLLED_BACK
    assert without_marks(scene.picture()) == before
