"""The real engine and journal on a pretend host: whole transactions, and their deaths."""

from __future__ import annotations

import os
import signal

import pytest

from orchestrator import planning
from orchestrator.drivers.simulated import Fault, booting
from orchestrator.engine.identity import Identity
from orchestrator.engine.journal import Journal
from orchestrator.engine.transaction import Engine
from orchestrator.model.outcomes import Outcome
from orchestrator.model.steps import Section

WORKLOADS = (
    {"name": "db"},
    {"name": "web", "after": ["db"]},
    {"name": "log", "channel": "disk"},
    {"name": "mail", "migrate": {"method": "restart", "start": ["mail"]}},
)
RESTARTED = {"mail"}
REST = {
    "checks": [{"name": "release", "kind": "kernel", "release": "7.3.4"}],
    "hooks": {"before": [{"name": "drain", "run": ["a"], "undo": ["b"]}]},
    "soak": {"duration": "1s"},
    "rollback": {"watchdog": "/dev/watchdog0"},
}


@pytest.fixture
def place(in_memory):
    """In memory: no test here cuts the power, and waiting for disks is most of the time."""
    return in_memory


def pretend(driver):
    def identity():
        world = driver.world()
        return Identity(boot_id=world.boot_id, release=world.kernel.release, pid=os.getpid())

    return identity


def run(place, driver, graph=None):
    """Begin with `graph`, or resume what is unfinished."""
    with (
        Journal.open(place.directory, volatile=lambda _: None) as journal,
        Engine(driver, journal, identity=pretend(driver), grace=0.5) as engine,
    ):
        if graph is not None:
            return engine.run(engine.begin(graph))
        (unfinished,) = journal.transactions()
        return engine.resume(unfinished.id)


def roll_back(place, driver, committed):
    with (
        Journal.open(place.directory, volatile=lambda _: None) as journal,
        Engine(driver, journal, identity=pretend(driver)) as engine,
    ):
        return engine.rollback(committed.transaction, "the operator likes the old one better")


def start(place, workloads=WORKLOADS, **rest):
    walk = place.walk(workloads, **(REST | rest))
    return walk.graph, walk.driver


def change(driver, **changes):
    """Edit the host's file, as an operator would."""
    with driver.store.change() as world:
        for key, value in changes.items():
            setattr(world, key, value)


def reset(driver, kernel=None):
    """Into the default boot entry, or into what somebody chose in its menu."""
    with driver.store.change() as world:
        booting.reset(world, "power cut")
        if kernel is not None:
            world.kernel = kernel.model_copy()


def lives(driver):
    world = driver.world()
    for workload in world.workloads.values():
        assert workload.status == "running"
        assert workload.boot_id == world.boot_id
    return {name: w.life for name, w in world.workloads.items() if name not in RESTARTED}


def assert_old(driver):
    world = driver.world()
    assert world.kernel.release == "7.2.13"
    assert world.default == "linux-7.2.13"
    assert set(lives(driver).values()) == {1}
    assert world.loaded is None
    assert world.watchdog is None


def test_an_upgrade_is_committed_and_the_next_plan_is_empty(place):
    graph, driver = start(place)
    assert run(place, driver, graph).outcome is Outcome.COMMITTED
    world = driver.world()
    assert (world.kernel.release, world.default) == ("7.3.4", "linux-7.3.4")
    assert set(lives(driver).values()) == {1}
    assert planning.plan(graph.spec, driver.observe(graph.spec)).is_empty


@pytest.mark.parametrize(
    "step", ["preflight/host", "load-kernel/host", "checkpoint/db", "preserve/host"]
)
@pytest.mark.parametrize("kind", ["fail", "late", "partial"])
def test_a_failure_before_the_jump_puts_everything_back(place, step, kind):
    graph, driver = start(place)
    change(driver, faults={step: Fault(kind=kind)})
    report = run(place, driver, graph)
    looks_only = step.startswith("preflight")
    if kind == "late" and not looks_only:
        assert report.outcome is Outcome.COMMITTED, "the effect was seen to be there"
        return
    assert report.outcome is Outcome.ROLLED_BACK
    assert driver.world().boots == 1
    assert driver.world().hooks == []
    assert_old(driver)


@pytest.mark.parametrize("step", ["retrieve/host", "restore/web", "check/after", "commit/host"])
def test_a_failure_behind_the_jump_brings_the_old_kernel_back(place, step):
    graph, driver = start(place)
    change(driver, faults={step: Fault(kind="fail")})
    report = run(place, driver, graph)
    assert report.outcome is Outcome.ROLLED_BACK
    assert driver.world().boots == 3
    assert_old(driver)


