"""Faults on demand, and deaths around every effect."""

from __future__ import annotations

import time

import pytest

from orchestrator.drivers.simulated import Fault
from orchestrator.model.errors import DeadlineError, ErrorClass, MkupgradeError
from orchestrator.model.steps import Inspection, Section

STEP = "load-kernel/host"


def faulty(place, step=STEP, **fault):
    walk = place.walk()
    with walk.driver.store.change() as world:
        world.faults = {step: Fault.model_validate(fault)}
    return walk


@pytest.mark.parametrize(
    ("kind", "verdict"),
    [
        ("fail", Inspection.ABSENT),
        ("late", Inspection.PRESENT),
        ("partial", Inspection.PARTIAL),
        ("unknown", Inspection.UNKNOWN),
    ],
)
def test_each_kind_of_fault_leaves_its_own_verdict(place, kind, verdict):
    walk = faulty(place, kind=kind, error_class="io", message="the disk is gone")
    with pytest.raises(MkupgradeError, match="the disk is gone") as caught:
        walk.perform(STEP)
    assert caught.value.error_class is ErrorClass.IO
    assert caught.value.where == STEP
    assert walk.inspect(STEP).verdict is verdict


def test_half_an_effect_is_gone_once_it_is_reverted(place):
    walk = faulty(place, kind="partial", times=1)
    with pytest.raises(MkupgradeError):
        walk.perform(STEP)
    walk.revert(STEP)
    assert walk.inspect(STEP).verdict is Inspection.ABSENT
    walk.perform(STEP)
    assert walk.inspect(STEP).verdict is Inspection.PRESENT


def test_a_fault_plays_as_often_as_it_is_told_to_even_for_another_process(place):
    walk = faulty(place, kind="fail", times=2)
    for _ in range(2):
        with pytest.raises(MkupgradeError):
            walk.perform(STEP)
        walk.driver.die()
        walk.driver = place.again()
    walk.perform(STEP)


def test_faults_of_the_constructor_go_before_those_of_the_file(place):
    walk = faulty(place, kind="fail", message="from the file")
    walk.driver = place.again(faults={STEP: Fault(kind="fail", message="from the test")})
    with pytest.raises(MkupgradeError, match="from the test"):
        walk.perform(STEP)


@pytest.mark.parametrize("operation", ["inspect", "revert"])
def test_looking_and_undoing_can_fail_too(place, operation):
    walk = faulty(place, kind="fail", on=operation)
    walk.perform(STEP)
    with pytest.raises(MkupgradeError, match="as asked for"):
        getattr(walk, operation)(STEP)


def test_an_inspection_can_be_made_to_know_nothing(place):
    walk = faulty(place, kind="unknown", on="inspect", times=1)
    assert walk.inspect(STEP).verdict is Inspection.UNKNOWN
    assert walk.inspect(STEP).verdict is Inspection.ABSENT


def test_a_hang_ends_with_the_deadline_of_the_attempt(place):
    walk = faulty(place, kind="hang", seconds=60)
    end = time.monotonic() + 0.1
    walk.control.remaining = lambda: end - time.monotonic()
    with pytest.raises(DeadlineError):
        walk.perform(STEP)
    assert time.monotonic() - end < 5
    assert walk.inspect(STEP).verdict is Inspection.ABSENT


def test_a_hang_ends_when_the_operator_wants_it_to(place):
    walk = faulty(place, kind="hang", seconds=60)
    walk.control.stopped = lambda: True
    with pytest.raises(MkupgradeError, match="stopped"):
        walk.perform(STEP)


def test_slow_is_slow_and_then_right_and_says_how_far_it_is(place):
    walk = faulty(place, kind="slow", seconds=0.1)
    start = time.monotonic()
    walk.perform(STEP)
    assert time.monotonic() - start >= 0.1
    assert any("to go" in text for text in walk.control.said)


class Death(BaseException):
    """What kills a process is no error that anybody catches."""


@pytest.mark.parametrize("moment", ["before", "after"])
def test_who_dies_around_an_effect_leaves_it_whole_or_not_there(place, moment):
    walk = place.walk()
    for step_id in walk.order(Section.FORWARD):
        step = walk.graph.step(step_id)

        def die(when, operation, dying, *, step=step):
            if (when, operation, dying.id) == (moment, "perform", step.id):
                raise Death

        walk.driver = place.again(on_effect=die)
        with pytest.raises(Death):
            walk.perform(step_id)
        walk.driver = place.again()
        verdict = walk.inspect(step_id).verdict
        assert verdict in (Inspection.PRESENT, Inspection.ABSENT, Inspection.PARTIAL), step_id
        if verdict is Inspection.PARTIAL:
            walk.revert(step_id)
        if verdict is not Inspection.PRESENT:
            walk.results.pop(step_id, None)
            walk.perform(step_id)
    assert walk.driver.world().kernel.release == "7.3.4"
