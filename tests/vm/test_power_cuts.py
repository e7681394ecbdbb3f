"""Thirty cuts of power from a fixed seed keep every promise, and broken ones would be seen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from orchestrator.rehearsal.kernels import KernelPair
from tests.vm.power.cut import cut_without_update, draw, look, recorded
from tests.vm.power.recording import Recording
from tests.vm.power.scene import Scene
from tests.vm.powercut import cuts, line, looked, table

SEED = "ci"
RUNS, LOOKS = 30, 100
LIE = 30
pytestmark = [pytest.mark.power, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def stage(kernels: KernelPair) -> Scene:
    return Scene(kernels)


@pytest.fixture(scope="module")
def recording(stage: Scene) -> Iterator[Recording]:
    with recorded(stage) as made:
        yield made


def test_promises_are_kept_whenever_the_power_goes(stage: Scene, recording: Recording) -> None:
    verdicts = []
    for verdict in cuts(stage, [draw(SEED, n) for n in range(RUNS)], recording):
        verdicts.append(verdict)
        print(line(verdict))
    print(table(verdicts))
    broken = [line(v) for v in verdicts if v.judged.broken]
    assert not broken, "\n".join(broken)
    assert len(verdicts) == RUNS


def test_the_disk_alone_keeps_its_promises_at_a_hundred_moments(recording: Recording) -> None:
    broken = [found for n in range(LOOKS) if (found := looked(recording, SEED, n))]
    assert not broken, "\n".join(broken)


def test_a_disk_that_does_not_keep_what_it_flushed_is_seen(recording: Recording) -> None:
    """The last flushes were answered and not carried out, seconds of the workload among them.
    Luck may leave all of it on the disk once, and not thrice of five times."""
    runs = [replace(draw(SEED, n, "recorded"), fraction=0.0) for n in range(5)]
    found = [look(recording, run, lost_flushes=LIE) for run in runs]
    assert sum(any("had been told of" in b for b in broken) for broken in found) >= 3, found
    assert not any(look(recording, run) for run in runs)


def test_a_workload_that_tells_of_what_it_has_not_synced_is_seen(kernels: KernelPair) -> None:
    """A kill costs it what the guest had not written out yet."""
    judged = cut_without_update(Scene(kernels, honest=False), 10)
    assert any("had been told of" in broken for broken in judged.broken), judged
