"""The pretend host refuses what a kernel, a driver or CRIU refuses."""

from __future__ import annotations

import errno
from dataclasses import replace

import pytest

from orchestrator.drivers.simulated import PretendImage, write_image
from orchestrator.model.errors import (
    CheckFailedError,
    ErrorClass,
    HandoverError,
    MkupgradeError,
    NotSupportedError,
    SystemCallError,
    WorkloadError,
)
from orchestrator.model.steps import Inspection, Section


def test_a_jump_without_a_loaded_image_is_einval(place):
    walk = place.walk()
    with pytest.raises(SystemCallError) as caught:
        walk.perform("jump/host")
    assert caught.value.errno == errno.EINVAL
    assert walk.driver.world().boots == 1


def test_a_jump_into_somebody_elses_image_is_refused(place):
    walk = place.walk()
    walk.run(Section.FORWARD, until="jump/host")
    with walk.driver.store.change() as world:
        world.loaded.cmdline = "root=/dev/vda mkupgrade.transaction=other/forward"
    with pytest.raises(MkupgradeError, match="somebody else's image"):
        walk.perform("jump/host")


def test_preserving_twice_is_eexist(place):
    walk = place.walk()
    walk.run(Section.FORWARD, until="jump/host")
    with pytest.raises(SystemCallError) as caught:
        walk.perform("preserve/host")
    assert caught.value.errno == errno.EEXIST


def test_preserving_what_was_not_taken_is_refused(place):
    walk = place.walk()
    with pytest.raises(HandoverError, match="the state of counter was not taken"):
        walk.perform("preserve/host")


def test_memory_is_not_preserved_by_a_kernel_that_hands_nothing_over(place):
    walk = place.walk()
    walk.run(Section.FORWARD, until="preserve/host")
    with walk.driver.store.change() as world:
        world.kernel.cmdline = "quiet"
    with pytest.raises(MkupgradeError, match="hands nothing over"):
        walk.perform("preserve/host")


def test_a_running_workload_is_not_restored(place):
    walk = place.walk()
    with pytest.raises(WorkloadError, match="runs already"):
        walk.perform("restore/counter")


def test_a_workload_that_does_not_run_is_not_checkpointed(place):
    walk = place.walk()
    walk.perform("checkpoint/counter")
    with pytest.raises(WorkloadError, match="does not run"):
        walk.perform("checkpoint/counter")


def test_a_workload_without_state_is_not_restored_but_in_recovery_started_anew(place):
    walk = place.walk()
    walk.run(Section.FORWARD, until="retrieve/host")
    with pytest.raises(WorkloadError, match="no state"):
        walk.perform("restore/counter")
    assert walk.perform("recover.restore/counter")["restarted"] is True


def test_state_that_does_not_fit_its_digest_is_refused(place):
    walk = place.walk()
    walk.run(Section.FORWARD, until="retrieve/host")
    with walk.driver.store.change() as world:
        (session,) = world.incoming.values()
        session["counter"].counter += 1
    with pytest.raises(HandoverError, match="does not fit its digest"):
        walk.perform("retrieve/host")


def test_an_image_that_changed_after_the_plan_is_not_loaded(place):
    walk = place.walk()
    write_image(place.new_image, PretendImage(release="7.3.4", behaviour="hang"))
    with pytest.raises(MkupgradeError, match="has changed"):
        walk.perform("load-kernel/host")
    with pytest.raises(MkupgradeError, match="not those of the plan") as caught:
        walk.perform("check-artifacts/host")
    assert "sha256 is" in caught.value.details[0]


def test_an_image_that_was_cut_off_is_enoexec(place):
    walk = place.walk()
    place.new_image.write_bytes(place.new_image.read_bytes()[:20])
    with pytest.raises(SystemCallError) as caught:
        walk.perform("load-kernel/host")
    assert caught.value.errno == errno.ENOEXEC
    assert walk.driver.world().loaded is None


def test_an_unsigned_image_is_not_loaded_where_signatures_are_enforced(place):
    walk = place.walk()
    with walk.driver.store.change() as world:
        world.signature_enforced = True
    with pytest.raises(MkupgradeError) as caught:
        walk.perform("load-kernel/host")
    assert caught.value.error_class is ErrorClass.REFUSED


