"""The engine's pure half at work, compared with the model before every decision.

No journal, no threads, no clock: a random plan, random answers (also some that no driver should
give), requests and crashes at random, and somebody who resumes until it is over.
"""

from __future__ import annotations

from itertools import pairwise
from random import Random
from typing import Any

from orchestrator.engine import events
from orchestrator.engine.core import Command, Inspect, Note, Revert, Start, decide
from orchestrator.engine.fold import apply, fold, start
from orchestrator.engine.report import report
from orchestrator.model.errors import ErrorClass
from orchestrator.model.host import HostState, KernelState
from orchestrator.model.outcomes import Outcome
from orchestrator.model.spec.policy import RetryPolicy
from orchestrator.model.steps import Inspection, Reversibility, Section, Step, StepGraph
from tests.engine.model.reading import Reading
from tests.engine.model.rules import Next, Room, next_of, what_the_operator_sees

TRANSACTION = "t"
LONGEST = 400
"""Events after which an exploration is broken off: it goes nowhere."""


def random_graph(random: Random) -> StepGraph:
    """Forward with or without a pivot and a commit, and the ways back."""
    steps: list[Step] = []
    edges: set[tuple[str, str]] = set()

    def add(step_id: str, section: Section, how: Reversibility) -> str:
        policy = RetryPolicy(
            attempts=random.randint(1, 3),
            initial=random.choice(["200ms", "5s"]),
            maximum="8s",
            on=random.choice([[ErrorClass.BUSY], [ErrorClass.BUSY, ErrorClass.FAILED]]),
        )
        resources = random.sample(["disk", "kexec"], random.choice([0, 0, 1, 2]))
        steps.append(
            Step(
                id=step_id, kind="k", title=step_id, section=section, reversibility=how,
                resources=resources, retry=policy,
            )
        )  # fmt: skip
        return step_id

    def part(prefix: str, section: Section, most: int) -> list[str]:
        ids: list[str] = []
        for number in range(random.randint(0, most)):
            ids.append(add(f"{prefix}{number}", section, Reversibility.REVERSIBLE))
            edges.update((e, ids[-1]) for e in ids[:-1] if random.random() < 0.35)
        return ids

    pivoted, committing = random.random() < 0.7, random.random() < 0.9
    parts = [part("a", Section.FORWARD, 4)]
    if pivoted:
        parts.append([add("jump", Section.FORWARD, Reversibility.PIVOT)])
        parts.append(part("b", Section.FORWARD, 3))
    if committing:
        parts.append([add("commit", Section.FORWARD, Reversibility.COMMIT)])
        parts.append(part("c", Section.FORWARD, 2))
    parts = [p for p in parts if p]
    for one, two in pairwise(parts):
        edges.update((a, b) for a in one for b in two if random.random() < 0.9)
    if pivoted and random.random() < 0.95:
        before = part("return.", Section.RETURN, 3)
        add("return.jump", Section.RETURN, Reversibility.PIVOT)
        edges.update((a, "return.jump") for a in before if random.random() < 0.8)
        part("recover.", Section.RECOVER, 3)
    here = HostState(
        driver="none", machine_id="m", hostname="h", boot_id="b",
        kernel=KernelState(release="1", cmdline=""),
    )  # fmt: skip
    return StepGraph(
        name="random", spec_digest="s", intent_digest="i", state_dir="/nowhere", driver="none",
        steps=steps, edges=sorted(edges), limits={"disk": random.randint(1, 2)},
        automatic_rollback=random.random() < 0.6, host=here,
    )  # fmt: skip


