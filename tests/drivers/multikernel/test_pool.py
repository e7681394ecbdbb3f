"""A pool of another size, as the spec wants it, by the real engine, and how it fails."""

from __future__ import annotations

import errno
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from orchestrator.drivers.multikernel.trees.changes import MemoryChange, Verb
from orchestrator.drivers.multikernel.trees.forms import MemoryRequest
from orchestrator.loading import load_spec
from orchestrator.model.errors import PlanError
from orchestrator.model.outcomes import Outcome
from orchestrator.model.spec import UpgradeSpec
from orchestrator.model.steps import Section, StepGraph
from tests.drivers.multikernel.examples import document
from tests.drivers.multikernel.pretend import Client
from tests.drivers.multikernel.scene import GIB, Died, Dying, Scene
from tests.drivers.multikernel.test_conservation import Faulty
from tests.drivers.multikernel.test_resizing import sizes
from tests.support.memory import in_memory
from tests.support.multikernel.double import Double
from tests.support.multikernel.settings import MK2

NO = {"name": "no", "kind": "command", "run": ["false"], "within": "0s"}
NAMES = ("web", "api", "batch")


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """A pool of 8 CPUs and 4 GiB, on a host that has 8 more CPUs and 12 GiB. In memory: no test
    here cuts the power."""
    with in_memory(tmp_path) as directory:
        scene = Scene.three(directory)
        scene.up_to_date(*NAMES)
        yield scene


def spec(scene: Scene, pool: dict[str, Any], **rest: Any) -> UpgradeSpec:
    host = {"driver": "multikernel", "state_dir": str(scene.directory), "pool": pool}
    return scene.spec(**{"host": host, "instances": scene.same_size(*NAMES)} | rest)


def pool(scene: Scene) -> tuple[int, int]:
    """CPUs and GiB."""
    seen = scene.client.pool()
    return len(seen.cpus), sum(it.size for it in seen.memory) // GIB


def forward(graph: StepGraph) -> list[str]:
    return [it.id for it in graph.section(Section.FORWARD)]


GROW = ["grow-pool/pool:cpus", "grow-pool/pool:memory", "commit-instances/side-by-side"]
SHRINK = ["shrink-pool/pool:cpus", "shrink-pool/pool:memory", "commit-instances/side-by-side"]


def test_it_grows_and_a_new_instance_finds_its_place_in_one_plan(scene: Scene) -> None:
    big = scene.instance("big", resources={"cpus": 5, "memory": "2GiB"})
    wanted = spec(scene, {"cpus": 10, "memory": "6GiB"}, instances=[big])
    graph = scene.plan(wanted)
    assert graph.changes[0] == "pool: 8 CPUs -> 10 CPUs, 4.0 GiB -> 6.0 GiB"
    order = forward(graph)
    assert order[:2] == GROW[:2]
    assert order.index("grow-pool/pool:memory") < order.index("create-instance/big-g1")
    assert scene.run(graph).outcome is Outcome.COMMITTED
    assert pool(scene) == (10, 6)
    assert scene.client.instance("big-g1").cpus == (18, 20, 22, 28, 30)
    assert scene.plan(wanted).is_empty


def test_a_kernel_of_7_0_mk2_does_it_too(tmp_path: Path) -> None:
    scene = Scene.three(tmp_path, MK2)
    scene.up_to_date(*NAMES)
    assert scene.run(scene.plan(spec(scene, {"cpus": 10, "memory": "6GiB"}))).outcome is (
        Outcome.COMMITTED
    )
    assert pool(scene) == (10, 6)


def grown(scene: Scene) -> None:
    graph = scene.plan(spec(scene, {"cpus": 10, "memory": "6GiB"}))
    assert forward(graph) == GROW
    assert scene.run(graph).outcome is Outcome.COMMITTED


def test_what_nobody_uses_goes_back_to_the_host(scene: Scene) -> None:
    grown(scene)
    graph = scene.plan(spec(scene, {"cpus": 6, "memory": "4GiB"}))
    assert forward(graph) == SHRINK
    assert scene.run(graph).outcome is Outcome.COMMITTED
    assert pool(scene) == (6, 4)
    assert scene.double.world.free_cpus() == [18]


def test_what_an_instance_gives_goes_on_to_the_host_in_one_plan(scene: Scene) -> None:
    sizes = scene.sized(web=(1, "1GiB"))
    graph = scene.plan(spec(scene, {"cpus": 4}, instances=sizes))
    assert forward(graph)[:2] == ["remove-cpus/web", "shrink-pool/pool:cpus"]
    assert scene.run(graph).outcome is Outcome.COMMITTED
    assert pool(scene) == (4, 4)