def test_the_way_back_is_not_armed_when_a_reset_would_end_elsewhere(place):
    walk = place.walk()
    with walk.driver.store.change() as world:
        world.entries["other"] = world.entries["linux-7.2.13"]
        world.default = "other"
    with pytest.raises(MkupgradeError, match="a reset ends in other"):
        walk.perform("arm-fallback/host")


def test_a_way_back_whose_watchdog_died_with_its_holder_is_left_in_part(place):
    walk = place.walk(rollback={"watchdog": "/dev/watchdog0"})
    walk.perform("arm-fallback/host")
    walk.driver.die()
    walk.driver = place.again()
    assert walk.inspect("arm-fallback/host").verdict is Inspection.PARTIAL
    walk.revert("arm-fallback/host")
    assert walk.inspect("arm-fallback/host").verdict is Inspection.ABSENT
    assert walk.driver.world().fallbacks == {}


def test_preflight_finds_what_does_not_run(place):
    walk = place.walk()
    with walk.driver.store.change() as world:
        world.workloads["counter"].status = "gone"
    with pytest.raises(WorkloadError) as caught:
        walk.perform("preflight/host")
    assert caught.value.details == ("counter: does not run",)


def test_neither_a_jump_nor_a_commit_is_taken_back(place):
    walk = place.walk()
    for step_id in ("jump/host", "commit/host"):
        with pytest.raises(MkupgradeError, match="cannot be taken back"):
            walk.revert(step_id)


def test_commit_is_refused_in_another_kernel(place):
    walk = place.walk()
    with pytest.raises(MkupgradeError, match=r"Linux 7\.2\.13 runs, not 7\.3\.4"):
        walk.perform("commit/host")


def test_an_unknown_kind_of_step_is_refused(place):
    walk = place.walk()
    step = replace(walk.graph.step("soak/host"), kind="paint")
    with pytest.raises(NotSupportedError, match='"paint"'):
        walk.driver.perform(step, walk.context(step))


def test_checks_fail_in_the_kernel_that_they_are_to_fail_in(place):
    checks = [{"name": "alive", "kind": "tcp", "port": 80, "when": ["before", "after"]}]
    walk = place.walk(checks=checks)
    with walk.driver.store.change() as world:
        world.failing_checks = {"alive": "7.3.4"}
    walk.run(Section.FORWARD, until="check/after")
    with pytest.raises(CheckFailedError) as caught:
        walk.perform("check/after")
    assert "alive: fails in Linux 7.3.4" in caught.value.details[0]


@pytest.mark.parametrize(
    "new",
    [
        {"kho": False},
        {"abi": {"kho": "kho-v4", "luo": "luo-v6", "memfd": "memfd-v2"}},
    ],
)
def test_state_for_a_kernel_that_cannot_take_it_is_lost_without_an_error(place, new):
    """What a planner must keep from happening: here the image changes behind its back."""
    walk = place.walk([{"spill": False}])
    walk.run(Section.FORWARD, until="jump/host")
    with walk.driver.store.change() as world:
        for key, value in PretendImage.model_validate({"release": "7.3.4"} | new):
            if key in new:
                setattr(world.loaded, key, value)
    walk.perform("jump/host")
    with pytest.raises(HandoverError, match="did not arrive"):
        walk.perform("retrieve/host")


def test_a_third_kernel_is_unknown(place):
    walk = place.walk()
    walk.run(Section.FORWARD, until="retrieve/host")
    with walk.driver.store.change() as world:
        world.kernel.release = "6.1.0"
        world.kernel.cmdline = "quiet"
    assert walk.inspect("jump/host").verdict is Inspection.UNKNOWN


def test_a_jump_that_was_never_intended_is_absent(place):
    walk = place.walk()
    assert walk.inspect("jump/host").verdict is Inspection.ABSENT


def test_a_workload_that_is_neither_running_nor_saved_is_unknown(place):
    walk = place.walk()
    with walk.driver.store.change() as world:
        world.workloads["counter"].status = "gone"
    assert walk.inspect("checkpoint/counter").verdict is Inspection.UNKNOWN
