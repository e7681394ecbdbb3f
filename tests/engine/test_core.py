"""The pure parts: scheduling, retry policy, and the fold's view of time."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.engine import events
from orchestrator.engine.agenda import Agenda, Resources
from orchestrator.engine.core import Inspect, Note, Revert, Start, decide
from orchestrator.engine.fold import apply, start
from orchestrator.engine.retry import JITTER, for_revert, pause_before_next
from orchestrator.model.errors import ErrorClass
from orchestrator.model.spec.policy import RetryPolicy
from orchestrator.model.steps import Inspection, Section, Step
from tests.support.profile import examples


@settings(max_examples=examples(150))
@given(data=st.data())
def test_every_step_once_in_order_within_limits_and_none_waits_without_cause(data: Any) -> None:
    count = data.draw(st.integers(1, 25))
    names = ["x", "y", "z"]
    steps = [
        Step(
            id=f"s{i}",
            kind="k",
            title="t",
            resources=data.draw(st.lists(st.sampled_from(names), unique=True)),
        )
        for i in range(count)
    ]
    before: dict[str, list[str]] = {s.id: [] for s in steps}
    after: dict[str, list[str]] = {s.id: [] for s in steps}
    for i in range(count):
        for j in data.draw(st.sets(st.integers(0, count - 1), max_size=3)):
            if j < i:
                before[f"s{i}"].append(f"s{j}")
                after[f"s{j}"].append(f"s{i}")
    limits = {"x": data.draw(st.integers(1, 3))}
    resources = Resources(limits, parallel=data.draw(st.integers(1, 6)))
    alone = set(data.draw(st.lists(st.sampled_from([s.id for s in steps]), max_size=2)))
    agenda = Agenda(steps, before, after, lambda step: "alone" if step.id in alone else "start")
    done: list[str] = []
    running: list[Step] = []
    while len(done) < count:
        taken = agenda.take(resources, idle=True)
        running += taken
        for step in taken:
            assert set(before[step.id]) <= set(done)
        assert running, "something must always be running"
        assert not alone & {s.id for s in running} or len(running) == 1
        for name in names:
            used = sum(name in s.resources for s in running)
            assert used <= limits.get(name, 1)
        free = {n for n in names if not resources.spent(n)}
        for step in steps:
            could = set(before[step.id]) <= set(done) and set(step.resources) <= free
            if could and step.id not in {*done, *alone} and step not in running:
                assert resources.full or alone & {s.id for s in running}
        step = running.pop(data.draw(st.integers(0, len(running) - 1)))
        done.append(step.id)
        agenda.finish(step.id)
        agenda.freed(resources.release(step.id))
    assert sorted(done) == sorted(s.id for s in steps)


@pytest.mark.parametrize(
    ("attempt", "error_class", "least"),
    [
        (1, "busy", 0.2),
        (2, "busy", 0.4),
        (4, "timeout", 1.0),  # capped
        (5, "busy", None),  # that was the last
        (1, "failed", None),  # not a class to try again
        (1, "nonsense", None),
    ],
)
def test_pauses_double_up_to_the_cap_and_end_with_the_attempts(
    attempt: int, error_class: str, least: float | None
) -> None:
    policy = RetryPolicy(attempts=5, initial="200ms", maximum="1s")  # type: ignore[arg-type]
    pause = pause_before_next(policy, attempt, error_class, seed="tx/step/1")
    if least is None:
        assert pause is None
    else:
        assert pause is not None
        assert least <= pause <= least * (1 + JITTER)
        assert pause == pause_before_next(policy, attempt, error_class, seed="tx/step/1")
        assert pause != pause_before_next(policy, attempt, error_class, seed="tx/step/2")


def test_the_way_back_is_tried_more_often() -> None:
    policy = for_revert(RetryPolicy(attempts=1, on=[]))
    assert policy.attempts == 3
    assert ErrorClass.BUSY in policy.on
    assert for_revert(RetryPolicy(attempts=7)).attempts == 7


class Log:
    """Envelopes by hand, at given times and boots."""

    def __init__(self, state: Any) -> None:
        self.state, self.seq = state, 0

    def add(self, event: Any, time: float, boot: str = "one") -> None:
        self.seq += 1
        stamp = events.Stamp(time=time, boot_id=boot, release="1", pid=1)
        apply(
            self.state,
            events.Envelope(
                seq=self.seq, transaction="t", stamp=stamp, event=event, prev_hash="", hash=""
            ),
        )


def began() -> events.Began:
    return events.Began(name="n", plan_digest="p", intent_digest="i", driver="d")


def test_a_clock_that_differs_between_kernels_does_not_pass_the_deadline(tools: Any) -> None:
    state = start(tools.graph(["jump", "c"], "chain", deadline=100.0))
    log = Log(state)
    log.add(began(), 1000.0)
    assert state.deadline() == 1100.0
    log.add(events.StepIntended(step="jump", attempt=1), 1040.0)
    log.add(events.Resumed(reason="boot"), 5.0, boot="two")  # no battery: it is 1970
    assert state.deadline() == pytest.approx(65.0)
    log.add(events.Interrupted(reason="twice"), 10.0, boot="two")
    log.add(events.Resumed(reason="next day"), 90_000.0, boot="two")
    assert state.deadline() == pytest.approx(90_055.0)


def test_an_interrupted_jump_asks_the_pivot_first_and_then_the_steps(tools: Any) -> None:
    state = start(tools.graph(["a", "b", "jump", "c"], "chain"))
    log = Log(state)
    log.add(began(), 1.0)
    for step in ("a", "b"):
        log.add(events.StepIntended(step=step, attempt=1), 2.0)
        log.add(events.StepPerformed(step=step, attempt=1, seconds=0), 3.0)
    log.add(events.StepIntended(step="jump", attempt=1), 4.0)
    log.add(events.Resumed(reason="?"), 5.0)
    [first] = decide(state, 5.0)
    assert isinstance(first, Inspect)
    assert first.step.id == "jump"
    assert decide(state, 5.0) == []
    found = events.StepInspected(step="jump", verdict=Inspection.ABSENT, reason="same boot")
    log.add(found, 6.0)
    asked = decide(state, 6.0)
    assert [c.step.id for c in asked if isinstance(c, Inspect)] == ["a", "b"]
    for step in ("a", "b"):
        log.add(events.StepInspected(step=step, verdict=Inspection.PRESENT, reason="x"), 7.0)
    [again] = decide(state, 7.0)
    assert isinstance(again, Start)
    assert (again.step.id, again.attempt) == ("jump", 2)


def test_what_lies_behind_a_pivot_that_took_place_is_not_looked_at(tools: Any) -> None:
    state = start(tools.graph(["a", "jump", "c"], "chain"))
    log = Log(state)
    log.add(began(), 1.0)
    log.add(events.StepIntended(step="a", attempt=1), 2.0)
    log.add(events.StepPerformed(step="a", attempt=1, seconds=0), 3.0)
    log.add(events.StepIntended(step="jump", attempt=1), 4.0)
    log.add(events.Resumed(reason="boot"), 5.0, boot="two")
    decide(state, 5.0)
    log.add(events.StepInspected(step="jump", verdict=Inspection.PRESENT, reason="x"), 6.0, "two")
    [go_on] = decide(state, 6.0)
    assert isinstance(go_on, Start)
    assert go_on.step.id == "c"


def test_the_host_that_fell_back_later_is_recovered(tools: Any) -> None:
    """The new kernel was confirmed, then it died in the soak."""
    state = start(tools.graph(["jump", "c", "commit", "return.jump", "recover.a"], "chain"))
    log = Log(state)
    log.add(began(), 1.0)
    log.add(events.StepIntended(step="jump", attempt=1), 2.0)
    log.add(events.StepPerformed(step="jump", attempt=1, seconds=0), 3.0, "two")
    log.add(events.StepIntended(step="c", attempt=1), 4.0, "two")
    log.add(events.Resumed(reason="boot"), 5.0, boot="three")
    [ask] = decide(state, 5.0)
    assert ask == Inspect(state.steps["jump"].step)
    log.add(events.StepInspected(step="jump", verdict=Inspection.LOST, reason="x"), 6.0, "three")
    [turn] = decide(state, 6.0)
    assert isinstance(turn, Note)
    assert isinstance(turn.event, events.SectionEntered)
    assert turn.event.section == "recover"


def test_a_verdict_that_no_driver_may_give_counts_as_unknown(tools: Any) -> None:
    state = start(tools.graph(["a"]))
    log = Log(state)
    log.add(began(), 1.0)
    log.add(events.StepIntended(step="a", attempt=1), 2.0)
    log.add(events.StepFailed(step="a", attempt=1, error={}, seconds=0), 3.0)
    decide(state, 3.0)
    log.add(events.StepInspected(step="a", verdict=Inspection.LOST, reason="?"), 4.0)
    [end] = decide(state, 4.0)
    assert isinstance(end, Note)
    assert isinstance(end.event, events.Ended)
    assert end.event.outcome == "unknown"


def test_a_commit_found_half_done_is_taken_back_once(tools: Any) -> None:
    state = start(tools.graph(["a", "commit"], "chain"))
    log = Log(state)
    log.add(began(), 1.0)
    log.add(events.StepIntended(step="a", attempt=1), 2.0)
    log.add(events.StepPerformed(step="a", attempt=1, seconds=0), 3.0)
    log.add(events.StepIntended(step="commit", attempt=1), 4.0)
    log.add(events.Resumed(reason="?"), 5.0)
    assert decide(state, 5.0) == [Inspect(state.steps["commit"].step)]
    log.add(events.StepInspected(step="commit", verdict=Inspection.PARTIAL, reason="x"), 6.0)
    assert decide(state, 6.0) == [Inspect(state.steps["a"].step)]
    log.add(events.StepInspected(step="a", verdict=Inspection.PRESENT, reason="x"), 7.0)
    assert decide(state, 7.0) == [Revert(state.steps["commit"].step, 1)]


def test_an_unknown_step_of_the_way_back_stops_it(tools: Any) -> None:
    """Only for the pivot itself is the forward pivot asked instead."""
    state = start(tools.graph(["jump", "return.a", "return.jump"], "chain"))
    log = Log(state)
    log.add(began(), 1.0)
    log.add(events.StepIntended(step="jump", attempt=1), 2.0)
    log.add(events.StepPerformed(step="jump", attempt=1, seconds=0), 3.0, "two")
    log.add(events.SectionEntered(section=Section.RETURN, reason="why"), 4.0, "two")
    log.add(events.StepIntended(step="return.a", attempt=1), 5.0, "two")
    log.add(events.Resumed(reason="?"), 6.0, "two")
    assert decide(state, 6.0) == [Inspect(state.steps["jump"].step)]
    log.add(events.StepInspected(step="jump", verdict=Inspection.PRESENT, reason="x"), 7.0, "two")
    assert decide(state, 7.0) == [Inspect(state.steps["return.a"].step)]
    unknown = events.StepInspected(step="return.a", verdict=Inspection.UNKNOWN, reason="x")
    log.add(unknown, 8.0, "two")
    [end] = decide(state, 8.0)
    assert isinstance(end, Note)
    assert end.event == events.Ended(outcome="unknown", reason="return.a: x")


def test_a_way_back_that_ended_in_the_old_kernel_through_a_reset_is_recovered(tools: Any) -> None:
    state = start(tools.graph(["jump", "return.jump", "recover.a"], "chain"))
    log = Log(state)
    log.add(began(), 1.0)
    log.add(events.StepIntended(step="jump", attempt=1), 2.0)
    log.add(events.StepPerformed(step="jump", attempt=1, seconds=0), 3.0, "two")
    log.add(events.SectionEntered(section=Section.RETURN, reason="why"), 4.0, "two")
    log.add(events.StepIntended(step="return.jump", attempt=1), 5.0, "two")
    log.add(events.Resumed(reason="?"), 6.0, "three")
    assert decide(state, 6.0) == [Inspect(state.steps["return.jump"].step)]
    unknown = events.StepInspected(step="return.jump", verdict=Inspection.UNKNOWN, reason="x")
    log.add(unknown, 7.0, "three")
    assert decide(state, 7.0) == [Inspect(state.steps["jump"].step)]
    log.add(events.StepInspected(step="jump", verdict=Inspection.LOST, reason="x"), 8.0, "three")
    [turn] = decide(state, 8.0)
    assert isinstance(turn, Note)
    assert turn.event.section == "recover"


def test_a_pivot_that_took_place_and_now_did_not_is_unknown(tools: Any) -> None:
    state = start(tools.graph(["jump", "c"], "chain"))
    log = Log(state)
    log.add(began(), 1.0)
    log.add(events.StepIntended(step="jump", attempt=1), 2.0)
    log.add(events.StepPerformed(step="jump", attempt=1, seconds=0), 3.0, "two")
    log.add(events.Resumed(reason="?"), 4.0, "two")
    decide(state, 4.0)
    log.add(events.StepInspected(step="jump", verdict=Inspection.ABSENT, reason="x"), 5.0, "two")
    [end] = decide(state, 5.0)
    assert isinstance(end, Note)
    assert end.event == events.Ended(outcome="unknown", reason="jump: x")


def test_a_step_that_waits_for_another_is_not_started_by_being_absent_again(tools: Any) -> None:
    """Found by the crash test: reverted as half done, it became ready twice."""
    state = start(tools.graph(["a", "b"], "chain"))
    log = Log(state)
    log.add(began(), 1.0)
    log.add(events.StepIntended(step="a", attempt=1), 2.0)
    log.add(events.StepPerformed(step="a", attempt=1, seconds=0), 3.0)
    log.add(events.StepIntended(step="b", attempt=1), 4.0)
    log.add(events.Resumed(reason="?"), 5.0)
    decide(state, 5.0)
    log.add(events.StepInspected(step="a", verdict=Inspection.ABSENT, reason="x"), 6.0)
    log.add(events.StepInspected(step="b", verdict=Inspection.PARTIAL, reason="x"), 6.0)
    a, b = state.steps["a"].step, state.steps["b"].step
    assert decide(state, 7.0) == [Revert(b, 1), Start(a, 2)]
    log.add(events.StepIntended(step="a", attempt=2), 7.0)
    log.add(events.RevertIntended(step="b", attempt=1), 7.0)
    log.add(events.StepReverted(step="b", attempt=1, seconds=0), 8.0)
    assert decide(state, 8.0) == []
    log.add(events.StepPerformed(step="a", attempt=2, seconds=0), 9.0)
    assert decide(state, 9.0) == [Start(b, 2)]
    log.add(events.StepIntended(step="b", attempt=2), 9.0)
    log.add(events.StepPerformed(step="b", attempt=2, seconds=0), 10.0)
    [end] = decide(state, 10.0)
    assert isinstance(end, Note)


def test_what_waits_for_a_lapsed_step_through_a_performed_one_waits_too(tools: Any) -> None:
    state = start(tools.graph(["a", "b", "c"], "chain"))
    log = Log(state)
    log.add(began(), 1.0)
    for step in ("a", "b"):
        log.add(events.StepIntended(step=step, attempt=1), 2.0)
        log.add(events.StepPerformed(step=step, attempt=1, seconds=0), 3.0)
    log.add(events.Resumed(reason="?"), 4.0)
    assert len(decide(state, 4.0)) == 2
    log.add(events.StepInspected(step="a", verdict=Inspection.ABSENT, reason="x"), 5.0)
    log.add(events.StepInspected(step="b", verdict=Inspection.PRESENT, reason="x"), 5.0)
    assert decide(state, 5.0) == [Start(state.steps["a"].step, 2)]
    log.add(events.StepIntended(step="a", attempt=2), 6.0)
    log.add(events.StepPerformed(step="a", attempt=2, seconds=0), 7.0)
    assert decide(state, 7.0) == [Start(state.steps["c"].step, 1)]
