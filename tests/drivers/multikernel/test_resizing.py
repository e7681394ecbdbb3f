"""Instances that get and give CPUs and memory as they run, by the real engine, and how it fails."""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from orchestrator.drivers.multikernel.trees.changes import CpuChange, MemoryChange, Verb
from orchestrator.drivers.multikernel.trees.forms import MemoryRegion
from orchestrator.model.errors import PlanError
from orchestrator.model.outcomes import Outcome
from orchestrator.model.steps import Section, StepGraph
from tests.drivers.multikernel.scene import GIB, Died, Dying, Once, Scene
from tests.drivers.multikernel.test_conservation import Faulty, assert_conserved
from tests.support.memory import in_memory
from tests.support.multikernel.settings import GRANULE, MK2, NEWER, Spawn, Variant

NAMES = ("web", "api", "batch")
NO = {"name": "no", "kind": "command", "run": ["false"], "within": "0s"}
MIB = 1 << 20


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """Web 2 CPUs and 1 GiB, api 1 and 256 MiB, batch 2 and 512 MiB, all of them up to date. In
    memory: no test here cuts the power."""
    with in_memory(tmp_path) as directory:
        scene = Scene.three(directory)
        scene.up_to_date(*NAMES)
        yield scene


def kinds(graph: StepGraph) -> list[str]:
    return [step.id for step in graph.section(Section.FORWARD)]


def size(scene: Scene, name: str) -> tuple[int, int]:
    seen = scene.client.instance(name)
    return len(seen.cpus), seen.memory_bytes // MIB


def test_an_instance_gets_cpus_and_memory_as_it_runs(scene: Scene) -> None:
    spec = scene.spec(instances=scene.sized(web=(3, "1536MiB")))
    graph = scene.plan(spec)
    assert kinds(graph) == ["add-cpus/web", "add-memory/web", "commit-instances/side-by-side"]
    assert graph.changes == ["instance web: web as it runs: 2 CPUs -> 3 CPUs, 1.0 GiB -> 1.5 GiB"]
    assert scene.run(graph).outcome is Outcome.COMMITTED
    assert size(scene, "web") == (3, 1536)
    assert scene.states()["web"] == "active"
    assert scene.plan(spec).is_empty


def test_a_kernel_of_7_0_mk2_does_it_too(tmp_path: Path) -> None:
    scene = Scene.make(tmp_path, MK2)
    scene.up_to_date("web")
    spec = scene.spec(instances=scene.sized(web=(3, "1536MiB")))
    assert scene.run(scene.plan(spec)).outcome is Outcome.COMMITTED
    assert size(scene, "web") == (3, 1536)


def test_what_was_added_last_is_taken_first_and_never_the_cpu_of_the_boot(scene: Scene) -> None:
    for memory in ("1536MiB", "1792MiB", "1GiB"):
        cpus = 1 if memory == "1GiB" else 2
        spec = scene.spec(instances=scene.sized(web=(cpus, memory)))
        assert scene.run(scene.plan(spec)).outcome is Outcome.COMMITTED
    assert scene.client.instance("web").cpus == (8,)
    assert [it.size for it in scene.double.world.instances["web"].regions] == [GIB]


def test_memory_in_one_piece_cannot_shrink_and_the_plan_says_so(scene: Scene) -> None:
    graph = scene.plan(scene.spec(instances=scene.sized(web=(2, "512MiB"))))
    assert "create-instance/web-g2" in kinds(graph)
    (note,) = [it for it in graph.notes if "for its resources" in it]
    assert note == (
        "instance web gets a new generation for its resources: memory goes by whole pieces, the "
        "newest first and never the one with the image, and it has 1.0 GiB: 512.0 MiB is none of "
        "them"
    )


def test_a_size_that_is_no_multiple_of_the_granule_is_told(scene: Scene) -> None:
    graph = scene.plan(scene.spec(instances=scene.sized(web=(2, "1100MiB"))))
    assert any("memory moves by 128.0 MiB, and 76.0 MiB more" in it for it in graph.notes)


def test_why_it_cannot_be_resized_is_told_where_a_new_generation_has_no_room(scene: Scene) -> None:
    big = scene.sized(web=(8, "512MiB"))
    said = scene.causes(scene.spec(instances=big))
    assert "strategy.kind: needs 5 CPUs more" in said
    assert "instances.web.resources: cannot be had without a new generation: memory goes" in said


