"""Pauses, second tries and partial effects: rules 3.3 to 4.7, where the model found differences."""

from __future__ import annotations

from typing import Any

from orchestrator.engine import events
from orchestrator.engine.core import Command, Note, Revert, Start, decide
from orchestrator.engine.fold import apply, start
from orchestrator.model.spec.policy import RetryPolicy
from orchestrator.model.steps import Inspection, StepGraph

BUSY = {"class": "busy", "what": "not now"}


class Hand:
    """A log written by hand; what is decided is written down as the runner does."""

    def __init__(self, graph: StepGraph, parallel: int = 16) -> None:
        self.state = start(graph, parallel=parallel)
        self.now, self.boot, self.seq = 1000.0, "one", 0
        self.add(events.Began(name="n", plan_digest="p", intent_digest="i", driver="d"))

    def add(self, event: Any) -> None:
        self.seq += 1
        stamp = events.Stamp(time=self.now, boot_id=self.boot, release="1", pid=1)
        apply(
            self.state,
            events.Envelope(
                seq=self.seq, transaction="t", stamp=stamp, event=event, prev_hash="", hash=""
            ),
        )

    def decide(self) -> list[str]:
        """E.g. ["start a", "inspect b"], or the type of a note."""
        commands = decide(self.state, self.now)
        for command in commands:
            match command:
                case Start(step, attempt):
                    self.add(events.StepIntended(step=step.id, attempt=attempt))
                case Revert(step, attempt):
                    self.add(events.RevertIntended(step=step.id, attempt=attempt))
                case Note(event):
                    self.add(event)
                case _:
                    pass
        return [name_of(c) for c in commands]

    def perform(self, *steps: str) -> None:
        for step in steps:
            assert f"start {step}" in self.decide()
            self.add(events.StepPerformed(step=step, attempt=1, seconds=0))

    def fail(self, step: str) -> None:
        self.add(events.StepFailed(step=step, attempt=1, error=BUSY, seconds=0))

    def revert_fails(self, step: str) -> None:
        self.add(events.RevertFailed(step=step, attempt=1, error=BUSY, seconds=0))

    def found(self, step: str, verdict: Inspection) -> None:
        self.add(events.StepInspected(step=step, verdict=verdict, reason="looked"))

    def roll_back(self) -> None:
        self.add(events.RollbackRequested(reason="wanted", by="operator"))
        assert self.decide() == ["turned_back"]


def name_of(command: Command) -> str:
    match command:
        case Note(event):
            return event.type
        case _:
            return f"{type(command).__name__.lower()} {command.step.id}"


def step_with_pause(tools: Any, step_id: str, **fields: Any) -> Any:
    policy = RetryPolicy(attempts=2, initial="10s", maximum="10s")
    return tools.step(step_id, retry=policy, **fields)


def test_a_step_in_a_pause_is_not_started_because_a_place_becomes_free(tools: Any) -> None:
    """With every place taken its turn came up again before its time."""
    a, b = step_with_pause(tools, "a"), step_with_pause(tools, "b")
    hand = Hand(tools.graph([a, b]), parallel=2)
    assert hand.decide() == ["start a", "start b"]
    hand.fail("a")
    hand.add(events.Resumed(reason="it died"))
    assert hand.decide() == ["inspect a", "inspect b"]
    hand.found("a", Inspection.PARTIAL)
    hand.found("b", Inspection.PARTIAL)
    assert hand.decide() == ["revert a", "revert b"]
    hand.add(events.StepReverted(step="a", attempt=1, seconds=0))
    assert hand.decide() == []
    hand.now += 13
    assert hand.decide() == ["start a"]


def test_a_pause_does_not_outlive_the_process_and_hold_up_the_end(tools: Any) -> None:
    hand = Hand(tools.graph([step_with_pause(tools, "a")]))
    assert hand.decide() == ["start a"]
    hand.add(events.RollbackRequested(reason="wanted", by="abort"))
    hand.add(events.StepPerformed(step="a", attempt=1, seconds=0))
    assert hand.decide() == ["turned_back"]
    assert hand.decide() == ["revert a"]
    hand.revert_fails("a")
    hand.add(events.Resumed(reason="it died"))
    assert hand.decide() == ["inspect a"]
    hand.found("a", Inspection.PARTIAL)
    assert hand.decide() == ["revert a"]
    hand.add(events.StepReverted(step="a", attempt=2, seconds=0))
    assert hand.decide() == ["ended"]


def test_the_way_back_has_all_its_attempts_whatever_it_took_to_get_there(tools: Any) -> None:
    """A partial effect was taken back twice on the way; that is no attempt of the way back."""
    hand = Hand(tools.graph([step_with_pause(tools, "a"), "b"], "chain"))
    assert hand.decide() == ["start a"]
    hand.fail("a")
    hand.decide()
    hand.found("a", Inspection.PARTIAL)
    for _ in range(2):
        assert hand.decide() == ["revert a"]
        hand.revert_fails("a")
        hand.decide()
        hand.found("a", Inspection.PARTIAL)
        hand.now += 30
    assert hand.decide() == ["revert a"]
    hand.add(events.StepReverted(step="a", attempt=3, seconds=0))
    hand.now += 30
    hand.perform("a")
    hand.roll_back()
    for _ in range(2):
        assert hand.decide() == ["revert a"]
        hand.revert_fails("a")
        hand.decide()
        hand.found("a", Inspection.PARTIAL)
        hand.now += 30
    assert hand.decide() == ["revert a"]


def test_the_old_kernel_does_not_take_back_what_the_new_one_left_half_done(tools: Any) -> None:
    """Reverted and found present there, a commit made the outcome committed, in the old kernel."""
    hand = Hand(tools.graph(["jump", "commit", "return.jump", "recover.a"], "chain"))
    hand.perform("jump")
    assert hand.decide() == ["start commit"]
    hand.add(events.Resumed(reason="it died"))
    assert hand.decide() == ["inspect commit"]
    hand.found("commit", Inspection.PARTIAL)
    hand.boot = "two"
    assert hand.decide() == ["inspect jump"]
    hand.found("jump", Inspection.LOST)
    assert hand.decide() == ["section_entered"]
    assert hand.decide() == ["start recover.a"]
