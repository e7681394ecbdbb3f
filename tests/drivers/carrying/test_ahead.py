"""Memory that is copied ahead of a workload: gone on from where it is whole, and else told."""

from __future__ import annotations

import shutil

import pytest

from orchestrator.model.errors import WorkloadError
from tests.drivers.carrying.pair import WAY, Pair, damage


def test_what_was_copied_ahead_is_gone_on_from(pair: Pair) -> None:
    """The checkpoint holds what has changed since, and the target puts both together."""
    pair.old.workloads.counts_on = 3
    said = pair.carry()
    assert pair.old.workloads.upon == [41]
    assert pair.places() == ["new:44"]
    assert said["bytes_ahead"] > 0
    dark = pair.new.asked[pair.new.asked.index("unpack") + 1 :]
    assert dark == ["bring"], "it was sent and unpacked before the workload stood still"
    pair.undo()
    assert pair.places() == ["old:44"]
    assert not list(pair.old.directory.glob("work/t-*"))


@pytest.mark.parametrize("wrong", ["refused", "damaged in old", "damaged on the host"])
def test_without_a_copy_ahead_everything_is_taken_at_once(pair: Pair, wrong: str) -> None:
    ahead = WAY.copied_ahead()
    if wrong == "refused":
        pair.old.workloads.refuses.add("copy_ahead")
    elif wrong == "damaged in old":
        pair.before[6] = lambda: damage(ahead.channel(pair.old.directory))
    else:
        pair.before[7] = lambda: damage(ahead.channel(pair.directory))
    said = pair.carry()
    assert pair.places() == ["new:41"]
    assert pair.old.workloads.upon == [0]
    assert "nothing was copied ahead" in said["notes"][0]


def test_a_copy_ahead_that_is_damaged_in_the_target_is_never_restored_from(pair: Pair) -> None:
    pair.before[8] = lambda: damage(WAY.copied_ahead().channel(pair.new.directory))
    pair.carry()
    assert pair.old.workloads.upon == [0]
    assert pair.places() == ["new:41"]


def test_a_checkpoint_that_was_tried_upon_a_copy_spoils_it_for_the_next(pair: Pair) -> None:
    """CRIU has the kernel forget by then what was written since the copy."""
    pair.old.workloads.refuses.add("checkpoint")
    with pytest.raises(WorkloadError):
        pair.carry()
    pair.old.workloads.refuses.clear()
    pair.carry()
    assert pair.old.workloads.upon == [0]
    assert pair.places() == ["new:41"]


def test_a_source_that_boots_anew_gets_back_what_it_rests_on(pair: Pair) -> None:
    """Where it was, or from the host, with the state that rests on it."""
    pair.old.workloads.counts_on = 3
    for lost in (False, True):
        pair.carrier().take(pair.end("old"))
        assert pair.places() == []
        pair.old.restart()
        if lost:
            shutil.rmtree(pair.old.directory)
            pair.old.directory.mkdir(mode=0o700)
        said = pair.carrier().undo_take(pair.end("old"))
        assert ("host's copy" in said["text"]) == lost
        remembered = pair.old.workloads.running["counter"]
        assert remembered == (47 if lost else 44)