class Exploration:
    """One transaction from its beginning until it is over."""

    def __init__(self, graph: StepGraph, random: Random, parallel: int) -> None:
        self.graph, self.random, self.parallel = graph, random, parallel
        self.log: list[events.Envelope] = []
        self.now, self.boots = 1000.0, 1
        self.calls: dict[str, str] = {}
        """Step -> "perform", "revert" or "inspect": what is in flight."""
        self.state = start(graph, parallel=parallel)
        self.reading = Reading(graph)
        self.seen = self.reading.seen
        self.trouble = random.random()
        """How much goes wrong in this one."""

    def carry_out(self) -> None:
        """Raises AssertionError where engine and document differ."""
        self.write(events.Began(name="n", plan_digest="p", intent_digest="i", driver="none"))
        self.go_on()

    def go_on(self) -> None:
        while len(self.log) < LONGEST:
            if self.state.stopped and not self.goes_on_after_a_stop():
                return
            self.decide()
            self.something_happens()

    def from_prefix(self, log: list[events.Envelope]) -> None:
        """Go on with this log as a new process would, if there is anything to go on with; one in
        eight times to its end."""
        self.boots += 100
        for envelope in log:
            self.log.append(envelope)
            self.now = max(self.now, envelope.time)
            self.reading.take(envelope)
        self.dies()
        if not self.reading.over:
            self.resume()
            self.decide()
            if self.random.random() < 0.125:
                self.go_on()

    # -- writing and comparing

    def write(self, event: Any) -> None:
        stamp = events.Stamp(time=self.now, boot_id=f"boot-{self.boots}", release="1", pid=1)
        envelope = events.Envelope(
            seq=len(self.log) + 1, transaction=TRANSACTION, stamp=stamp, event=event,
            prev_hash="", hash="",
        )  # fmt: skip
        self.log.append(envelope)
        apply(self.state, envelope)
        self.reading.take(envelope)
        self.same_state()

    def same_state(self) -> None:
        state, r = self.state, self.reading
        assert {i: s.status.value for i, s in state.steps.items()} == r.status
        assert {i for i, s in state.steps.items() if s.behind} == r.behind
        assert (state.section, state.reverting) == (r.section, r.reverting)
        assert (state.committed, state.crossed, state.lost) == (r.committed, r.crossed, r.lost)
        assert state.turning_back == r.turns_back
        assert state.stopped == r.stopped
        if not r.stopped:
            assert state.deadline() == r.deadline()

    def decide(self) -> None:
        """Until nothing more can be done at once."""
        while not self.state.stopped:
            allowed = next_of(self.reading, self.now)
            commands = decide(self.state, self.now)
            if allowed.perhaps and any(isinstance(c, Note) for c in commands):
                # To the engine the pause is over, and led nowhere.
                over = max(self.reading.pause[i][1] for i in allowed.perhaps)
                allowed = next_of(self.reading, over)
            looking = {i for i, verb in self.calls.items() if verb == "inspect"}
            compare(commands, allowed, self.reading, looking, self.parallel)
            for command in commands:
                self.begin(command)
            if not commands:
                return

    def begin(self, command: Command) -> None:
        match command:
            case Start(step, attempt):
                assert attempt == self.reading.attempts[step.id] + 1
                self.write(events.StepIntended(step=step.id, attempt=attempt))
                self.calls[step.id] = "perform"
            case Revert(step, attempt):
                self.write(events.RevertIntended(step=step.id, attempt=attempt))
                self.calls[step.id] = "revert"
            case Inspect(step):
                self.calls[step.id] = "inspect"
            case Note(event):
                self.write(event)

    # -- what happens

    def chance(self, share: float) -> bool:
        return self.random.random() < share * self.trouble

    def something_happens(self) -> None:
        if self.state.stopped:
            return
        pivot = any(self.reading.is_pivot(i) for i in self.calls)
        if self.chance(0.3 if pivot else 0.06):
            self.dies()
            self.resume()
        elif self.chance(0.02):
            self.write(events.Interrupted(reason="twice"))
        elif self.chance(0.03):
            self.somebody_asks()
        elif self.calls:
            self.answer(self.random.choice(sorted(self.calls)))
        else:
            self.time_passes()

    def time_passes(self) -> None:
        """Nothing is in flight, so that somebody must wait for the end of a pause."""
        due = self.state.due()
        assert due is not None, "it stands still, and nobody waits for anything"
        assert due > self.now
        assert any(low <= due <= high for low, high in self.reading.pause.values())
        self.now = due

    def somebody_asks(self) -> None:
        """As the runner does, rule 9.1."""
        r = self.reading
        pivot = any(r.is_pivot(i) and verb == "perform" for i, verb in self.calls.items())
        if r.section is Section.FORWARD and not (r.committed or r.reverting or pivot):
            by = self.random.choice(["interrupt", "abort", "deadline"])
            self.write(events.RollbackRequested(reason="asked", by=by))

    def answer(self, i: str) -> None:
        verb = self.calls.pop(i)
        self.now += self.random.choice([0.001, 0.3])
        attempt, error = 1, {"class": self.random.choice(["busy", "failed", "io"]), "what": "no"}
        if self.reading.is_pivot(i) and self.random.random() < 0.7:
            self.boots += 1
        match verb:
            case "inspect":
                self.write(events.StepInspected(step=i, verdict=self.verdict(i), reason="seen"))
            case "perform" if self.chance(0.35):
                attempt = self.reading.attempts[i]
                self.write(events.StepFailed(step=i, attempt=attempt, error=error, seconds=0))
            case "perform":
                self.write(events.StepPerformed(step=i, attempt=attempt, seconds=0))
            case "revert" if self.chance(0.35):
                self.write(events.RevertFailed(step=i, attempt=attempt, error=error, seconds=0))
            case "revert":
                self.write(events.StepReverted(step=i, attempt=attempt, seconds=0))

    def verdict(self, i: str) -> Inspection:
        """Mostly one that makes sense."""
        anything = list(Inspection)
        if self.chance(0.1):
            return self.random.choice(anything)
        if not self.reading.is_pivot(i):
            if self.reading.status[i] == "performed" and not self.chance(0.4):
                return Inspection.PRESENT
            return self.random.choice([Inspection.ABSENT, Inspection.PRESENT, Inspection.PARTIAL])
        verdicts = [Inspection.PRESENT, Inspection.PRESENT, Inspection.LOST]
        if self.reading.status[i] != "performed":
            verdicts.append(Inspection.ABSENT)
        if self.reading.section is Section.RETURN:
            verdicts += [Inspection.UNKNOWN] * (3 if i in self.reading.doubts else 1)
        return self.random.choice(verdicts)

    def dies(self) -> None:
        """What is left is the log; the fold of it is what was believed, or it was no state."""
        self.calls.clear()
        self.state = fold(start(self.graph, parallel=self.parallel), self.log)
        self.same_state()
        self.now += self.random.choice([0.0, 1.0, 100.0])
        if self.random.random() < 0.4:
            self.boots += 1

    def resume(self) -> None:
        """As `Engine.resume` and `Engine.rollback` do; sometimes it dies right behind it."""
        self.write(events.Resumed(reason="resume"))
        if self.random.random() < 0.1:
            self.write(events.RollbackRequested(reason="by hand", by="operator"))

    def goes_on_after_a_stop(self) -> bool:
        """Somebody sees how it stands, and goes on, rolls back, or leaves it."""
        self.operator_sees()
        r = self.reading
        self.dies()
        way_back = r.standing == "committed" and r.graph.section(Section.RETURN)
        if way_back and self.random.random() < 0.5:
            self.write(events.RollbackRequested(reason="changed our mind", by="operator"))
            return True
        if r.over:
            self.seen.add("R1")
            return False
        if r.standing in {"unknown", "rollback-incomplete"} and self.random.random() < 0.15:
            return False
        self.resume()
        return True

    def operator_sees(self) -> None:
        told = report(TRANSACTION, self.graph, "p", self.log)
        code, command = what_the_operator_sees(self.reading)
        assert told.exit_code == code
        assert told.next_command == (f"{command} {TRANSACTION}" if command else None)
        self.seen.add(f"the operator sees {self.reading.standing}")


