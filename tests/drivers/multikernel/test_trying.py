"""Upgrades that are refused by what a trial of their workloads finds, before one is stopped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.agent.client import AgentClient
from orchestrator.model.kinds import Kind
from orchestrator.model.outcomes import Outcome
from orchestrator.model.steps import Section
from tests.drivers.multikernel.scene import Died, Dying
from tests.drivers.multikernel.test_carrying import BOTH, HOOKS, Carrying, Spec
from tests.support.carried import Kernel, workload
from tests.support.memory import in_memory

CRIU_SAYS = "a trial dump of process 4000 failed: Can't dump half of stream unix connection"


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Carrying]:
    with in_memory(tmp_path) as directory:
        made = Carrying.at(directory)
        yield made
        made.inhabitants.close()


@BOTH
def test_what_criu_refuses_in_the_source_is_found_before_anything_is_made(
    scene: Carrying, spec: Spec
) -> None:
    """The error names the workload, the instance, and what CRIU said."""
    scene.kernel("web-g2").workloads.finds = [("error", CRIU_SAYS)]
    before, names = scene.picture(), set(scene.double.world.instances)
    graph = scene.plan(spec(scene))
    report = scene.run(graph)
    assert report.outcome is Outcome.ROLLED_BACK
    assert f"counter cannot be taken out of web-g2: {CRIU_SAYS}" in report.reason
    performed = {s.kind for s in report.steps if s.attempts}
    assert performed == {Kind.TRY_WORKLOADS}
    assert scene.picture() == before
    assert set(scene.double.world.instances) == names
    assert scene.kernel("web-g2").asked == ["try"]


def test_all_workloads_that_are_refused_are_told_at_once(scene: Carrying) -> None:
    shop = workload("shop", migrate=HOOKS)
    source = scene.kernel("web-g2").workloads
    source.running["shop"] = 7
    source.finds = [("error", CRIU_SAYS)]
    report = scene.run(scene.plan(scene.carrying(workloads=[workload(), shop])))
    (tried,) = [s for s in report.steps if s.attempts]
    assert tried.error is not None
    assert tried.error["what"] == "2 problems with workloads"
    assert [line.split(":")[0] for line in tried.error["details"]] == [
        "counter cannot be taken out of web-g2",
        "shop cannot be taken out of web-g2",
    ]


def test_what_the_new_generation_lacks_is_found_while_the_workload_runs(scene: Carrying) -> None:
    before = scene.picture()

    def lacks(kernel: Kernel) -> None:
        kernel.workloads.lacking = [("error", "process ids of it are taken here: 4000 by sleep")]

    scene.inhabitants.made = lacks
    report = scene.run(scene.plan(scene.carrying()))
    assert report.outcome is Outcome.ROLLED_BACK
    assert "counter cannot be restored in web-g3: process ids of it are taken" in report.reason
    assert "take" not in scene.kernel("web-g2").asked
    assert scene.picture() == before
    assert scene.places() == ["web-g2/counter:41"]


def test_the_new_generation_is_told_what_the_old_one_said_is_needed(scene: Carrying) -> None:
    scene.kernel("web-g2").workloads.size = 123_456
    report = scene.run(scene.plan(scene.carrying()))
    assert report.outcome is Outcome.COMMITTED
    (told,) = scene.inhabitants.kernels["web-g3"].workloads.told
    assert told.size == 123_456


def test_a_host_whose_disk_cannot_hold_the_state_is_found_out(scene: Carrying) -> None:
    scene.kernel("web-g2").workloads.size = 1 << 60
    report = scene.run(scene.plan(scene.carrying()))
    assert report.outcome is Outcome.ROLLED_BACK
    assert "the state of all workloads has about 1048576.0 TiB" in report.reason


def test_an_old_generation_whose_agent_cannot_try_is_carried_from_and_that_is_told(
    scene: Carrying, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = scene.plan(scene.carrying())
    monkeypatch.setattr(AgentClient, "minor", 2)
    report = scene.run(graph)
    assert report.outcome is Outcome.COMMITTED
    tried = next(s for s in report.steps if s.kind == Kind.TRY_WORKLOADS)
    assert tried.result is not None
    assert "the agent in web-g2 speaks protocol 1.2" in tried.result["warnings"][0]


@BOTH
def test_a_crash_behind_the_carrying_tries_nothing_again(scene: Carrying, spec: Spec) -> None:
    """It could only fail: the workload does not run where it was tried."""
    graph = scene.plan(spec(scene))
    last = [s.id for s in graph.section(Section.FORWARD) if s.id.endswith("workload/counter")][-1]
    with pytest.raises(Died):
        scene.run(graph, Dying(scene.driver(), last, after=True))
    report = scene.run(last=True)
    assert report.outcome is Outcome.COMMITTED
    assert scene.places() == ["web-g3/counter:41"]


def test_an_upgrade_without_state_tries_nothing(scene: Carrying) -> None:
    graph = scene.plan(scene.carrying(workloads=[scene.workload()]))
    assert not {Kind.TRY_WORKLOADS, Kind.ADMIT_WORKLOADS} & {s.kind for s in graph.steps}