@pytest.mark.parametrize("behaviour", ["panic-at-boot", "hang"])
def test_a_dead_new_kernel_ends_in_the_old_one_with_what_was_spilled(place, behaviour):
    place.images(behaviour=behaviour)
    graph, driver = start(place)
    report = run(place, driver, graph)
    assert report.outcome is Outcome.ROLLED_BACK
    assert_old(driver)


def test_a_check_that_fails_in_the_new_kernel_only_is_content_in_the_old_one(place):
    graph, driver = start(place)
    change(driver, failing_checks={"release": "7.3.4"})
    assert run(place, driver, graph).outcome is Outcome.ROLLED_BACK
    assert_old(driver)


def same_release(place):
    """A plan that changes the command line only."""
    place.images()
    kernel = {"image": str(place.old_image), "release": "7.2.13"}
    instance = {"name": "host", "kernel": kernel, "cmdline": {"append": ["mitigations=off"]}}
    checks = [{"name": "alive", "kind": "tcp", "port": 80}]
    return start(place, instances=[instance], checks=checks)


def test_another_command_line_alone_is_an_upgrade_too(place):
    graph, driver = same_release(place)
    assert run(place, driver, graph).outcome is Outcome.COMMITTED
    world = driver.world()
    assert "mitigations=off" in world.kernel.cmdline
    assert "mitigations=off" in world.entries[world.default].cmdline
    assert planning.plan(graph.spec, driver.observe(graph.spec)).is_empty


def test_another_command_line_alone_is_taken_back_too(place):
    graph, driver = same_release(place)
    change(driver, faults={"soak/host": Fault(kind="fail")})
    assert run(place, driver, graph).outcome is Outcome.ROLLED_BACK
    assert "mitigations=off" not in driver.world().kernel.cmdline
    assert_old(driver)


def test_a_committed_upgrade_is_rolled_back_on_request(place):
    graph, driver = start(place)
    report = run(place, driver, graph)
    assert roll_back(place, driver, report).outcome is Outcome.ROLLED_BACK
    assert_old(driver)


def test_a_reset_into_the_command_line_committed_to_is_not_taken_for_the_old_kernel(place):
    graph, driver = same_release(place)
    committed = run(place, driver, graph)
    change(driver, faults={"return.restore-boot-default/host": Fault(kind="unknown", times=1)})
    assert roll_back(place, driver, committed).outcome is Outcome.UNKNOWN
    reset(driver)
    report = run(place, driver)
    assert report.outcome is Outcome.UNKNOWN
    assert "Boot the kernel before" in report.reason
    old = driver.world().entries["linux-7.2.13"]
    reset(driver, old)
    assert run(place, driver).outcome is Outcome.ROLLED_BACK
    world = driver.world()
    assert (world.kernel.cmdline, world.default) == (old.cmdline, "linux-7.2.13")


def test_a_busy_kexec_is_tried_again(place):
    graph, driver = start(place, retry={"kernel": {"attempts": 4, "initial": "1ms"}})
    change(driver, faults={"load-kernel/host": Fault(kind="fail", error_class="busy", times=3)})
    assert run(place, driver, graph).outcome is Outcome.COMMITTED


def test_an_effect_that_nobody_can_tell_anything_of_stops_the_transaction(place):
    graph, driver = start(place)
    change(driver, faults={"checkpoint/web": Fault(kind="unknown", times=1)})
    assert run(place, driver, graph).outcome is Outcome.UNKNOWN


def test_a_way_back_that_fails_is_not_called_clean(place):
    graph, driver = start(place)
    faults = {"check/after": Fault(kind="fail"), "return.load-kernel/host": Fault(kind="fail")}
    change(driver, faults=faults)
    report = run(place, driver, graph)
    assert report.outcome is Outcome.ROLLBACK_INCOMPLETE
    assert set(lives(driver).values()) == {1}, "workloads run where they are"


def dies(place, graph, step, kind):
    """Run in a child that kills itself at the step; True if it really died there."""
    child = os.fork()
    if child == 0:
        try:
            run(place, place.again(faults={step: Fault(kind=kind)}), graph)
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["die-before", "die-after"])
def test_killed_at_any_step_a_resume_finishes_and_loses_nothing(place, kind):
    graph, driver = start(place)
    fresh = driver.world()
    for step in graph.section(Section.FORWARD):
        driver.store.write(fresh)
        for path in place.directory.glob("journal*"):
            path.unlink()
        assert dies(place, graph, step.id, kind), step.id
        survivor = place.again()
        report = run(place, survivor)
        assert report.outcome is Outcome.COMMITTED, (step.id, kind)
        world = survivor.world()
        assert (world.kernel.release, world.boots) == ("7.3.4", 2), step.id
        assert set(lives(survivor).values()) == {1}, step.id
        assert len(world.hooks) == 1, step.id
        survivor.close()
