"""The crash simulator: some hundred schedules, and whether it can be trusted.

`make crash` runs tens of thousands and tries every mutant; docs/crash-testing.md.
"""

from __future__ import annotations

import os
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest

from orchestrator.model.steps import StepGraph
from tests.crash import campaign
from tests.crash.choices import Choices, decode, encode
from tests.crash.coverage import Coverage
from tests.crash.file_disk import FileDisk
from tests.crash.graphs import random_graph
from tests.crash.invariants import Invariant
from tests.crash.shrink import shrunk
from tests.crash.simulation import Simulation

QUICK = (
    "effect-before-its-intention-is-durable",
    "failed-commit-believed",
    "hash-of-the-wrong-predecessor",
    "no-inspection-after-a-crash",
    "unknown-rounded-up-to-done",
)


def told(failures: list[campaign.Failure]) -> str:
    return "\n".join(f"{f.what}\n  python -m tests.crash --seed {f.seed} --trace" for f in failures)


@pytest.mark.parametrize("first", range(0, 200, 50))
def test_no_schedule_of_these_seeds_breaks_a_promise(first: int) -> None:
    tally = campaign.campaign("fast", first, 50)
    assert not tally.failures, told(tally.failures)


def test_no_schedule_over_real_files_breaks_a_promise() -> None:
    tally = campaign.campaign("vfs", 10**6, 40)
    assert not tally.failures, told(tally.failures)
    assert all("on files" in host for host in tally.coverage.hosts)


@pytest.mark.slow
def test_no_schedule_on_a_host_with_instances_breaks_a_promise() -> None:
    tally = campaign.campaign("instances", 0, 24)
    assert not tally.failures, told(tally.failures)


@pytest.mark.slow
def test_no_schedule_in_which_agents_carry_state_breaks_a_promise() -> None:
    tally = campaign.campaign("carrying", 0, 24)
    assert not tally.failures, told(tally.failures)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mutant", "invariant"),
    [
        ("lost-answer-of-a-restore-taken-for-none", Invariant.ONE_KERNEL),
        ("target-without-an-agent-left-running", Invariant.ONE_KERNEL),
        ("state-dropped-by-the-host-once-it-is-passed-on", Invariant.STATE_SOMEWHERE),
    ],
)
def test_what_is_wrong_in_the_carrying_breaks_the_promise_about_workloads(
    mutant: str, invariant: Invariant
) -> None:
    tally = campaign.campaign("carrying", 0, 1000, mutant=mutant, enough=1)
    assert {f.invariant for f in tally.failures} == {invariant}


@pytest.mark.slow
def test_a_generation_that_comes_back_with_another_image_breaks_only_the_promise_of_resources() -> (
    None
):
    mutant = "old-generation-gets-the-new-image"
    tally = campaign.campaign("instances", 0, 200, mutant=mutant, enough=3)
    assert {f.invariant for f in tally.failures} == {Invariant.RESOURCES_CONSERVED}


def digests(seeds: range) -> str:
    """SHA-256 over the traces of these seeds."""
    whole = sha256()
    for setup in ("fast", "instances", "carrying"):
        for seed in seeds:
            whole.update("\n".join(campaign.trace(setup, seed=seed).trace).encode())
    return whole.hexdigest()


@pytest.mark.slow
def test_the_same_seed_gives_the_same_trace_byte_for_byte_in_any_process() -> None:
    code = "from tests.crash.test_crash_simulator import *; print(digests(range(7, 27)))"
    environment = {**os.environ, "PYTHONHASHSEED": "12345"}
    there = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert there.stdout.strip() == digests(range(7, 27))


@pytest.mark.slow
@pytest.mark.parametrize("setup", ["fast", "vfs", "driver", "instances", "carrying"])
def test_the_decisions_of_a_schedule_play_it_again(setup: str) -> None:
    for seed in range(40, 45):
        once = campaign.trace(setup, seed=seed)
        again = campaign.trace(setup, stream=decode(encode(once.stream)))
        assert again.trace == once.trace
        assert again.stream == once.stream


def test_the_text_of_a_plan_that_is_written_once_is_that_of_the_plan() -> None:
    for seed in range(30):
        graph = random_graph(Choices(seed))
        text = "".join(StepGraph.pieces(graph))
        assert "".join(graph.pieces()) == "".join(graph.pieces()) == text
        assert StepGraph.model_validate_json(text).digest() == graph.digest()


