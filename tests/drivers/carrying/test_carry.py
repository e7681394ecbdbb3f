"""A workload between two running kernels: it is in one place, whoever dies or refuses."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.agent.keys import new_key
from orchestrator.drivers.records import Records
from orchestrator.handover.stream import ConnectionLostError
from orchestrator.model.errors import MkupgradeError, WorkloadError
from orchestrator.model.steps import Inspection
from tests.drivers.carrying.pair import WAY, Died, Pair, T, damage
from tests.support.carried import Kernel


def test_it_runs_on_in_the_target_with_what_it_remembered(pair: Pair) -> None:
    said = pair.carry()
    assert pair.places() == ["new:41"]
    assert said["text"] == "counter runs on in new"
    assert pair.inspect() is Inspection.PRESENT


def test_between_checkpoint_and_restore_nobody_is_asked_in_vain(pair: Pair) -> None:
    """Each piece of work is a program that starts: that is blackout."""
    pair.carry()
    dark = pair.old.asked[pair.old.asked.index("take") :] + pair.new.asked[-1:]
    assert dark == ["take", "bring"]
    assert pair.new.asked.count("bring") == 1


def test_the_very_same_handover_is_in_the_source_on_the_host_and_in_the_target(pair: Pair) -> None:
    pair.carry()
    places = [WAY.channel(d).manifest() for d in (pair.old.directory, pair.directory,
                                                  pair.new.directory)]  # fmt: skip
    assert places[0] is not None
    assert places[0] == places[1] == places[2]


def test_taken_back_it_brings_along_what_it_has_seen_since(pair: Pair) -> None:
    pair.carry()
    pair.new.workloads.running["counter"] = 57
    said = pair.undo()
    assert pair.places() == ["old:57"]
    assert "as it was last" in said["text"]
    assert pair.inspect() is Inspection.ABSENT
    assert pair.left() == []
    assert not (pair.directory / "handover").exists()


def test_carried_again_after_it_was_taken_back_it_is_the_newest_state(pair: Pair) -> None:
    for number in (57, 61):
        pair.carry()
        pair.new.workloads.running["counter"] = number
        pair.undo()
    pair.carry()
    assert pair.places() == ["new:61"]


@pytest.mark.parametrize("call", ["restore", "checkpoint"])
def test_who_refuses_leaves_it_running_in_the_source(pair: Pair, call: str) -> None:
    kernel = pair.new if call == "restore" else pair.old
    kernel.workloads.refuses.add(call)
    with pytest.raises(WorkloadError, match="is refused here"):
        pair.carry()
    assert pair.inspect() is Inspection.PARTIAL
    pair.undo()
    assert pair.places() == ["old:41"]
    assert pair.old.workloads.outrun == []


def test_a_restore_that_breaks_behind_its_effect_is_in_one_place(pair: Pair) -> None:
    pair.new.workloads.breaks.add("restore")
    with pytest.raises(WorkloadError):
        pair.carry()
    pair.undo()
    assert pair.places() == ["old:41"]


def test_one_that_runs_in_the_target_already_is_not_touched(pair: Pair) -> None:
    pair.new.workloads.running["counter"] = 3
    with pytest.raises(WorkloadError, match="in new already"):
        pair.carry()
    assert pair.places() == ["old:41", "new:3"]
    assert pair.inspect() is Inspection.ABSENT


def test_an_agent_that_takes_state_only_is_found_out_before_anything_stops(pair: Pair) -> None:
    pair.new.agent.work = None
    pair.new.agent.restart()
    with pytest.raises(WorkloadError, match="takes state only"):
        pair.carry()
    assert pair.places() == ["old:41"]
    assert "take" not in pair.old.asked


def test_a_dead_agent_in_the_source_is_found_out_before_anything_stops(pair: Pair) -> None:
    pair.unreachable.add("old")
    with pytest.raises(ConnectionLostError):
        pair.carry()
    assert pair.inspect() is Inspection.ABSENT
    pair.unreachable.clear()
    assert pair.places() == ["old:41"]


def test_a_source_whose_agent_dies_behind_the_checkpoint_is_waited_for(pair: Pair) -> None:
    """Its state is on its own disk: a new process of the agent goes on with it."""
    pair.new.workloads.refuses.add("restore")
    with pytest.raises(WorkloadError):
        pair.carry()
    pair.unreachable.add("old")
    with pytest.raises(ConnectionLostError):
        pair.undo()
    pair.unreachable.clear()
    pair.undo()
    assert pair.places() == ["old:41"]


def test_a_source_that_lost_what_it_kept_gets_the_hosts_copy(pair: Pair) -> None:
    pair.new.workloads.refuses.add("restore")
    with pytest.raises(WorkloadError):
        pair.carry()
    shutil.rmtree(pair.old.directory / "work")
    said = pair.undo()
    assert pair.places() == ["old:41"]
    assert "host's copy" in said["text"]


def test_a_target_that_died_costs_what_was_seen_since_and_that_is_told(pair: Pair) -> None:
    pair.carry()
    pair.new.workloads.running["counter"] = 57
    pair.stop("new")
    said = pair.undo()
    assert pair.places() == ["old:41"]
    assert "from the state that it kept" in said["text"]
    assert "does not run any more" in said["problems"][0]
    assert pair.old.workloads.outrun == ["counter"], "its peers know what it has forgotten"


def test_a_target_whose_agent_is_gone_is_halted_before_the_source_starts_it(pair: Pair) -> None:
    """Or it would run twice."""
    pair.carry()
    pair.unreachable.add("new")
    said = pair.undo()
    assert pair.fenced == ["new"]
    assert pair.places() == ["old:41"]
    assert "was halted" in said["problems"][0]


def test_a_target_that_is_slow_is_not_halted(pair: Pair) -> None:
    """Its agent answers; the connection on which the state was asked for is cut again and again."""
    pair.carry()
    cut = pair.new.agent.cuts

    def cuts() -> None:
        cut.extend([6] * 7)  # as often as it is asked within its patience

    pair.before[pair.connections + 3] = cuts
    with pytest.raises(ConnectionLostError):
        pair.undo()
    assert pair.fenced == []
    cut.clear()
    pair.undo()
    assert pair.places() == ["old:41"]


def test_a_target_that_must_not_be_halted_keeps_it_until_it_answers(pair: Pair) -> None:
    pair.carry()
    pair.unreachable.add("new")
    with pytest.raises(ConnectionLostError):
        pair.carrier().undo(pair.end("old"), pair.end("new"))
    assert pair.inspect() is Inspection.UNKNOWN
    pair.unreachable.clear()
    assert pair.places() == ["new:41"]


def test_a_target_that_gives_its_state_no_more_is_stopped_and_told(pair: Pair) -> None:
    pair.carry()
    pair.new.workloads.running["counter"] = 57
    pair.new.workloads.refuses.add("checkpoint")
    said = pair.undo()
    assert pair.places() == ["old:41"]
    assert "did not give its state" in said["problems"][0]


def test_a_newest_state_that_cannot_be_restored_gives_way_to_the_one_that_was_kept(
    pair: Pair,
) -> None:
    """The restore of what came back fails once; the kept state is restored by the same call."""
    pair.carry()
    pair.new.workloads.running["counter"] = 57
    restore, tries = pair.old.workloads.restore, []

    def once(*args: Any) -> Any:
        tries.append(args)
        if len(tries) == 1:
            raise WorkloadError("no room")
        return restore(*args)

    pair.old.workloads.restore = once  # type: ignore[method-assign]
    said = pair.undo()
    assert pair.places() == ["old:41"]
    assert "newest state cannot be used" in said["problems"][0]


@pytest.mark.parametrize("where", ["old", "new", "host"])
def test_a_corrupt_payload_is_never_restored(pair: Pair, where: str) -> None:
    """Damaged in the source before it is fetched, on the host before it is passed on, or in the
    target before it is restored."""
    directory = {"old": pair.old.directory, "new": pair.new.directory, "host": pair.directory}

    def harm() -> None:
        damage(WAY.channel(directory[where]))

    pair.carry()
    dark = pair.connections - 4
    """Before the connections that take, fetch, pass on and bring."""
    pair.undo()
    pair.connections = 0
    pair.before[dark + {"old": 2, "host": 3, "new": 4}[where]] = harm
    with pytest.raises(MkupgradeError):
        pair.carry()
    assert "counter" not in pair.new.workloads.running
    pair.undo()
    assert pair.places() == ["old:41"]


@pytest.mark.slow
def test_whenever_the_host_dies_it_is_found_and_brought_home(tmp_path: Path) -> None:
    """At every connection of the way there, and then at every one of the way back."""
    there = _connections(tmp_path / "there", Pair.carry)
    assert there == 12, "two are asked whether they can, two what runs there; then what is done"
    ends = []
    for number in range(1, there + 1):
        ends += _die(tmp_path / f"{number}", number)
    assert ends.count("new:41") == 0, "the last answer was never lost: see the next test"
    assert set(ends) == {"old:41"}


def _connections(directory: Path, call: Callable[[Pair], Any]) -> int:
    with _made(directory) as pair:
        call(pair)
        return pair.connections


def _die(directory: Path, number: int) -> Iterator[str]:
    """Die there at this connection, and home again; and, from there, at each of the way home."""
    back = 1
    while True:
        with _made(directory / f"{back}") as pair:
            pair.dies_at = number
            with pytest.raises(Died):
                pair.carry()
            pair.dies_at = None
            verdict = pair.inspect()
            assert verdict in {Inspection.ABSENT, Inspection.PARTIAL}, "its last step was not made"
            pair.dies_at = pair.connections + back
            try:
                pair.undo()
                over = True
            except Died:
                over = False
            pair.dies_at = None
            assert len(pair.places()) <= 1
            if not over and pair.inspect() is not Inspection.ABSENT:
                pair.undo()
            yield from pair.places() or ["nowhere"]
            if over:
                return
        back += 1


@pytest.mark.slow
def test_whenever_the_host_dies_on_the_way_back_the_newest_state_comes_home(
    tmp_path: Path,
) -> None:
    number = 1
    while True:
        with _made(tmp_path / f"{number}") as pair:
            pair.carry()
            pair.new.workloads.running["counter"] = 57
            pair.dies_at = pair.connections + number
            try:
                pair.undo()
                over = True
            except Died:
                over = False
            pair.dies_at = None
            if not over:
                verdict = pair.inspect()
                assert verdict is not Inspection.UNKNOWN
                pair.undo()
            assert pair.places() == ["old:57"]
            if over:
                assert number == 8, "seven connections on the way home"
                return
        number += 1


class _made:  # noqa: N801 - a word of these tests
    def __init__(self, directory: Path) -> None:
        host = directory / "host"
        host.mkdir(mode=0o700, parents=True)
        old = Kernel(directory / "old", new_key("t-earlier"), counter=41)
        self._pair = Pair(host, old, Kernel(directory / "new", new_key(T)))

    def __enter__(self) -> Pair:
        return self._pair

    def __exit__(self, *_: object) -> None:
        self._pair.old.close()
        self._pair.new.close()


@pytest.mark.parametrize(
    ("number", "verdict", "place"),
    [
        (1, Inspection.ABSENT, "old:41"),  # room in the target
        (2, Inspection.ABSENT, "old:41"),  # about to take
        (3, Inspection.PARTIAL, "nowhere"),  # it is on the host's disk
        (4, Inspection.PARTIAL, "nowhere"),  # about to bring
        (5, Inspection.PRESENT, "new:41"),  # it runs there, and its answer was lost
    ],
)
def test_a_host_that_dies_at_a_record_finds_what_is_there(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, number: int, verdict: Inspection, place: str
) -> None:
    write, written = Records.write, []

    def dying(self: Records, name: str, fields: dict[str, Any]) -> None:
        if self.dir.is_relative_to(pair.directory):
            written.append(name)
            if len(written) == number:
                raise Died
        write(self, name, fields)

    monkeypatch.setattr("orchestrator.drivers.records.Shelf.write", dying)
    with pytest.raises(Died):
        pair.carry()
    assert pair.inspect() is verdict
    assert (pair.places() or ["nowhere"]) == [place]
    if verdict is Inspection.PARTIAL:
        pair.undo()
        assert pair.places() == ["old:41"]


def test_a_half_of_it_alone_is_taken_to_the_host_and_brought_from_there(pair: Pair) -> None:
    """Where the source goes before the target comes."""
    pair.running["new"] = False
    pair.carrier().take(pair.end("old"))
    assert pair.places() == []
    pair.stop("old")
    pair.running["new"] = True
    carrier = pair.carrier()
    assert carrier.inspect_take(pair.end("old")).verdict is Inspection.PRESENT
    assert carrier.inspect_bring(pair.end("new")).verdict is Inspection.ABSENT
    carrier.bring(pair.end("new"))
    assert pair.places() == ["new:41"]
    assert carrier.inspect_bring(pair.end("new")).verdict is Inspection.PRESENT


def test_the_halves_taken_back_bring_the_newest_state_into_the_source_that_boots_anew(
    pair: Pair,
) -> None:
    pair.carrier().take(pair.end("old"))
    pair.stop("old")
    pair.carrier().bring(pair.end("new"))
    pair.new.workloads.running["counter"] = 57
    pair.carrier().undo_bring(pair.end("new", fenced=True))
    assert pair.places() == []
    pair.stop("new")
    pair.running["old"] = True
    pair.old.restart()
    pair.carrier().undo_take(pair.end("old"))
    assert pair.places() == ["old:57"]
    assert pair.left() == []


def test_a_target_half_that_is_made_again_brings_the_newest_state(pair: Pair) -> None:
    pair.carrier().take(pair.end("old"))
    pair.carrier().bring(pair.end("new"))
    pair.new.workloads.running["counter"] = 57
    pair.carrier().undo_bring(pair.end("new"))
    pair.carrier().bring(pair.end("new"))
    assert pair.places() == ["new:57"]
    assert pair.carrier().inspect_bring(pair.end("new")).verdict is Inspection.PRESENT
    pair.new.workloads.running["counter"] = 58
    pair.undo()
    assert pair.places() == ["old:58"]


def test_a_source_that_does_not_run_is_named_with_the_place_of_the_state(pair: Pair) -> None:
    pair.carrier().take(pair.end("old"))
    pair.stop("old")
    with pytest.raises(WorkloadError, match="old does not run") as caught:
        pair.carrier().undo_take(pair.end("old"))
    assert str(pair.directory / "handover") in str(caught.value.state)
    assert WAY.channel(pair.directory).manifest() is not None