def test_a_key_that_is_left_out_stays(scene: Scene) -> None:
    assert scene.plan(spec(scene, {})).is_empty
    assert forward(scene.plan(spec(scene, {"cpus": 9}))) == [GROW[0], GROW[2]]


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"cpus": 4}, "needs 1 CPU more; free: 3 CPUs"),
        ({"cpus": 17}, "host.pool.cpus: 9 CPUs more, and the host has 8 online, of which it keeps"),
        ({"memory": "2GiB"}, "whole chunks that no instance uses, and not the last one; such chun"),
        ({"memory": "4100MiB"}, "memory moves by 128.0 MiB, and 4.0 MiB more is no multiple of it"),
        ({"memory": "17GiB"}, "host.pool.memory: 13.0 GiB more, and the host has 12.0 GiB availab"),
    ],
    ids=lambda it: str(it)[:24],
)
def test_what_cannot_be_had_is_told_beforehand(
    scene: Scene, wanted: dict[str, Any], said: str
) -> None:
    assert said in scene.causes(spec(scene, wanted))


def test_a_first_pool_is_not_ours_to_make(tmp_path: Path) -> None:
    scene = Scene(tmp_path, Client(Double()))
    (tmp_path / "vmlinux").write_bytes(b"\x7fELF")
    said = scene.causes(spec(scene, {"cpus": 8, "memory": "4GiB"}))
    assert "host.pool: the host has no pool, and the kernel takes the first CPUs" in said


def test_a_running_kernel_takes_no_cpu_that_joins_now(scene: Scene) -> None:
    sizes = scene.sized(web=(6, "1GiB"))
    said = scene.causes(spec(scene, {"cpus": 10}, instances=sizes))
    assert "host.pool.cpus: 4 CPUs for web, and 3 are free: a kernel takes none that joined" in said


def test_a_check_that_fails_leaves_everything_as_before(scene: Scene) -> None:
    grown(scene)
    for wanted in ({"cpus": 12, "memory": "7GiB"}, {"cpus": 6, "memory": "4GiB"}):
        graph, before = scene.plan(spec(scene, wanted, checks=[NO])), scene.picture()
        assert scene.run(graph).outcome is Outcome.ROLLED_BACK
        assert scene.picture() == before


def test_an_overlay_that_fails_half_way_is_gone_on_with(scene: Scene) -> None:
    graph = scene.plan(spec(scene, {"cpus": 11}))
    scene.double.world.faults.fail_at = {2: errno.EIO}
    assert scene.run(graph).outcome is Outcome.COMMITTED
    assert pool(scene) == (11, 4)


def test_a_cpu_that_cannot_join_ends_in_the_pool_as_it_was(scene: Scene) -> None:
    graph, before = scene.plan(spec(scene, {"cpus": 11})), scene.picture()
    scene.double.world.offline = {30}
    report = scene.run(graph)
    assert report.outcome is Outcome.ROLLED_BACK
    assert scene.picture() == before


def test_memory_that_the_host_has_not_in_one_piece_comes_in_several(scene: Scene) -> None:
    memory = scene.double.world.memory
    (whole,) = memory.host
    half = whole.size // 2
    memory.host = [
        type(whole)(whole.base, half, whole.node),
        type(whole)(whole.base + half, half, whole.node),
    ]
    graph = scene.plan(spec(scene, {"memory": "12GiB"}, checks=[NO]))
    before = scene.picture()
    assert scene.run(graph).outcome is Outcome.ROLLED_BACK
    assert scene.picture() == before
    assert scene.run(scene.plan(spec(scene, {"memory": "12GiB"}))).outcome is Outcome.COMMITTED
    assert len(scene.client.pool().memory) == 3


@pytest.mark.slow
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", GROW + SHRINK[:2])
def test_dead_at_any_step_a_resume_finishes(scene: Scene, step: str, after: bool) -> None:
    grown(scene)
    wanted = {"cpus": 6, "memory": "4GiB"} if step in SHRINK[:2] else {"cpus": 12, "memory": "7GiB"}
    graph = scene.plan(spec(scene, wanted))
    with pytest.raises(Died):
        scene.run(graph, Dying(scene.driver(), step, after=after))
    assert scene.run(last=True).outcome is Outcome.COMMITTED
    assert pool(scene) == ((6, 4) if step in SHRINK[:2] else (12, 7))


class DyingBack(Dying):
    """Dies right after the undoing of one step, the first time."""

    def __init__(self, scene: Scene, step: str) -> None:
        super().__init__(scene.driver(), "none", after=False)
        self._gone = step

    def revert(self, step: Any, context: Any) -> Any:
        done = self._alive.revert(step, context)
        if step.id == self._gone:
            raise Died
        return done


@pytest.mark.slow
@pytest.mark.parametrize("step", GROW[:2] + SHRINK[:2])
def test_dead_on_the_way_back_a_resume_leaves_it_as_it_was(scene: Scene, step: str) -> None:
    grown(scene)
    wanted = {"cpus": 6, "memory": "4GiB"} if step in SHRINK else {"cpus": 12, "memory": "7GiB"}
    graph, before = scene.plan(spec(scene, wanted, checks=[NO])), scene.picture()
    with pytest.raises(Died):
        scene.run(graph, DyingBack(scene, step))
    assert scene.run(last=True).outcome is Outcome.ROLLED_BACK
    assert scene.picture() == before


