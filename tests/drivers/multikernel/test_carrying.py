"""Whole upgrades by the real engine in which the state of workloads is carried by the agents: each
ends committed or as before, with every workload in one place."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli.render.plan import last_line, summary
from orchestrator.cli.render.view import view_of
from orchestrator.drivers.multikernel import keeping
from orchestrator.model.host import Cap
from orchestrator.model.kinds import Kind
from orchestrator.model.outcomes import Outcome
from orchestrator.model.spec import UpgradeSpec
from orchestrator.model.steps import Section
from orchestrator.planning import estimates
from tests.drivers.multikernel.scene import IMAGE, RELEASE, Died, Dying, Scene
from tests.drivers.multikernel.test_agents import INITRD
from tests.support.carried import Kernel, workload
from tests.support.memory import in_memory
from tests.support.multikernel.inhabitants import Inhabitants
from tests.support.multikernel.kernel import key_in
from tests.support.multikernel.settings import AgentSays, Spawn

WORKS = Spawn(agent=AgentSays(RELEASE, works=True))
NO = {"name": "no", "kind": "command", "run": ["false"], "within": "0s"}


class Carrying(Scene):
    """A host whose instance web-g2 has come by a plan with agent, and runs a counter."""

    inhabitants: Inhabitants

    @classmethod
    def at(cls, directory: Path) -> Carrying:
        scene = cls.make(directory)
        assert isinstance(scene, Carrying)
        (directory / "disks").mkdir()
        (directory / "initrd").write_bytes(INITRD)
        (directory / "newer").write_bytes(IMAGE + b"newer")
        scene.inhabitants = Inhabitants(scene.double.world, directory / "disks")
        spawns = scene.double.world.spawns
        for name in ("web-g2", "web-g3", "web-g4"):
            spawns[name] = WORKS
        first = scene.carrying(image="vmlinux", workloads=[])
        assert scene.run(scene.plan(first)).outcome is Outcome.COMMITTED
        scene.counter("web-g2", 41)
        return scene

    def kernel(self, name: str) -> Kernel:
        """Of a generation that runs."""
        instance = self.double.world.instances[name]
        assert instance.image is not None
        key = key_in(instance.image.initrd)
        assert key is not None
        return self.inhabitants.at(instance, key)

    def counter(self, name: str, number: int) -> None:
        """It has counted so far, in this generation."""
        self.kernel(name).workloads.running["counter"] = number

    def carrying(self, image: str = "newer", **rest: Any) -> UpgradeSpec:
        initrd = str(self.directory / "initrd")
        kernel = {"image": str(self.directory / image), "release": RELEASE, "initrd": initrd}
        old = {"image": str(self.directory / "vmlinux"), "initrd": initrd}
        data = {
            "instances": [{"name": "web", "kernel": kernel, "agent": {}}],
            "workloads": [workload()],
            "rollback": {"boot_deadline": "60s", "kernel": old},
            "retry": {"workload": {"attempts": 1}},
        }
        return self.spec(**data | rest)

    def replacing_it(self, **rest: Any) -> UpgradeSpec:
        return self.carrying(strategy={"kind": "replace"}, **rest)

    def places(self) -> list[str]:
        return self.inhabitants.places()


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Carrying]:
    """In memory: no test here cuts the power."""
    with in_memory(tmp_path) as directory:
        made = Carrying.at(directory)
        yield made
        made.inhabitants.close()


Spec = Callable[..., UpgradeSpec]
BOTH = pytest.mark.parametrize(
    "spec", [Carrying.carrying, Carrying.replacing_it], ids=["surge", "replace"]
)


@BOTH
def test_a_workload_runs_on_in_the_new_generation_with_its_state(
    scene: Carrying, spec: Spec
) -> None:
    report = scene.run(scene.plan(spec(scene)), last=True)
    assert report.outcome is Outcome.COMMITTED
    assert scene.places() == ["web-g3/counter:41"]
    said = [s.result.get("text") for s in report.steps if s.result]
    assert "counter runs on in web-g3" in said


def test_a_surge_carries_in_one_step_and_a_replace_in_two(scene: Carrying) -> None:
    def kinds(spec: UpgradeSpec) -> list[str]:
        ours = {Kind.CARRY_WORKLOAD, Kind.TAKE_WORKLOAD, Kind.BRING_WORKLOAD}
        return [s.kind for s in scene.plan(spec).section(Section.FORWARD) if s.kind in ours]

    assert kinds(scene.carrying()) == ["carry-workload"]
    assert kinds(scene.replacing_it()) == ["take-workload", "bring-workload"]


@BOTH
def test_a_check_that_fails_brings_it_home_with_what_it_has_seen_since(
    scene: Carrying, spec: Spec
) -> None:
    """Its state of now, not that of the upgrade."""
    before = scene.picture()
    counted = []

    def counts(number: int) -> None:
        kernel = scene.inhabitants.kernels.get("web-g3")
        if kernel is not None and "counter" in kernel.workloads.running and not counted:
            counted.append(number)
            kernel.workloads.running["counter"] = 57

    scene.inhabitants.before = counts
    graph = scene.plan(spec(scene, checks=[NO]))
    report = scene.run(graph)
    assert report.outcome is Outcome.ROLLED_BACK
    assert scene.places() == ["web-g2/counter:57"]
    assert scene.picture() == before


@BOTH
def test_a_target_that_refuses_leaves_everything_as_it_was(scene: Carrying, spec: Spec) -> None:
    before = scene.picture()

    def refuses(kernel: Kernel) -> None:
        kernel.workloads.refuses.add("restore")

    scene.inhabitants.made = refuses
    report = scene.run(scene.plan(spec(scene)))
    assert report.outcome is Outcome.ROLLED_BACK
    assert "restore is refused here" in report.reason
    assert scene.places() == ["web-g2/counter:41"]
    assert scene.picture() == before


@pytest.mark.slow
@BOTH
def test_a_source_that_refuses_runs_on(scene: Carrying, spec: Spec) -> None:
    before = scene.picture()
    scene.kernel("web-g2").workloads.refuses.add("checkpoint")
    report = scene.run(scene.plan(spec(scene)))
    assert report.outcome is Outcome.ROLLED_BACK
    assert scene.places() == ["web-g2/counter:41"]
    assert scene.picture() == before


@pytest.mark.slow
@BOTH
def test_a_dead_agent_in_the_source_stops_nothing(scene: Carrying, spec: Spec) -> None:
    before = scene.picture()
    graph = scene.plan(spec(scene))
    scene.inhabitants.dead.add("web-g2")
    report = scene.run(graph)
    assert report.outcome is Outcome.ROLLED_BACK
    assert "no agent answers" in report.reason
    assert scene.places() == ["web-g2/counter:41"]
    assert scene.picture() == before


def test_a_target_whose_agent_dies_with_the_workload_costs_what_was_seen_since(
    scene: Carrying,
) -> None:
    """And the report says so."""

    def dies(number: int) -> None:
        kernel = scene.inhabitants.kernels.get("web-g3")
        if kernel is not None and "counter" in kernel.workloads.running:
            scene.inhabitants.dead.add("web-g3")

    scene.inhabitants.before = dies
    graph = scene.plan(scene.carrying(checks=[NO]))
    report = scene.run(graph)
    assert report.outcome is Outcome.ROLLED_BACK
    assert scene.places() == ["web-g2/counter:41"]
    carried = next(s for s in report.steps if s.kind == Kind.CARRY_WORKLOAD)
    told = carried.attempts[-1].result
    assert told is not None
    assert "from the state that it kept" in told["text"]
    assert "was halted" in told["problems"][0]


@pytest.mark.slow
@BOTH
@pytest.mark.parametrize("where", ["web-g2", "host", "web-g3"])
def test_a_corrupt_payload_is_an_upgrade_that_did_not_happen(
    scene: Carrying, spec: Spec, where: str
) -> None:
    before = scene.picture()
    root = scene.directory if where == "host" else scene.directory / "disks" / where
    damaged = []

    def damages(number: int) -> None:
        for path in (root / "handover").rglob("forward/payload-000001"):
            if not damaged:
                data = path.read_bytes()
                path.write_bytes(data[:5000] + b"\xff" + data[5001:])
                damaged.append(path)

    scene.inhabitants.before = damages
    report = scene.run(scene.plan(spec(scene)))
    assert damaged
    assert report.outcome is Outcome.ROLLED_BACK
    assert scene.places() == ["web-g2/counter:41"]
    assert scene.picture() == before


@pytest.mark.slow
@BOTH
@pytest.mark.parametrize("after", [False, True])
def test_a_crash_at_each_step_of_the_carrying_is_gone_on_with(
    scene: Carrying, spec: Spec, after: bool
) -> None:
    ours = {Kind.CARRY_WORKLOAD, Kind.TAKE_WORKLOAD, Kind.BRING_WORKLOAD}
    graph = scene.plan(spec(scene))
    steps = [s.id for s in graph.section(Section.FORWARD) if s.kind in ours]
    for step in steps[-1:]:
        with pytest.raises(Died):
            scene.run(graph, Dying(scene.driver(), step, after=after))
        report = scene.run(last=True)
        assert report.outcome is Outcome.COMMITTED
        assert scene.places() == ["web-g3/counter:41"]


@pytest.mark.slow
@BOTH
def test_a_crash_at_any_moment_of_the_carrying_ends_committed_with_one_counter(
    tmp_path: Path, spec: Spec
) -> None:
    """Before each connection to an agent; `resume` goes on."""
    number = 1
    while True:
        with in_memory(tmp_path) as directory:
            scene = Carrying.at(directory)
            graph = scene.plan(spec(scene))
            first = scene.inhabitants.connections

            def dies(at: int, last: int = first + number) -> None:
                if at == last:
                    raise Died

            scene.inhabitants.before = dies
            try:
                report, died = scene.run(graph), False
            except Died:
                died = True
                scene.inhabitants.before = lambda at: None
                assert len(scene.places()) <= 1
                report = scene.run(last=True)
            assert report.outcome is Outcome.COMMITTED
            assert scene.places() == ["web-g3/counter:41"]
            scene.inhabitants.close()
        if not died:
            assert number > 8
            return
        number += 1


def test_the_old_generation_has_its_key_again_when_it_is_made_again(scene: Carrying) -> None:
    graph = scene.plan(scene.replacing_it(checks=[NO]))
    was = scene.double.world.instances["web-g2"].image
    assert scene.run(graph).outcome is Outcome.ROLLED_BACK
    now = scene.double.world.instances["web-g2"].image
    assert was is not None
    assert now is not None
    assert was.initrd == now.initrd


def test_keys_go_with_their_generations(scene: Carrying) -> None:
    def names() -> list[str]:
        return sorted(path.stem for path in (scene.directory / "agents").iterdir())

    assert names() == ["web-g2"]
    scene.run(scene.plan(scene.carrying()))
    assert names() == ["web-g2", "web-g3"], "the old one is kept, for a rollback"


@pytest.mark.slow
@BOTH
def test_a_committed_upgrade_that_is_rolled_back_carries_its_state_back(
    scene: Carrying, spec: Spec
) -> None:
    scene.run(scene.plan(spec(scene)))
    scene.counter("web-g3", 90)
    report = scene.roll_back()
    assert report.outcome is Outcome.ROLLED_BACK
    assert scene.places() == ["web-g2/counter:90"]


@pytest.mark.slow
@BOTH
def test_a_way_back_whose_target_refuses_leaves_it_running_in_the_new_generation(
    scene: Carrying, spec: Spec
) -> None:
    scene.run(scene.plan(spec(scene)))
    scene.counter("web-g3", 90)
    scene.inhabitants.kernels["web-g2"].workloads.refuses.add("restore")
    report = scene.roll_back()
    assert report.outcome is Outcome.ROLLBACK_INCOMPLETE
    assert scene.places() == ["web-g3/counter:90"]


HOOKS = {"method": "hooks", "save": ["save"], "load": ["load"]}


@pytest.mark.parametrize("kind", ["surge", "replace", "rolling", "blue-green"])
def test_every_strategy_carries_in_the_order_of_what_rests_on_what(
    scene: Carrying, kind: str
) -> None:
    """Two workloads side by side, one of them by hooks, in the order of `after`."""
    scene.kernel("web-g2").workloads.running["shop"] = 7
    shop = workload("shop", migrate=HOOKS, after=["counter"])
    hook = {"name": "traffic", "run": ["true"], "undo": ["true"]}
    spec = scene.carrying(
        workloads=[shop, workload()], strategy={"kind": kind}, hooks={"before": [hook]}
    )
    graph = scene.plan(spec)
    first, then = ("shop", "counter") if kind in ("replace", "rolling") else ("counter", "shop")
    verb = "carry" if first == "counter" else "take"
    assert (f"{verb}-workload/{first}", f"{verb}-workload/{then}") in set(map(tuple, graph.edges))
    assert scene.run(graph).outcome is Outcome.COMMITTED
    assert scene.places() == ["web-g3/counter:41", "web-g3/shop:7"]


def test_the_plan_says_what_is_carried_and_how_long_it_stands_still(scene: Carrying) -> None:
    graph = scene.plan(scene.carrying())
    step = next(s for s in graph.steps if s.kind == Kind.CARRY_WORKLOAD)
    assert step.title == "Carry counter to web-g3 (criu)"
    assert step.blackout
    assert Cap.INSTANCE_VSOCK in step.requires
    assert "1 workload to carry" in last_line(graph)
    ran_on = step.params["ran_on_seconds"]
    dark = summary(graph)["expected_blackout_seconds"]
    assert dark == pytest.approx(step.estimate - ran_on, abs=0.002)


def test_the_announced_blackout_counts_on_what_is_copied_ahead_and_says_by_which_guess(
    scene: Carrying,
) -> None:
    """Half of it written to again is less than all of it, and more than nothing."""
    graph = scene.plan(scene.carrying())
    (said,) = [note for note in graph.notes if note.startswith("counter: ")]
    found = [float(it) for it in re.findall(r"([0-9.]+) s ", said)]
    expected, nothing, everything = found
    assert nothing < expected < everything
    assert expected == pytest.approx(summary(graph)["expected_blackout_seconds"], abs=0.06)
    assert "for 50% of 256.0 MiB, for which each is taken: its size is not known here" in said


def test_of_what_copies_nothing_ahead_all_is_announced(scene: Carrying) -> None:
    scene.kernel("web-g2").workloads.running["shop"] = 7
    shop = workload("shop", migrate=HOOKS)
    graph = scene.plan(scene.carrying(workloads=[shop]))
    step = next(s for s in graph.steps if s.kind == Kind.CARRY_WORKLOAD)
    assert summary(graph)["expected_blackout_seconds"] == step.estimate
    assert any("nothing is copied ahead by method hooks" in note for note in graph.notes)


def test_with_replace_only_the_checkpoint_is_shorter_and_that_is_said(scene: Carrying) -> None:
    """What lies on the host has to be sent when the new generation is there."""
    graph = scene.plan(scene.replacing_it())
    (said,) = [note for note in graph.notes if note.startswith("counter: ")]
    assert "which shortens the checkpoint alone" in said
    take, bring = (
        next(s for s in graph.steps if s.kind == kind)
        for kind in (Kind.TAKE_WORKLOAD, Kind.BRING_WORKLOAD)
    )
    assert take.estimate - take.params["ran_on_seconds"] < estimates.take(estimates.CARRIED)
    assert bring.estimate > estimates.bring(estimates.CARRIED)


def test_the_report_shows_how_long_each_carried_workload_stood_still(scene: Carrying) -> None:
    graph = scene.plan(scene.replacing_it())
    found = view_of(scene.run(graph), graph).workloads
    assert [(it.name, it.how) for it in found] == [("counter", "criu over stream")]
    assert found[0].blackout.seconds > 0


def test_why_state_cannot_be_carried_is_said_by_workload(scene: Carrying, tmp_path: Path) -> None:
    kernel = {"image": str(scene.directory / "newer"), "release": RELEASE,
              "initrd": str(scene.directory / "initrd")}  # fmt: skip
    without = scene.carrying(instances=[{"name": "web", "kernel": kernel}])
    assert "workloads.counter.migrate: method criu carries state" in scene.causes(without)
    assert "instances.web.agent is needed" in scene.causes(without)
    new = {
        "name": "db",
        "kernel": kernel,
        "agent": {},
        "resources": {"cpus": 1, "memory": "512MiB"},
    }
    fresh = scene.carrying(instances=[new], workloads=[workload(instance="db")])
    assert "no generation of db runs" in scene.causes(fresh)
    (scene.directory / "agents" / "web-g2.json").unlink()
    assert "no key of an agent in web-g2" in scene.causes(scene.carrying())
    kho = scene.carrying(workloads=[workload(channel="kho")])
    assert "kho does not reach an instance" in scene.causes(kho)


def test_a_generation_that_was_loaded_anew_by_somebody_else_has_no_agent_of_ours(
    scene: Carrying,
) -> None:
    image = scene.double.world.instances["web-g2"].image
    assert image is not None
    image.cmdline = "console=mktty0"
    assert "no key of an agent in web-g2" in scene.causes(scene.carrying())


def test_an_agent_that_takes_state_only_is_found_out_as_the_new_generation_comes_up(
    scene: Carrying,
) -> None:
    scene.double.world.spawns["web-g3"] = Spawn(agent=AgentSays(RELEASE))
    report = scene.run(scene.plan(scene.carrying()))
    assert report.outcome is Outcome.ROLLED_BACK
    assert "takes state only" in report.reason
    assert scene.places() == ["web-g2/counter:41"]


def test_the_hosts_copies_of_state_go_once_there_is_no_way_back(
    scene: Carrying, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = scene.run(scene.plan(scene.carrying()))
    copies = scene.directory / "handover" / report.transaction
    over = [(report.transaction, Outcome.COMMITTED)]
    assert scene.driver().prune(over) == []
    assert copies.is_dir()
    later = keeping.time.time() + 40 * 86400
    monkeypatch.setattr(keeping.time, "time", lambda: later)
    scene.driver().prune(over)
    assert not copies.exists()


@pytest.mark.slow
@BOTH
@pytest.mark.parametrize("how", ["its kernel", "the workload"])
def test_a_rollback_from_a_dead_new_generation_uses_the_state_of_the_way_there(
    scene: Carrying, spec: Spec, how: str
) -> None:
    scene.run(scene.plan(spec(scene)))
    scene.counter("web-g3", 90)
    if how == "its kernel":
        scene.client.force(scene.double.world.instances["web-g3"].id)
    else:
        scene.kernel("web-g3").workloads.running.clear()
    report = scene.roll_back()
    assert report.outcome is Outcome.ROLLED_BACK
    assert scene.places() == ["web-g2/counter:41"]
    told = [line for s in report.steps for line in (s.result or {}).get("problems", ())]
    assert any("its state of the way there is used" in line for line in told)
    assert scene.kernel("web-g2").workloads.outrun == ["counter"]
