"""Whole plans, walked through without the engine."""

from __future__ import annotations

import pytest

from orchestrator.drivers.simulated import SimulatedDriver
from orchestrator.model.errors import HandoverError, MkupgradeError
from orchestrator.model.steps import Inspection, Section

CHAIN = ({"name": "db"}, {"name": "web", "after": ["db"]}, {"name": "cache", "channel": "disk"})


def test_forward_ends_with_every_workload_in_the_new_kernel_and_its_counter_continuous(place):
    walk = place.walk(CHAIN)
    before = walk.running()
    walk.run(Section.FORWARD)
    after = walk.running()
    assert walk.driver.world().kernel.release == "7.3.4"
    assert after.keys() == before.keys()
    for name, (life, counter) in after.items():
        assert life == 1
        taken = walk.results[f"checkpoint/{name}"]["counter"]
        assert before[name][1] <= taken <= counter


def test_a_second_plan_after_commit_finds_nothing_to_do(place):
    from orchestrator import planning

    walk = place.walk(CHAIN)
    walk.run(Section.FORWARD)
    again = planning.plan(walk.graph.spec, walk.driver.observe(walk.graph.spec))
    assert again.is_empty
    assert "nothing to do" in again.notes[0]


@pytest.mark.parametrize("failing", ["restore/db", "check/after", "soak/host", "commit/host"])
def test_return_and_recover_bring_everything_back(place, failing):
    checks = [{"name": "kernel-ok", "kind": "kernel"}]
    walk = place.walk(CHAIN, checks=checks)
    before = walk.running()
    walk.run(Section.FORWARD, until=failing)
    walk.run(Section.RETURN)
    walk.run(Section.RECOVER)
    world = walk.driver.world()
    assert world.kernel.release == "7.2.13"
    assert world.default == "linux-7.2.13"
    for name, (life, counter) in walk.running().items():
        assert life == 1, "it was started anew instead of restored"
        assert counter >= before[name][1]
    assert walk.running().keys() == before.keys()


def test_every_performed_step_is_present_and_every_other_absent(place):
    walk = place.walk(CHAIN)
    order = walk.order(Section.FORWARD)
    for step_id in order:
        assert walk.inspect(step_id).verdict is Inspection.ABSENT, step_id
        walk.perform(step_id)
        assert walk.inspect(step_id).verdict is Inspection.PRESENT, step_id
        if step_id == "jump/host":
            break
    assert "preserve/host" in walk.results


def test_reverting_what_was_performed_leaves_the_host_as_it_was(place):
    for until in ("load-kernel/host", "checkpoint/web", "preserve/host", "jump/host"):
        walk = place.walk(CHAIN)
        before = walk.driver.world()
        walk.run(Section.FORWARD, until=until)
        walk.revert_all(Section.FORWARD)
        after = walk.driver.world()
        assert _without_time(after) == _without_time(before), until


def test_a_new_kernel_that_panics_is_a_lost_jump_and_recover_takes_what_was_spilled(place):
    place.images(behaviour="panic-at-boot")
    walk = place.walk(CHAIN)
    with pytest.raises(MkupgradeError, match="not where the jump was to lead"):
        walk.run(Section.FORWARD)
    assert walk.inspect("jump/host").verdict is Inspection.LOST
    assert walk.running() == {}
    walk.run(Section.RECOVER)
    assert {life for life, _ in walk.running().values()} == {1}
    assert walk.results["recover.retrieve/host"]["from"]["db"] == "disk (forward)"


def test_state_that_was_nowhere_else_is_lost_with_the_panic_and_the_workload_starts_anew(place):
    place.images(behaviour="panic-at-boot")
    walk = place.walk([{"name": "db", "spill": False}])
    with pytest.raises(MkupgradeError):
        walk.run(Section.FORWARD)
    walk.run(Section.RECOVER)
    assert walk.results["recover.restore/db"]["restarted"] is True
    assert walk.running()["db"][0] == 2


def test_a_session_dies_with_its_process_and_the_next_one_takes_the_state_again(place):
    walk = place.walk([{"name": "db", "spill": False}])
    walk.run(Section.FORWARD, until="jump/host")
    walk.driver.die()
    walk.driver = place.again()
    assert walk.inspect("preserve/host").verdict is Inspection.PARTIAL
    assert walk.inspect("checkpoint/db").verdict is Inspection.PARTIAL
    walk.revert("preserve/host")
    walk.revert("checkpoint/db")
    assert walk.running()["db"][0] == 1
    walk.run(Section.FORWARD)
    assert walk.running()["db"][0] == 1


def test_jumping_with_a_dead_session_loses_the_state_without_an_error(place):
    walk = place.walk([{"name": "db", "spill": False}])
    walk.run(Section.FORWARD, until="jump/host")
    walk.driver.die()
    walk.driver = place.again()
    walk.perform("jump/host")
    with pytest.raises(HandoverError, match="did not arrive"):
        walk.perform("retrieve/host")


def test_without_the_old_image_the_way_back_is_a_reset_with_the_state_on_disk(place):
    place.images()
    spec = place.spec(CHAIN)
    driver: SimulatedDriver = place.driver(spec, image=None)
    from orchestrator import planning

    graph = planning.plan(spec, driver.observe(spec))
    walk = place.walk(CHAIN)
    walk.driver, walk.graph = place.again(), graph
    place.driver(spec, image=None)
    walk.run(Section.FORWARD, until="check/after")
    assert "return.load-kernel/host" not in walk.order(Section.RETURN)
    walk.run(Section.RETURN)
    walk.run(Section.RECOVER)
    assert walk.driver.world().kernel.release == "7.2.13"
    assert {life for life, _ in walk.running().values()} == {1}


def test_hooks_are_undone_on_the_way_back_only_if_they_ran(place):
    hooks = {
        "before": [{"name": "drain", "run": ["drain"], "undo": ["fill"]}],
        "after": [{"name": "announce", "run": ["announce"], "undo": ["withdraw"]}],
    }
    walk = place.walk([{}], hooks=hooks)
    walk.run(Section.FORWARD, until="run-hook/announce")
    walk.run(Section.RETURN)
    walk.run(Section.RECOVER)
    said = "\n".join(walk.driver.world().log)
    assert "skipped" in walk.results["return.run-hook/announce"]
    assert "hook drain: fill" in said
    assert "withdraw" not in said


def _without_time(world):
    data = world.model_dump(exclude={"log", "boots"})
    for workload in data["workloads"].values():
        del workload["counter"]
    for name in ("staged", "spilled"):
        data[name] = {key: value for key, value in data[name].items() if value}
    return data