def test_what_one_gives_a_new_generation_of_another_gets_in_one_plan(scene: Scene) -> None:
    scene.double.world.instances["web"].image.cmdline = "console=mktty0"  # type: ignore[union-attr]
    assert scene.run(grown_batch(scene)).outcome is Outcome.COMMITTED
    free = len(scene.double.world.free_cpus())
    spec = scene.spec(instances=scene.sized(web=(free + 3, "1GiB"), batch=(1, "512MiB")))
    graph = scene.plan(spec)
    order = kinds(graph)
    assert order.index("remove-cpus/batch") < order.index("create-instance/web-g2")
    assert scene.run(graph).outcome is Outcome.COMMITTED
    assert size(scene, "batch") == (1, 512)
    assert size(scene, "web-g2") == (free + 3, 1024)


def grown_batch(scene: Scene) -> StepGraph:
    return scene.plan(scene.spec(instances=scene.sized(batch=(4, "1GiB"))))


def test_what_one_gives_another_gets_as_both_run(scene: Scene) -> None:
    left = tuple(scene.double.world.free_cpus())
    assert scene.client.change(CpuChange("batch", Verb.ADD, left)) == "applied"
    before = scene.picture()
    spec = scene.spec(instances=scene.sized(web=(4, "1GiB"), batch=(3, "512MiB")))
    graph = scene.plan(spec)
    assert kinds(graph)[:2] == ["remove-cpus/batch", "add-cpus/web"]
    assert ("remove-cpus/batch", "add-cpus/web") in graph.edges
    assert scene.run(graph).outcome is Outcome.COMMITTED
    assert_conserved(scene, before)
    assert (size(scene, "web")[0], size(scene, "batch")[0]) == (4, 3)


def test_more_than_there_is_is_refused(scene: Scene) -> None:
    said = scene.causes(scene.spec(instances=scene.sized(web=(6, "4GiB"))))
    assert "needs 1 CPU and 896.0 MiB more; free: 3 CPUs and 2.1 GiB" in said


def test_workloads_and_hooks_are_left_alone(scene: Scene) -> None:
    hook = {"name": "traffic", "run": ["false"]}
    spec = scene.spec(
        instances=scene.sized(web=(3, "1GiB")),
        workloads=[scene.workload()],
        hooks={"before": [hook]},
        checks=[NO | {"name": "yes", "run": ["true"]}],
    )
    graph = scene.plan(spec)
    assert kinds(graph) == [
        "add-cpus/web", "check/after", "soak/side-by-side", "commit-instances/side-by-side",
    ]  # fmt: skip
    assert scene.run(graph).outcome is Outcome.COMMITTED


def both_ways(scene: Scene, **rest: Any) -> StepGraph:
    """Batch gives a piece of memory and CPUs, web gets some."""
    assert scene.run(grown_batch(scene)).outcome is Outcome.COMMITTED
    sizes = scene.sized(web=(4, "1536MiB"), batch=(2, "512MiB"))
    return scene.plan(scene.spec(instances=sizes, **rest))


STEPS = [
    "remove-cpus/batch", "remove-memory/batch", "add-cpus/web", "add-memory/web",
    "commit-instances/side-by-side",
]  # fmt: skip


def test_a_check_that_fails_gives_everything_back(scene: Scene) -> None:
    graph, before = both_ways(scene, checks=[NO]), scene.picture()
    assert [it for it in kinds(graph) if "check" not in it and "soak" not in it] == STEPS
    assert scene.run(graph).outcome is Outcome.ROLLED_BACK
    assert scene.picture() == before


def web_hangs(scene: Scene) -> None:
    life = scene.double.world.instances["web"].life
    assert life is not None
    life.spawn = Spawn(wedges_at=0)


def a_cpu_was_not_there_at_boot(scene: Scene) -> None:
    life = scene.double.world.instances["web"].life
    assert life is not None
    life.known_cpus -= {20, 22, 16, 14}


def the_boot_cpu_is_another(scene: Scene) -> None:
    life = scene.double.world.instances["batch"].life
    assert life is not None
    life.boot_cpu = scene.double.world.instances["batch"].cpus[-1]