def compare(
    commands: list[Command], allowed: Next, r: Reading, looking: set[str], places: int
) -> None:
    """What the engine does is what the document says.

    Where a pause may be over or not, both are right; else nothing is left to the engine but which
    of several partial effects is reverted first.
    """
    inspects = [c.step.id for c in commands if isinstance(c, Inspect)]
    assert sorted(inspects) == sorted(allowed.inspect - looking)
    worked = [c.step.id for c in commands if isinstance(c, Start | Revert)]
    reverts = {c.step.id for c in commands if isinstance(c, Revert)}
    repaired = [i for i in worked if i in allowed.repairs]
    started = [i for i in worked if i not in allowed.repairs]
    assert reverts == (set(worked) if r.reverting else set(repaired))

    room = Room(r, places)
    for i in repaired:
        room.take(r.steps[i])
    for i in allowed.repairs - set(repaired) - allowed.perhaps:
        assert not room.fits(r.steps[i]), f"{i} is to be taken back, and there is room"
    expected = [*allowed.starts, *([allowed.alone] if allowed.alone else [])]
    assert set(started) <= set(expected)
    if not allowed.perhaps:
        assert started == _as_there_is_room(expected, r, room)
    for i in started if allowed.perhaps else []:
        room.take(r.steps[i])

    notes = [c.event for c in commands if isinstance(c, Note)]
    if allowed.turn is None or looking:
        assert not notes
        return
    assert commands == [Note(notes[0])]
    assert allowed.turn == _turn_of(notes[0])


def _as_there_is_room(steps: list[str], r: Reading, room: Room) -> list[str]:
    taken = []
    for i in steps:
        if room.fits(r.steps[i]):
            room.take(r.steps[i])
            taken.append(i)
    return taken


def _turn_of(event: Any) -> tuple[str, str]:
    match event:
        case events.Ended():
            return event.type, Outcome(event.outcome).value
        case events.Interrupted():
            return event.type, "waiting" if event.waiting else ""
        case _:
            return event.type, event.section.value