def test_seeds_in_a_row_share_a_plan_and_each_stream_holds_its_decisions() -> None:
    first, second = Choices(20), Choices(23)
    assert first.shared(random_graph) is second.shared(random_graph)
    assert first.drawn == second.drawn
    assert random_graph(Choices(stream=first.drawn)) == Choices(21).shared(random_graph)
    assert Choices(24).shared(random_graph) != first.shared(random_graph)


def test_without_any_fault_every_plan_ends_as_it_should() -> None:
    """All decisions 0: the simplest plan, no fault."""
    assert campaign.trace("fast", stream=[]).outcome == "committed"


def test_an_fsync_that_lies_loses_acknowledged_events_and_is_seen() -> None:
    """The files know what was synced: else this level would prove nothing."""
    tally = campaign.campaign("lying-fsync", 0, 400, enough=2)
    assert {f.invariant for f in tally.failures} <= {Invariant.ACKNOWLEDGED, Invariant.NO_BUG}
    assert Invariant.ACKNOWLEDGED in {f.invariant for f in tally.failures}


@pytest.mark.parametrize("mutant", QUICK)
def test_a_bug_that_is_put_in_is_found(mutant: str) -> None:
    tally = campaign.campaign("graph", 0, 600, mutant=mutant, enough=1)
    assert tally.failed


def test_a_failing_schedule_is_made_small_and_still_fails() -> None:
    mutant = "effect-before-its-intention-is-durable"
    failure = campaign.campaign("graph", 0, 50, mutant=mutant, enough=1).failures[0]
    small = campaign.made_small("graph", failure, mutant)
    assert sum(map(bool, small)) <= sum(map(bool, failure.stream)) // 2
    result = campaign.trace("graph", stream=small, mutant=mutant)
    assert result.violation is not None
    assert result.violation.invariant == failure.invariant


def test_shrinking_takes_out_all_that_does_not_matter() -> None:
    def fails(stream: list[int]) -> list[int] | None:
        return stream if len(stream) > 4 and stream[4] >= 3 else None

    assert shrunk([5, 0, 7, 1, 9, 0, 2, 0], fails) == [0, 0, 0, 0, 3]


@pytest.mark.parametrize("stream", [[], [0, 0, 3, 0, 1], [7], [0] * 9 + [2]])
def test_a_stream_is_one_word_on_the_command_line(stream: list[int]) -> None:
    assert decode(encode(stream))[: len(stream)] == stream


class Disk:
    """A `FileDisk` with one file, and the cuts that the decisions say."""

    def __init__(self, *decisions: int) -> None:
        sim = Simulation(Choices(stream=[]), Coverage())
        self.disk = FileDisk(sim)
        sim.choices = Choices(stream=list(decisions))
        self.disk.quiet = True
        self.file = self.disk.files["/nowhere/journal.db"]
        self.file.cache[:] = self.file.disk[:] = b"old!" * 512

    def cut(self) -> bytes:
        self.disk.cut()
        assert self.file.cache == self.file.disk
        return bytes(self.file.disk)


def test_a_reset_takes_what_was_not_synced_and_a_kill_does_not() -> None:
    disk = Disk(0)
    disk.file.write(0, b"new!")
    disk.disk.kill()
    assert disk.file.cache[:4] == b"new!"
    assert disk.cut()[:4] == b"old!"


def test_a_reset_tears_a_write_between_two_sectors() -> None:
    disk = Disk(1, 0, 2)
    disk.file.write(0, b"new!" * 512)
    assert disk.cut() == b"new!" * 256 + b"old!" * 256


def test_a_reset_keeps_a_later_write_without_an_earlier_one() -> None:
    disk = Disk(2, 0, 1)
    disk.file.write(0, b"one!")
    disk.file.write(4, b"two!")
    assert disk.cut()[:8] == b"old!two!"


def test_what_a_failed_fsync_left_is_not_written_by_the_next_one_unless_written_again() -> None:
    disk = Disk(0)
    disk.file.write(0, b"new!")
    disk.file.forget()
    disk.file.sync()
    assert disk.file.cache[:4] == b"new!"
    assert disk.file.disk[:4] == b"old!"
    disk.disk.write_again(Path("/nowhere/journal.db"))
    assert disk.cut()[:4] == b"new!"