@pytest.mark.slow
@pytest.mark.parametrize("fault", [web_hangs, a_cpu_was_not_there_at_boot, the_boot_cpu_is_another])
def test_a_fault_before_the_commit_leaves_everything_as_before(scene: Scene, fault: Any) -> None:
    graph, before = both_ways(scene), scene.picture()
    fault(scene)
    report = scene.run(graph)
    assert report.outcome is Outcome.ROLLED_BACK
    assert report.reason
    assert scene.picture() == before


def test_a_cpu_that_never_comes_is_missed_and_the_others_are_taken_back(scene: Scene) -> None:
    graph = scene.plan(scene.spec(instances=scene.sized(web=(4, "1GiB"))))
    before = scene.picture()
    scene.double.world.faults.unplugged_cpus = {20}
    report = scene.run(graph)
    assert report.outcome is Outcome.ROLLED_BACK
    assert "the kernel says that it is done, and it is not" in report.reason
    assert scene.picture() == before


def test_an_overlay_that_fails_half_way_is_gone_on_with(scene: Scene) -> None:
    graph = scene.plan(scene.spec(instances=scene.sized(web=(4, "1GiB"))))
    scene.double.world.faults.fail_at = {1: errno.EIO}
    assert scene.run(graph).outcome is Outcome.COMMITTED
    assert size(scene, "web") == (4, 1024)


def test_a_cpu_that_is_dropped_once_is_asked_for_again(scene: Scene) -> None:
    graph = scene.plan(scene.spec(instances=scene.sized(web=(4, "1GiB"))))
    scene.double.world.faults.unplugged_cpus = Once([18])
    assert scene.run(graph).outcome is Outcome.COMMITTED
    assert size(scene, "web") == (4, 1024)


def test_a_busy_kernel_is_waited_for(scene: Scene) -> None:
    graph = both_ways(scene)
    scene.double.world.faults.kexec_lock_busy = 3
    assert scene.run(graph).outcome is Outcome.COMMITTED


def test_a_place_that_the_kernel_keeps_for_itself_is_passed_by(scene: Scene) -> None:
    """It is where we look first; the next place is taken."""
    memory = scene.double.world.memory
    (chunk,) = memory.chunks
    last = MemoryRegion(chunk.base + chunk.size - GRANULE, 1 << 20)
    memory.park = last
    graph = scene.plan(scene.spec(instances=scene.sized(web=(2, "1152MiB"))))
    assert scene.run(graph).outcome is Outcome.COMMITTED
    got = scene.double.world.instances["web"].regions[-1]
    assert got.size == GRANULE
    assert got.base != last.base


