"""SIGKILL at random instants of real processes, on the pretend host of the simulated driver.

Each kill leaves what the kernel leaves: files as they were, locks free. However often it dies,
it ends committed or rolled back, and the host is then as after a life without a kill.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any

import pytest

from orchestrator.engine.fold import MOST_CRASHES
from orchestrator.engine.journal import Journal
from orchestrator.model.outcomes import ExitCode, Outcome
from tests.support.pretend import NEW, Host, as_wanted
from tests.support.profile import slow
from tests.support.warm import Life

KILLS = 500
KILLS_A_GO = 20

VARIANTS: dict[str, tuple[dict[str, Any], Outcome]] = {
    "all goes well": ({}, Outcome.COMMITTED),
    "a check fails in the new kernel": (
        {"failing_checks": {"answers": NEW}},
        Outcome.ROLLED_BACK,
    ),
    "a step fails before the jump": (
        {"faults": {"preserve/host": {"kind": "fail"}}},
        Outcome.ROLLED_BACK,
    ),
    "half an effect, then it works": (
        {"faults": {"load-kernel/host": {"kind": "partial", "times": 1, "error_class": "busy"}}},
        Outcome.COMMITTED,
    ),
}
"""What is changed on the host, and how it ends if nobody is killed."""


@dataclass(frozen=True)
class Span:
    """How long an apply takes when nobody is killed, and from when on it has begun; seconds."""

    began: float
    ended: float

    @classmethod
    def of(cls, host: Host, life: Life) -> Span:
        """Measured anew with every life that nobody ended: the machine may be busy or not."""
        with Journal.open_readonly(host.state) as journal:  # type: ignore[union-attr]
            log = list(journal.log(journal.transactions()[0].id))
        return cls(life.seconds - (log[-1].time - log[0].time), life.seconds)

    def instant(self, random: Random) -> float:
        """Most of them while there is something to lose."""
        if random.random() < 0.1:
            return random.uniform(0.0, self.ended)
        return random.uniform(0.9 * self.began, self.ended)


def unharmed(host: Host, change: dict[str, Any], expected: Outcome) -> Span:
    host.start_over(**change)
    life = host.run("apply")
    assert (host.outcome(), host.left_behind()) == (expected, as_wanted(expected)), life.stdout
    return Span.of(host, life)


def live_and_die(host: Host, random: Random, span: Span) -> tuple[int, Span]:
    """Apply, and resume as often as it takes; how often it was killed."""
    life = host.run("apply", kill_after=span.instant(random))
    if not life.killed:
        span = Span.of(host, life)
    return resume(host, life, random, span.ended), span


def resume(host: Host, life: Life, random: Random, seconds: float) -> int:
    """Until it may live; how often it was killed.

    Killed three times at one step, the engine leaves that step to the operator, who resumes again.
    """
    kills = 0
    while life.killed:
        kills += 1
        again = random.uniform(0.0, seconds) if random.random() < 0.4 and kills < 4 else None
        life = host.run("resume", kill_after=again)
    if life.code == ExitCode.ROLLBACK_INCOMPLETE:
        assert kills >= MOST_CRASHES and f"the process died {MOST_CRASHES} times" in life.stdout, (
            life.stdout
        )
        life = host.run("resume")
    assert life.code in {ExitCode.DONE, ExitCode.ROLLED_BACK}, (life.stdout, life.stderr)
    return kills


@pytest.mark.parametrize("go", [slow(go) for go in range(KILLS // KILLS_A_GO)])
def test_killed_at_any_instant_it_ends_in_the_old_kernel_or_in_the_new(host: Host, go: int) -> None:
    change, expected = list(VARIANTS.values())[go % len(VARIANTS)]
    span = unharmed(host, change, expected)
    kills = lives = 0
    while kills < KILLS_A_GO:
        lives += 1
        assert lives <= 5 * KILLS_A_GO, "hardly anybody is killed: nothing is tested"
        host.start_over(**change)
        killed, span = live_and_die(host, Random(f"{go}/{lives}"), span)
        kills += killed
        outcome = host.outcome()
        assert outcome in {expected, Outcome.ROLLED_BACK, None}
        assert host.left_behind() == as_wanted(outcome), lives
        assert host.verified(), lives
    verified = host.run("history", "--verify")
    assert verified.code == 0, verified.stderr


@pytest.mark.slow
def test_a_rollback_killed_at_any_instant_is_finished_or_never_began(host: Host) -> None:
    host.start_over()
    assert host.run("apply").code == 0
    host.keep("committed")
    seconds = host.run("rollback", "--yes").seconds
    assert host.left_behind() == as_wanted(Outcome.ROLLED_BACK)
    kills = lives = 0
    while kills < 2 * KILLS_A_GO:
        lives += 1
        assert lives <= 10 * KILLS_A_GO, "hardly anybody is killed: nothing is tested"
        host.start_over("committed")
        random = Random(f"rollback/{lives}")
        life = host.run("rollback", "--yes", kill_after=random.uniform(0.0, seconds))
        seconds = seconds if life.killed else life.seconds
        kills += resume(host, life, random, seconds)
        outcome = host.outcome()
        assert outcome in {Outcome.COMMITTED, Outcome.ROLLED_BACK}
        assert host.left_behind() == as_wanted(outcome), lives
        assert host.verified(), lives
