"""Thirty cuts of power from a fixed seed keep every promise, and broken ones would be seen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.rehearsal.kernels import KernelPair
from orchestrator.rehearsal.tools import run_tool
from tests.vm.power.cut import cut_without_update, draw, look, recorded
from tests.vm.power.disk import SUPERBLOCK, copy, make_empty
from tests.vm.power.offline import broken
from tests.vm.power.recording import Recording
from tests.vm.power.scene import Scene
from tests.vm.power.write_log import SECTOR
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
    bad = [line(v) for v in verdicts if v.judged.broken]
    assert not bad, "\n".join(bad)
    assert len(verdicts) == RUNS


def test_the_disk_alone_keeps_its_promises_at_a_hundred_moments(recording: Recording) -> None:
    found = [bad for n in range(LOOKS) if (bad := looked(recording, SEED, n))]
    assert not found, "\n".join(found)


def test_a_torn_superblock_is_more_than_ext4_survives(tmp_path: Path) -> None:
    """Why the sectors of the superblock share their fate in all other tests here."""
    old, torn = tmp_path / "old", tmp_path / "torn"
    make_empty(old)
    copy(old, torn)
    change = ["debugfs", "-w", "-R", "set_super_value kbytes_written 77", torn]
    run_tool(change, timeout=60.0, what="write the superblock")
    assert not broken(torn, 0)
    for sector in SUPERBLOCK:
        with old.open("rb") as source, torn.open("r+b") as target:
            source.seek(sector * SECTOR)
            target.seek(sector * SECTOR)
            target.write(source.read(SECTOR))
        told = broken(torn, 0)
        assert any("the file system is damaged" in line for line in told) is (sector == 2), told


def test_a_disk_that_does_not_keep_what_it_flushed_is_seen(recording: Recording) -> None:
    """The last flushes were answered and not carried out, seconds of the workload among them.
    Luck may leave all of it on the disk once, and not thrice of five times."""
    runs = [replace(draw(SEED, n, "recorded"), fraction=0.0) for n in range(5)]
    found = [look(recording, run, lost_flushes=LIE) for run in runs]
    assert sum(any("had been told of" in told for told in one) for one in found) >= 3, found
    assert not any(look(recording, run) for run in runs)


def test_a_workload_that_tells_of_what_it_has_not_synced_is_seen(kernels: KernelPair) -> None:
    """A kill costs it what the guest had not written out yet."""
    judged = cut_without_update(Scene(kernels, honest=False), 10)
    assert any("had been told of" in told for told in judged.broken), judged