def in_small_pieces(scene: Scene) -> None:
    """The free memory of the pool has an instance in its middle."""
    free = max(scene.double.world.memory.free(), key=lambda it: it.size)
    middle = MemoryRegion(free.base + free.size // 2 // GRANULE * GRANULE, GRANULE, 0)
    scene.add("other", 9, (20,), GRANULE)
    other = scene.double.world.instances["other"]
    scene.double.world.memory.give(other.regions.pop())
    other.regions.append(scene.double.world.memory.take_exactly(middle.base, middle.size))


def test_memory_in_small_pieces_that_comes_in_part_only_is_given_back(scene: Scene) -> None:
    in_small_pieces(scene)
    graph = scene.plan(scene.spec(instances=scene.sized(web=(2, "2560MiB"))))
    before = scene.picture()
    scene.double.world.faults.fail_at = {1: errno.EIO}
    report = scene.run(graph)
    assert report.outcome is Outcome.ROLLED_BACK
    assert scene.picture() == before


def test_an_instance_that_stopped_meanwhile_gets_nothing(scene: Scene) -> None:
    graph = scene.plan(scene.spec(instances=scene.sized(web=(2, "1536MiB"))))
    scene.client.halt(2)
    before = scene.picture()
    report = scene.run(graph)
    assert report.outcome is Outcome.ROLLED_BACK
    assert "web does not run any more: it is loaded" in report.reason
    assert scene.picture() == before


def test_memory_in_small_pieces_is_taken_in_several(scene: Scene) -> None:
    in_small_pieces(scene)
    graph = scene.plan(scene.spec(instances=scene.sized(web=(2, "2560MiB"))))
    assert scene.run(graph).outcome is Outcome.COMMITTED
    assert len(scene.double.world.instances["web"].regions) == 3
    less = scene.plan(scene.spec(instances=scene.sized(web=(2, "1GiB"))))
    assert scene.run(less).outcome is Outcome.COMMITTED
    assert size(scene, "web") == (2, 1024)


@pytest.mark.slow
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", STEPS)
def test_dead_at_any_step_a_resume_finishes(scene: Scene, step: str, after: bool) -> None:
    graph, before = both_ways(scene), scene.picture()
    with pytest.raises(Died):
        scene.run(graph, Dying(scene.driver(), step, after=after))
    assert resumed(scene) is Outcome.COMMITTED
    assert size(scene, "web") == (4, 1536)
    assert size(scene, "batch") == (2, 512)
    assert_conserved(scene, before)


def resumed(scene: Scene) -> Outcome | None:
    return scene.run(last=True).outcome


class DyingBack(Dying):
    """Dies right after the undoing of one step, the first time."""

    def __init__(self, scene: Scene, step: str) -> None:
        super().__init__(scene.driver(), "none", after=False)
        self._left = {step}

    def revert(self, step: Any, context: Any) -> Any:
        done = self._alive.revert(step, context)
        if step.id in self._left:
            raise Died
        return done


@pytest.mark.slow
@pytest.mark.parametrize("step", STEPS[:-1])
def test_dead_on_the_way_back_a_resume_gives_everything_back(scene: Scene, step: str) -> None:
    graph, before = both_ways(scene, checks=[NO]), scene.picture()
    with pytest.raises(Died):
        scene.run(graph, DyingBack(scene, step))
    assert resumed(scene) is Outcome.ROLLED_BACK
    assert scene.picture() == before


def test_what_somebody_else_gave_meanwhile_stays(scene: Scene) -> None:
    graph = scene.plan(scene.spec(instances=scene.sized(web=(4, "1GiB")), checks=[NO]))
    (chunk,) = scene.double.world.memory.chunks
    last = MemoryRegion(chunk.base + chunk.size - GRANULE, GRANULE)
    theirs = MemoryChange("web", Verb.ADD, (last,))
    scene.double.world.faults.meanwhile = [lambda: scene.client.change(theirs)]
    assert scene.run(graph).outcome is Outcome.ROLLED_BACK
    assert size(scene, "web") == (2, 1024 + 128)


@st.composite
def sizes(draw: st.DrawFn) -> dict[str, tuple[int, str]]:
    return {
        name: (draw(st.integers(1, 3)), f"{draw(st.sampled_from(GRANULES[name])) * 128}MiB")
        for name in NAMES
    }


GRANULES = {"web": (8, 9, 11), "api": (2, 3, 4), "batch": (2, 4, 6)}
"""How many each may get: as many as now, some more, and once less, which is a new generation."""


@pytest.mark.slow
@pytest.mark.timeout(600)
@settings(max_examples=15, deadline=None)
@given(data=st.data(), variant=st.sampled_from([NEWER, MK2]))
def test_any_sizes_and_faults_conserve_cpus_and_memory(
    data: st.DataObject, variant: Variant
) -> None:
    with tempfile.TemporaryDirectory() as name, in_memory(Path(name)) as directory:
        scene = Scene.three(directory, variant)
        scene.up_to_date(*NAMES)
        before = scene.picture()
        for _ in range(2):
            checks = [NO] if data.draw(st.booleans()) else []
            spec = scene.spec(instances=scene.sized(**data.draw(sizes())), checks=checks)
            try:
                graph = scene.plan(spec)
            except PlanError:
                event("refused")
                continue
            if graph.is_empty:
                continue
            now = scene.picture()
            steps = [it.id for it in graph.steps]
            call = st.tuples(st.sampled_from(["perform", "revert"]), st.sampled_from(steps))
            fault = st.sampled_from(["fails in the overlay", "lock held"])
            faults = data.draw(st.dictionaries(call, fault, max_size=3))
            outcome = scene.run(graph, Faulty(scene, faults), again=True).outcome
            event(outcome.value if outcome else "none")
            assert_conserved(scene, before)
            if outcome is Outcome.ROLLED_BACK:
                assert scene.picture() == now
            if outcome is Outcome.COMMITTED:
                assert scene.plan(spec).is_empty