def test_what_somebody_else_set_aside_meanwhile_is_left_to_a_human(scene: Scene) -> None:
    graph = scene.plan(spec(scene, {"memory": "6GiB"}, checks=[NO]))

    class Meddled(Dying):
        """Somebody grows the pool, too, right behind us."""

        def perform(self, step: Any, context: Any) -> Any:
            done = self._alive.perform(step, context)
            if step.id == GROW[1]:
                theirs = MemoryChange(None, Verb.ADD, requests=(MemoryRequest(GIB),))
                assert scene.client.change(theirs) == "applied"
            return done

    report = scene.run(graph, Meddled(scene.driver(), "none", after=False))
    assert report.outcome is Outcome.ROLLBACK_INCOMPLETE
    assert pool(scene) == (8, 7)


def test_a_committed_change_is_taken_back_with_the_new_generations(scene: Scene) -> None:
    big = scene.instance("big", resources={"cpus": 5, "memory": "2GiB"})
    before = scene.picture()
    graph = scene.plan(spec(scene, {"cpus": 10, "memory": "6GiB"}, instances=[big]))
    assert scene.run(graph).outcome is Outcome.COMMITTED
    assert scene.roll_back().outcome is Outcome.ROLLED_BACK
    assert scene.picture() == before


def test_a_pool_alone_is_taken_back_in_both_directions(scene: Scene) -> None:
    grown(scene)
    before = scene.picture()
    for wanted in ({"cpus": 12, "memory": "7GiB"}, {"cpus": 6, "memory": "4GiB"}):
        assert scene.run(scene.plan(spec(scene, wanted))).outcome is Outcome.COMMITTED
        assert scene.roll_back().outcome is Outcome.ROLLED_BACK
        assert scene.picture() == before


def test_the_example_plan_is_planned_and_carried_out(scene: Scene) -> None:
    plan = document("multikernel-resize", scene.directory)
    graph = scene.plan(load_spec(json.dumps(plan), "plan.yaml"))
    assert forward(graph)[:4] == ["remove-cpus/batch", *GROW[:2], "add-memory/web"]
    assert scene.run(graph).outcome is Outcome.COMMITTED
    assert pool(scene) == (10, 6)
    assert scene.states() == {
        "web": "active", "api": "active", "batch": "active", "reports-g1": "active",
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(600)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_any_pools_and_sizes_and_faults_conserve_what_the_machine_has(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as name, in_memory(Path(name)) as directory:
        scene = Scene.three(directory)
        scene.up_to_date(*NAMES)
        machine = scene.double.world.memory.total()
        grown(scene)
        for _ in range(2):
            wanted = {
                "cpus": data.draw(st.integers(8, 13)),
                "memory": data.draw(st.sampled_from(["4GiB", "6GiB", "7GiB"])),
            }
            checks = [NO] if data.draw(st.booleans()) else []
            instances = scene.sized(**data.draw(sizes()))
            try:
                graph = scene.plan(spec(scene, wanted, instances=instances, checks=checks))
            except PlanError:
                event("refused")
                continue
            steps = [it.id for it in graph.section(Section.FORWARD)]
            if not steps:
                continue
            now = scene.picture()
            call = st.tuples(st.sampled_from(["perform", "revert"]), st.sampled_from(steps))
            fault = st.sampled_from(["fails in the overlay", "lock held"])
            faults = data.draw(st.dictionaries(call, fault, max_size=3))
            outcome = scene.run(graph, Faulty(scene, faults), again=True).outcome
            event(str(outcome))
            assert_whole(scene, machine)
            if outcome is Outcome.ROLLED_BACK:
                assert scene.picture() == now
            if outcome is Outcome.COMMITTED:
                assert pool(scene) == (wanted["cpus"], int(wanted["memory"].removesuffix("GiB")))
                if data.draw(st.booleans()):
                    scene.double.world.faults.fail_at = {}  # what no overlay has met
                    assert scene.roll_back().outcome is Outcome.ROLLED_BACK
                    assert sums(scene.picture()) == sums(now)


def assert_whole(scene: Scene, machine: int) -> None:
    """Each CPU and byte of the machine is the host's, the pool's, or one instance's."""
    world = scene.double.world
    had = [cpu for it in world.instances.values() for cpu in it.cpus]
    assert sorted([*had, *world.free_cpus()]) == sorted(world.members)
    assert 0 not in world.members
    assert world.memory.total() == machine
    park = world.memory.park
    owned = sum(region.size for it in world.instances.values() for region in it.regions)
    free = sum(it.size for it in world.memory.free())
    assert owned + free + (park.size if park else 0) == sum(it.size for it in world.memory.chunks)


def sums(picture: dict[str, Any]) -> dict[str, Any]:
    """Memory that is given back may come to another place."""
    found = {
        name: (it[0], it[1], len(it[2]), sum(region.size for region in it[3]))
        for name, it in picture["instances"].items()
    }
    return picture | {"instances": found, "free CPUs": len(picture["free CPUs"])}
