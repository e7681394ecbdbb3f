"""Both example plans by the command line, each with every fault that can be expected: it ends
committed, or with instances, CPUs, memory and devices as they were, and says why.

docs/multikernel.md has the table.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from tests.drivers.multikernel import scene
from tests.drivers.multikernel.examples import document, written
from tests.drivers.multikernel.served_host import Host
from tests.support.multikernel.double import Double
from tests.support.multikernel.served import state
from tests.support.multikernel.served.session import cannot_be_served
from tests.support.multikernel.settings import Spawn

_LACK = cannot_be_served()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(_LACK is not None, reason=str(_LACK)),
]

DONE, ROLLED_BACK, STALE, KILLED = 0, 3, 5, -9
PANIC = "Kernel panic - not syncing: VFS\n"


@dataclass(frozen=True)
class Example:
    """An example plan, and the host that it is for."""

    name: str
    host: Callable[[], Double]
    after: dict[str, str]
    """States of the instances behind it."""
    last: str
    """One of the new generations, not the first to come up."""
    rollback: dict[str, Any]

    def plan(self, host: Host, **rest: Any) -> dict[str, Any]:
        old = {"kernel": {"image": str(host.directory / "old")}} if self.rollback else {}
        # Of ours, whose seconds a busy machine makes long: a kernel that is well takes 50 ms.
        rollback = {"boot_deadline": "10s", **old}
        plan = document(f"multikernel-{self.name}", host.directory, checks=[], rollback=rollback)
        return plan | rest


def only_web_with_devices() -> Double:
    return with_devices(scene.only_web())


def three_with_devices() -> Double:
    return with_devices(scene.three())


def with_devices(double: Double) -> Double:
    """Two in the pool, at least."""
    for device in state.DEVICES:
        if device.address not in double.world.pool_pci:
            double.world.host_pci[device.address] = device
            double.world.pool_pci.append(device.address)
    return double


SURGE = Example(
    "surge",
    only_web_with_devices,
    {"web": "loaded", "web-g2": "active", "db-g1": "active", "batch-g1": "active"},
    "web-g2",
    {},
)
ROLLING = Example(
    "rolling",
    three_with_devices,
    {"web-g2": "active", "api-g2": "active", "batch-g2": "active"},
    "api-g2",
    {"kernel": "old"},
)


@pytest.fixture(params=[SURGE, ROLLING], ids=lambda it: it.name)
def example(request: pytest.FixtureRequest, module_host: Host) -> Example:
    found: Example = request.param
    module_host.begin(found.host)
    return found


@pytest.fixture
def host(module_host: Host, example: Example) -> Host:
    return module_host


def assert_shop_runs_in_one_place(host: Host, where: str) -> None:
    """What its commands were told, from the first to the last."""
    log = host.directory / "log"
    said = [line.split() for line in log.read_text().splitlines()] if log.exists() else []
    places = {"web"}
    for verb, _, instance in said:
        assert not (verb == "start" and places - {instance}), f"in two places: {said}"
        places = places - {instance} if verb == "stop" else places | {instance}
    assert places == {where}, said


def assert_as_before(host: Host, before: dict[str, Any]) -> None:
    assert host.picture() == before
    assert_shop_runs_in_one_place(host, "web")


def assert_committed(host: Host, example: Example) -> None:
    assert host.states() == example.after
    assert_shop_runs_in_one_place(host, "web-g2")


def never_gets_ready(host: Host, example: Example) -> None:
    host.double.ask(state.behave, example.last, Spawn(boots_in=10_000, ready_in=None))


def panics_at_boot(host: Host, example: Example) -> None:
    host.double.ask(state.behave, example.last, Spawn(boots_in=50, halts_at=3, says=PANIC))


def loses_a_cpu(host: Host, example: Example) -> None:
    host.double.ask(scene.drops_once, 12)


def fails_in_the_overlay(host: Host, example: Example) -> None:
    host.double.ask(state.fail_overlay, 12)


REASONS = {
    never_gets_ready: "has not answered",
    panics_at_boot: "stopped by itself",
    loses_a_cpu: "says that it is done, and it is not",
    fails_in_the_overlay: "failed",
}


@pytest.mark.parametrize("fault", REASONS, ids=lambda it: it.__name__)
def test_a_fault_is_told_and_leaves_everything_as_it_was(
    host: Host, example: Example, fault: Callable[[Host, Example], None]
) -> None:
    before = host.picture()
    fault(host, example)
    done = host.apply(example.plan(host))
    assert done.code == ROLLED_BACK, done.out + done.err
    assert_as_before(host, before)
    report = host.outcome()
    assert report["outcome"] == "rolled-back"
    assert REASONS[fault] in report["reason"]


def test_an_overlay_that_fails_half_way_is_taken_back(host: Host, example: Example) -> None:
    """Of the two devices that an instance is to get, the first is in it, and the second is not."""
    plan = example.plan(host)
    wanted = {"devices": [device.address for device in state.DEVICES]}
    for instance in plan["instances"]:
        if instance["name"] == "web":
            instance["resources"] = {**instance.get("resources", {}), **wanted}
    before = host.picture()
    host.double.ask(fail_devices_of, "web-g2")
    done = host.apply(plan)
    assert done.code == ROLLED_BACK, done.out + done.err
    assert_as_before(host, before)
    assert "failed" in host.outcome()["reason"]


def fail_devices_of(double: Double, name: str) -> None:
    """The second device of the first overlay that gives any to it cannot be had."""
    write = double.overlays.write

    def failing(data: bytes, offset: int = 0) -> int:
        if f"/instances/{name}\0".encode() in data and b"device-add" in data:
            double.world.faults.fail_at = {1: 16}
            double.overlays.write = write  # type: ignore[method-assign]
        return write(data, offset)

    double.overlays.write = failing  # type: ignore[method-assign]


def test_an_old_kernel_that_does_not_answer_the_halt_is_forced_and_told(
    host: Host, example: Example
) -> None:
    host.double.ask(hangs, "web")
    done = host.apply(example.plan(host))
    assert done.code == DONE, done.out + done.err
    assert_committed(host, example)
    halted = next(s for s in host.outcome()["steps"] if s["id"] == "halt-instance/web")
    assert halted["result"]["forced"] is True
    assert "was forced to halt" in done.out + done.err + json.dumps(host.outcome())


def hangs(double: Double, name: str) -> None:
    """The kernel that runs in it answers nothing any more."""
    life = double.world.instances[name].life
    assert life is not None
    life.spawn = replace(life.spawn, wedges_at=0)


def test_a_new_kernel_that_does_not_answer_the_halt_on_the_way_back_is_forced(
    host: Host, example: Example
) -> None:
    """It came up, hung, and a check failed."""
    before = host.picture()
    host.double.ask(state.behave, example.last, Spawn(wedges_at=4))
    check = {"name": "no", "kind": "command", "run": ["sleep", "1"], "exit_code": 1, "within": "0s"}
    done = host.apply(example.plan(host, checks=[check]))
    assert done.code == ROLLED_BACK, done.out + done.err
    assert_as_before(host, before)


@pytest.mark.parametrize("boots_in", [1, 10_000], ids=["comes up", "does not"])
def test_a_lost_console_changes_nothing_of_the_end(
    host: Host, example: Example, boots_in: float
) -> None:
    before = host.picture()
    spawn = Spawn(boots_in=boots_in, says=PANIC, console_lost=True)
    host.double.ask(state.behave, example.last, spawn)
    done = host.apply(example.plan(host))
    assert not list(host.directory.glob(f"state/**/console.{example.last}.log"))
    if boots_in == 1:
        assert done.code == DONE, done.out + done.err
        assert_committed(host, example)
    else:
        assert done.code == ROLLED_BACK, done.out + done.err
        assert_as_before(host, before)
        assert "has not answered" in host.outcome()["reason"]


def meanwhile(double: Double, name: str, cpu: int) -> None:
    double.world.faults.meanwhile.append(lambda: scene.gets_a_cpu(double, name, cpu))


def test_what_somebody_else_does_to_an_instance_meanwhile_stays_and_nothing_of_ours_does(
    host: Host, example: Example
) -> None:
    """Surge: a CPU that a new generation was to have goes to web. Rolling: api gets another one
    before its turn comes; it could not be made again as he left it."""
    name, cpu = ("web", 14) if example is SURGE else ("api", 18)
    host.double.ask(scene.gets_a_cpu, name, cpu)
    expected = host.picture()
    host.begin(example.host)
    host.double.ask(meanwhile, name, cpu)
    done = host.apply(example.plan(host))
    assert done.code == ROLLED_BACK, done.out + done.err
    assert_as_before(host, expected)
    assert host.outcome()["reason"]


def test_what_somebody_else_did_since_the_plan_makes_it_stale(host: Host, example: Example) -> None:
    plan, saved = written(example.plan(host), host.directory), host.directory / "plan.json"
    assert host.mkupgrade("plan", plan, "-o", saved).code == 0
    host.double.ask(scene.gets_a_cpu, "web", 18)
    before = host.picture()
    done = host.mkupgrade("apply", saved, "--yes")
    assert done.code == STALE, done.out + done.err
    assert_as_before(host, before)


def forward_steps(host: Host, example: Example) -> list[str]:
    saved = host.directory / "steps.json"
    made = host.mkupgrade("plan", written(example.plan(host), host.directory), "-o", saved)
    assert made.code == 0, made.err
    steps = json.loads(saved.read_text())["steps"]
    return [step["id"] for step in steps if step.get("section", "forward") == "forward"]


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_any_step_a_resume_ends_it(host: Host, example: Example, when: str) -> None:
    """Before the effect of each step, or behind it and before anybody knows."""
    before, ends = host.picture(), set()
    for step in forward_steps(host, example):
        host.begin(example.host)
        died = host.apply(example.plan(host), env={"MKDOUBLE_DIES": f"{step}:{when}"})
        assert died.code == KILLED, f"{step}: {died}"
        resumed = host.mkupgrade("resume", "--state-dir", host.directory / "state")
        told = f"{step}, {when}: {resumed.code}\n{resumed.out}{resumed.err}"
        assert resumed.code in (DONE, ROLLED_BACK), told
        if resumed.code == DONE:
            assert host.states() == example.after, told
            assert_shop_runs_in_one_place(host, "web-g2")
        else:
            assert host.picture() == before, told
            assert_shop_runs_in_one_place(host, "web")
        ends.add(resumed.code)
    assert DONE in ends
