"""Devices of new generations: one owner at a time, by the real engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.drivers.multikernel.trees.changes import DeviceChange, Verb
from orchestrator.model.outcomes import Outcome
from orchestrator.model.spec import UpgradeSpec
from tests.drivers.multikernel.pretend import NIC
from tests.drivers.multikernel.scene import Died, Dying, Scene
from tests.drivers.multikernel.test_replace import Acting
from tests.support.memory import in_memory

NO = {"name": "no", "kind": "command", "run": ["false"], "within": "0s"}


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """A network card is in the pool, and no instance has it. In memory: no test here cuts the
    power."""
    with in_memory(tmp_path) as directory:
        yield Scene.three(directory)


def given_to(scene: Scene, name: str) -> None:
    assert scene.client.change(DeviceChange(name, Verb.ADD, (NIC.address,))) == "applied"


def named(scene: Scene, *devices: str, name: str = "web", **rest: Any) -> UpgradeSpec:
    """A surge of one instance that is to have these."""
    size = {"cpus": 1, "memory": "512MiB", "devices": list(devices)}
    return scene.spec(instances=[scene.instance(name, resources=size)], **rest)


def replacing(scene: Scene, *devices: str, **rest: Any) -> UpgradeSpec:
    resources = {"cpus": 2, "memory": "1GiB", "devices": list(devices)}
    return scene.replacing(instances=[scene.instance("web", resources=resources)], **rest)


def owner(scene: Scene) -> str | None:
    """Who has the card; None: the pool."""
    found = [it.name for it in scene.double.world.instances.values() if NIC.address in it.pci]
    assert len(found) <= 1
    return found[0] if found else None


def test_a_free_device_goes_to_the_generation_beside_the_old_one(scene: Scene) -> None:
    assert scene.run(scene.plan(named(scene, NIC.address))).outcome is Outcome.COMMITTED
    assert owner(scene) == "web-g2"


def test_a_device_of_the_old_generation_blocks_a_surge_and_replace_is_named(scene: Scene) -> None:
    given_to(scene, "web")
    for spec in (named(scene, NIC.address), scene.spec()):
        said = scene.causes(spec)
        assert f"instances.web.resources.devices: {NIC.address} is web's" in said
        assert "a generation beside it cannot have it; choose replace" in said
    graph = scene.plan(replacing(scene, NIC.address))
    assert scene.run(graph).outcome is Outcome.COMMITTED
    assert owner(scene) == "web-g2"


def test_a_generation_beside_it_may_do_without(scene: Scene) -> None:
    given_to(scene, "web")
    assert scene.run(scene.plan(named(scene))).outcome is Outcome.COMMITTED
    assert owner(scene) == "web"
    assert scene.states()["web-g2"] == "active"


def test_a_new_generation_that_does_without_leaves_it_to_the_pool(scene: Scene) -> None:
    given_to(scene, "web")
    before = scene.picture()
    failed = scene.plan(replacing(scene, checks=[NO]))
    assert scene.run(failed).outcome is Outcome.ROLLED_BACK
    assert scene.picture() == before
    assert scene.run(scene.plan(replacing(scene))).outcome is Outcome.COMMITTED
    assert owner(scene) is None


def test_one_that_takes_the_place_of_the_old_one_gets_a_free_device(scene: Scene) -> None:
    graph, before = scene.plan(replacing(scene, NIC.address, checks=[NO])), scene.picture()
    assert scene.run(graph).outcome is Outcome.ROLLED_BACK
    assert scene.picture() == before
    assert scene.run(scene.plan(replacing(scene, NIC.address))).outcome is Outcome.COMMITTED
    assert owner(scene) == "web-g2"
    assert scene.roll_back().outcome is Outcome.ROLLED_BACK
    assert owner(scene) is None


def test_a_device_that_somebody_takes_meanwhile_ends_as_before(scene: Scene) -> None:
    """Creating the generation is one overlay, and its device another."""
    graph = scene.plan(named(scene, NIC.address))
    driver = Acting(
        scene.driver(), "perform", "create-instance/web-g2", lambda: given_to(scene, "batch")
    )
    report = scene.run(graph, driver)
    assert report.outcome is Outcome.ROLLED_BACK
    assert owner(scene) == "batch"
    assert scene.states() == {"web": "active", "api": "active", "batch": "active"}


@pytest.mark.parametrize(
    ("devices", "said"),
    [
        (("0000:0a:00.0",), "0000:0a:00.0 is not in the pool, and no instance has it; free there"),
        ((NIC.address,), "0000:09:00.0 is instance batch's, and a device has one owner"),
    ],
    ids=["unknown", "another's"],
)
def test_a_device_that_cannot_be_had_is_told_with_who_has_it(
    scene: Scene, devices: tuple[str, ...], said: str
) -> None:
    given_to(scene, "batch")
    assert said in scene.causes(named(scene, *devices))


def test_two_instances_do_not_get_the_same_device(scene: Scene) -> None:
    size = {"cpus": 1, "memory": "512MiB", "devices": [NIC.address]}
    both = [scene.instance(name, resources=size) for name in ("web", "db")]
    said = scene.causes(scene.spec(instances=both))
    assert "instances.db.resources.devices: 0000:09:00.0 is for web already" in said


def test_one_that_is_kept_holds_its_device_until_it_goes(scene: Scene) -> None:
    given_to(scene, "web")
    assert scene.run(scene.plan(named(scene))).outcome is Outcome.COMMITTED
    again = replacing(scene, NIC.address)
    assert "0000:09:00.0 is held by web, which does not run; remove it" in scene.causes(again)


def test_other_devices_alone_are_a_new_generation_with_the_reason(scene: Scene) -> None:
    scene.up_to_date("web")
    size = {"cpus": 2, "memory": "1GiB", "devices": [NIC.address]}
    graph = scene.plan(scene.spec(instances=[scene.instance("web", resources=size)]))
    assert any("devices are given to new generations only" in it for it in graph.notes)
    assert scene.run(graph).outcome is Outcome.COMMITTED
    assert owner(scene) == "web-g2"
    assert scene.plan(scene.spec(instances=[scene.instance("web", resources=size)])).is_empty


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_dead_at_the_creation_a_resume_finishes(scene: Scene, after: bool) -> None:
    graph = scene.plan(named(scene, NIC.address))
    with pytest.raises(Died):
        scene.run(graph, Dying(scene.driver(), "create-instance/web-g2", after=after))
    assert scene.run().outcome is Outcome.COMMITTED
    assert owner(scene) == "web-g2"
