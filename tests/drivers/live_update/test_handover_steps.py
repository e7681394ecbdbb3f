"""Taking state along and giving it back: every way there and back, with the best state left."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.model.errors import (
    HandoverError,
    MkupgradeError,
    NotSupportedError,
    WorkloadError,
)
from orchestrator.model.kinds import Kind
from orchestrator.model.steps import Inspection, Section, Step

OLD, NEW = "7.2.13", "7.3.4"
FORWARD_MARK = "mkupgrade.transaction=t-20260901-ab12cd/forward"
RETURN_MARK = "mkupgrade.transaction=t-20260901-ab12cd/return"
CHANNELS = [("kho", False), ("kho", True), ("disk", False)]
Document = Callable[..., dict[str, Any]]


class Steps:
    """The steps that move one workload, in each section."""

    def __init__(self, host: Any, document: dict[str, Any], channel: str, spill: bool) -> None:
        name = document["name"]
        self._host, self._workload, self._channel = host, document, channel
        self._spill, self._map = spill, {name: channel}
        self.names = [] if document["migrate"]["method"] == "restart" else [name]

    def checkpoint(self, section: Section = Section.FORWARD) -> Step:
        fields = {"workload": self._workload, "channel": self._channel, "spill": self._spill}
        return self._host.step(Kind.CHECKPOINT, section, **fields)

    def preserve(self, section: Section = Section.FORWARD) -> Step:
        return self._host.step(
            Kind.PRESERVE,
            section,
            workloads=self.names,
            channels=self._map,
            from_release=OLD,
            to_release=NEW,
        )

    def retrieve(self, section: Section = Section.FORWARD) -> Step:
        return self._host.step(Kind.RETRIEVE, section, workloads=self.names, channels=self._map)

    def restore(self, section: Section = Section.FORWARD) -> Step:
        fields = {"workload": self._workload, "channel": self._channel}
        anew = section is Section.RECOVER
        return self._host.step(Kind.RESTORE, section, **fields, or_restart=anew)

    def leave(self, section: Section = Section.FORWARD) -> None:
        self._host.perform(self.checkpoint(section))
        if self.names:
            self._host.perform(self.preserve(section))

    def arrive(self, section: Section = Section.FORWARD) -> Any:
        if self.names:
            self._host.perform(self.retrieve(section))
        return self._host.perform(self.restore(section))

    def jump(self) -> None:
        """To the new kernel, where the workload goes on."""
        self.leave()
        self._host.land(NEW, FORWARD_MARK, carried=True)
        self.arrive()


@pytest.fixture
def running(host: Any) -> Any:
    host.workloads.running = {"counter": 41}
    return host


@pytest.mark.parametrize(("channel", "spill"), CHANNELS)
def test_a_workload_goes_on_in_the_new_kernel(
    running: Any, workload: Document, channel: str, spill: bool
) -> None:
    steps = Steps(running, workload(), channel, spill)
    steps.leave()
    running.land(NEW, FORWARD_MARK, carried=True)
    result = steps.arrive()
    assert running.workloads.running == {"counter": 41}
    assert result["from"] == ("memory" if channel == "kho" else "disk")
    assert not running.workloads.held
    assert running.verdict(steps.retrieve()) is Inspection.PRESENT
    assert running.verdict(steps.restore()) is Inspection.PRESENT


@pytest.mark.parametrize(("channel", "spill"), CHANNELS)
def test_the_way_back_by_a_jump_carries_what_happened_in_the_new_kernel(
    running: Any, workload: Document, channel: str, spill: bool
) -> None:
    steps = Steps(running, workload(), channel, spill)
    steps.jump()
    running.workloads.running["counter"] = 50
    steps.leave(Section.RETURN)
    running.land(OLD, RETURN_MARK, carried=True)
    result = steps.arrive(Section.RECOVER)
    assert running.workloads.running == {"counter": 50}
    assert result["from"] == ("memory" if channel == "kho" else "spilled state")


@pytest.mark.parametrize(("channel", "spill"), [("kho", True), ("disk", False)])
def test_a_dead_new_kernel_costs_no_state_that_was_spilled(
    running: Any, workload: Document, channel: str, spill: bool
) -> None:
    steps = Steps(running, workload(), channel, spill)
    steps.leave()
    running.land(OLD, "", carried=False)
    result = steps.arrive(Section.RECOVER)
    assert running.workloads.running == {"counter": 41}
    assert "restored from spilled state of" in result["text"]


@pytest.mark.parametrize("restored", [True, False])
def test_older_state_of_a_workload_that_had_run_on_comes_back_without_its_connections(
    running: Any, workload: Document, restored: bool
) -> None:
    """Its peers have seen more of them than that state knows. Whether it ran is not guessed in
    favour of the connections: the kernel may have died between its restore and the record."""
    steps = Steps(running, workload(), "kho", spill=True)
    steps.leave()
    running.land(NEW, FORWARD_MARK, carried=True)
    running.perform(steps.retrieve())
    if restored:
        running.perform(steps.restore())
    running.land(OLD, "", carried=False)
    text = steps.arrive(Section.RECOVER)["text"]
    assert text.endswith("; it had run on since, so that its 2 connections were closed")


def test_state_of_a_workload_that_never_ran_in_the_new_kernel_keeps_its_connections(
    running: Any, workload: Document
) -> None:
    steps = Steps(running, workload(), "kho", spill=True)
    steps.leave()
    running.land(NEW, FORWARD_MARK, carried=True)
    running.perform(steps.retrieve())
    running.workloads.fail = WorkloadError("CRIU says no")
    with pytest.raises(WorkloadError):
        running.perform(steps.restore())
    running.workloads.fail = None
    running.land(OLD, "", carried=False)
    assert "closed" not in steps.arrive(Section.RECOVER)["text"]


def test_what_the_jump_back_left_is_newer_and_keeps_its_connections(
    running: Any, workload: Document
) -> None:
    steps = Steps(running, workload(), "kho", spill=True)
    steps.leave()
    running.land(NEW, FORWARD_MARK, carried=True)
    steps.arrive()
    steps.leave(Section.RETURN)
    running.land(OLD, "", carried=False)
    assert "closed" not in steps.arrive(Section.RECOVER)["text"]


def test_old_state_that_is_used_again_for_one_that_died_says_so_on_its_way(
    running: Any, workload: Document
) -> None:
    steps = Steps(running, workload(), "disk", spill=False)
    steps.leave()
    running.land(NEW, FORWARD_MARK, carried=True)
    steps.arrive()
    running.workloads.running = {}
    steps.leave(Section.RETURN)
    running.land(OLD, RETURN_MARK, carried=True)
    assert "2 connections were closed" in steps.arrive(Section.RECOVER)["text"]


def test_without_any_state_left_the_workload_is_started_anew_and_said_so(
    running: Any, workload: Document
) -> None:
    steps = Steps(running, workload(), "kho", spill=False)
    steps.leave()
    running.land(OLD, "", carried=False)
    result = steps.arrive(Section.RECOVER)
    assert running.workloads.anew == ["counter"]
    assert result["text"] == "counter started anew: no state left"


def test_state_that_came_through_memory_is_durable_before_the_kernel_forgets_it(
    running: Any, workload: Document
) -> None:
    steps = Steps(running, workload(), "kho", spill=False)
    steps.leave()
    running.land(NEW, FORWARD_MARK, carried=True)
    running.perform(steps.retrieve())
    running.land(OLD, "", carried=False)
    assert "spilled state" in steps.arrive(Section.RECOVER)["text"]
    assert running.workloads.running == {"counter": 41}


def test_memory_that_did_not_arrive_is_made_good_from_the_disk(
    running: Any, workload: Document
) -> None:
    steps = Steps(running, workload(), "kho", spill=True)
    steps.leave()
    running.land(NEW, FORWARD_MARK, carried=False)
    steps.arrive()
    assert running.workloads.running == {"counter": 41}


def test_in_the_new_kernel_missing_state_is_an_error_and_no_restart(
    running: Any, workload: Document
) -> None:
    steps = Steps(running, workload(), "kho", spill=False)
    steps.leave()
    running.land(NEW, FORWARD_MARK, carried=False)
    with pytest.raises(HandoverError) as caught:
        running.perform(steps.retrieve())
    assert caught.value.details
    with pytest.raises(WorkloadError):
        running.perform(steps.restore())
    assert not running.workloads.anew


def test_a_crash_after_the_state_arrived_fetches_it_again(running: Any, workload: Document) -> None:
    steps = Steps(running, workload(), "kho", spill=False)
    steps.leave()
    running.land(NEW, FORWARD_MARK, carried=True)
    running.perform(steps.retrieve())
    running.die()
    assert running.verdict(steps.retrieve()) is Inspection.PRESENT
    (running.state_dir / f"transactions/{'t-20260901-ab12cd'}/forward/retrieved.json").unlink()
    assert running.verdict(steps.retrieve()) is Inspection.ABSENT
    steps.arrive()
    assert running.workloads.running == {"counter": 41}


def test_a_failed_restore_leads_back_with_the_state_it_could_not_use(
    running: Any, workload: Document
) -> None:
    steps = Steps(running, workload(), "kho", spill=False)
    steps.leave()
    running.land(NEW, FORWARD_MARK, carried=True)
    running.perform(steps.retrieve())
    running.workloads.fail = WorkloadError("CRIU says no")
    with pytest.raises(WorkloadError):
        running.perform(steps.restore())
    assert "used again" in running.perform(steps.checkpoint(Section.RETURN))["reused"]
    assert running.verdict(steps.checkpoint(Section.RETURN)) is Inspection.PRESENT
    running.perform(steps.preserve(Section.RETURN))
    running.land(OLD, RETURN_MARK, carried=True)
    running.workloads.fail = None
    steps.arrive(Section.RECOVER)
    assert running.workloads.running == {"counter": 41}


def test_state_that_cannot_be_restored_in_the_old_kernel_ends_in_a_fresh_start(
    running: Any, workload: Document
) -> None:
    steps = Steps(running, workload(), "disk", spill=False)
    steps.leave()
    running.land(OLD, "", carried=False)
    running.perform(steps.retrieve(Section.RECOVER))
    running.workloads.fail = WorkloadError("CRIU says no")
    result = running.perform(steps.restore(Section.RECOVER))
    assert "CRIU says no" in result["text"]
    assert running.workloads.anew == ["counter"]


def test_what_the_system_started_by_itself_is_left_alone_in_recover(
    running: Any, workload: Document
) -> None:
    steps = Steps(running, workload(), "disk", spill=False)
    steps.leave()
    running.land(OLD, "", carried=False)
    running.workloads.running = {"counter": 7}
    assert steps.arrive(Section.RECOVER)["how"] == "found-running"
    assert running.workloads.running == {"counter": 7}
    assert running.verdict(steps.restore(Section.RECOVER)) is Inspection.PRESENT


def test_a_workload_that_only_restarts_travels_by_its_record(
    running: Any, workload: Document
) -> None:
    document = workload(migrate={"method": "restart", "start": ["start"]})
    steps = Steps(running, document, "disk", spill=False)
    steps.leave()
    running.land(NEW, FORWARD_MARK, carried=True)
    assert steps.arrive()["text"] == "counter started again"


@pytest.mark.parametrize(("channel", "spill"), CHANNELS)
def test_sigkill_after_the_checkpoint_leaves_it_present_and_reverting_brings_it_back(
    running: Any, workload: Document, channel: str, spill: bool
) -> None:
    steps = Steps(running, workload(), channel, spill)
    steps.leave()
    running.die()
    assert running.verdict(steps.checkpoint()) is Inspection.PRESENT
    lapsed = Inspection.PRESENT
    if channel == "kho":
        lapsed = Inspection.PARTIAL if spill else Inspection.ABSENT
    assert running.verdict(steps.preserve()) is lapsed
    for _ in range(2):
        running.revert(steps.preserve())
        running.revert(steps.checkpoint())
        assert running.workloads.running == {"counter": 41}
    assert running.verdict(steps.checkpoint()) is Inspection.ABSENT
    assert running.verdict(steps.preserve()) is Inspection.ABSENT
    assert not list(running.state_dir.rglob("t-*")), "nothing is left of it"


def test_a_checkpoint_that_failed_with_the_workload_running_leaves_nothing_but_its_log(
    running: Any, workload: Document, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dump(workload: Any, workdir: Path, *_: Any) -> None:
        workdir.mkdir(mode=0o700)
        (workdir / "pages").write_bytes(b"memory of the workload")
        (workdir / "dump.log").write_text("no space left")
        raise WorkloadError("refused", where=str(workdir / "dump.log"), next_command="less it")

    steps = Steps(running, workload(), "disk", spill=False)
    monkeypatch.setattr(running.workloads, "checkpoint", dump)
    with pytest.raises(WorkloadError) as caught:
        running.perform(steps.checkpoint())
    assert running.verdict(steps.checkpoint()) is Inspection.PARTIAL
    running.revert(steps.checkpoint())
    assert running.verdict(steps.checkpoint()) is Inspection.ABSENT
    assert running.workloads.running == {"counter": 41}
    assert not list(running.state_dir.rglob("pages"))
    kept = Path(str(caught.value.where))
    assert caught.value.next_command == f"less {kept}"
    assert kept.read_text() == "no space left"


def test_preserving_what_was_never_checkpointed_is_refused(
    running: Any, workload: Document
) -> None:
    steps = Steps(running, workload(), "disk", spill=False)
    with pytest.raises(HandoverError, match="has not been checkpointed"):
        running.perform(steps.preserve())


def test_state_kept_in_memory_alone_never_touches_the_state_directory(
    running: Any, workload: Document
) -> None:
    steps = Steps(running, workload(), "kho", spill=False)
    steps.leave()
    assert not list(running.state_dir.rglob("count"))
    assert not list(running.state_dir.rglob("payload-*"))


def test_a_damaged_spilled_copy_is_not_restored(running: Any, workload: Document) -> None:
    steps = Steps(running, workload(), "disk", spill=False)
    steps.leave()
    payload = next(running.state_dir.rglob("payload-*"))
    payload.write_bytes(payload.read_bytes()[:-1] + b"\xff")
    running.land(NEW, FORWARD_MARK, carried=True)
    with pytest.raises(MkupgradeError) as caught:
        running.perform(steps.retrieve())
    assert "disk" in str(caught.value.details)
    assert not running.workloads.running


def test_one_damaged_payload_costs_the_other_workloads_nothing(
    host: Any, workload: Document
) -> None:
    """Neither in the new kernel nor, if that is left for it, back in the old one."""
    host.workloads.running = {"counter": 41, "web": 7}
    both = {"workloads": ["counter", "web"], "channels": {"counter": "kho", "web": "kho"}}
    for name in ("counter", "web"):
        fields = {"workload": workload(name), "channel": "kho", "spill": False}
        host.perform(host.step(Kind.CHECKPOINT, **fields))
    host.perform(host.step(Kind.PRESERVE, **both, from_release=OLD, to_release=NEW))
    (session,) = host.luo.outgoing.values()
    fd = os.memfd_create("damaged")
    os.write(fd, os.pread(session.files[1].fd, 1 << 20, 0)[:-1] + b"\xff")
    os.dup2(fd, session.files[1].fd)
    os.close(fd)

    host.land(NEW, FORWARD_MARK, carried=True)
    with pytest.raises(HandoverError, match="no complete state has arrived for counter") as caught:
        host.perform(host.step(Kind.RETRIEVE, **both))
    assert any("memory (forward): counter: " in line for line in caught.value.details)

    host.land(OLD, RETURN_MARK, carried=True)
    result = host.perform(host.step(Kind.RETRIEVE, Section.RECOVER, **both))
    assert (list(result["arrived"]), result["missing"]) == (["web"], ["counter"])
    fields = {"workload": workload("web"), "channel": "kho", "or_restart": True}
    host.perform(host.step(Kind.RESTORE, Section.RECOVER, **fields))
    assert host.workloads.running == {"web": 7}


def test_a_place_where_nothing_was_left_is_no_problem(running: Any, workload: Document) -> None:
    """The jump back never happened, so that it left nothing; the first one did."""
    steps = Steps(running, workload(), "disk", spill=False)
    steps.leave()
    running.land(OLD, "", carried=False)
    result = running.perform(steps.retrieve(Section.RECOVER))
    assert (list(result["arrived"]), result["problems"]) == (["counter"], [])


def test_state_that_was_used_in_the_old_kernel_has_been_outrun_after_another_reset(
    running: Any, workload: Document
) -> None:
    steps = Steps(running, workload(), "disk", spill=False)
    steps.leave()
    running.land(OLD, "", carried=False)
    assert "run on since" not in steps.arrive(Section.RECOVER)["text"]
    running.die()
    assert running.verdict(steps.restore(Section.RECOVER)) is Inspection.PRESENT
    running.land(OLD, "", carried=False)
    assert "it had run on since" in steps.arrive(Section.RECOVER)["text"]


def test_a_reset_before_the_jump_gives_back_whole_state_once(
    running: Any, workload: Document
) -> None:
    steps = Steps(running, workload(), "disk", spill=False)
    running.perform(steps.checkpoint())
    running.land(OLD, "", carried=False)
    assert running.verdict(steps.checkpoint()) is Inspection.PRESENT
    real = running.workloads.restore
    running.workloads.restore = lambda *a: (real(*a), _die())[0]
    with pytest.raises(KeyboardInterrupt):
        running.revert(steps.checkpoint())
    del running.workloads.restore
    assert running.workloads.running == {"counter": 41}
    running.land(OLD, "", carried=False)
    told = running.revert(steps.checkpoint())["text"]
    assert told.endswith("it ran since its state was taken, and the machine was reset again")
    assert running.workloads.running == {"counter": 0}


def test_whole_state_that_cannot_be_restored_after_a_reset_ends_in_a_fresh_start(
    running: Any, workload: Document
) -> None:
    """What it ran in is gone: to leave it stopped would help nobody."""
    steps = Steps(running, workload(), "disk", spill=False)
    running.perform(steps.checkpoint())
    running.land(OLD, "", carried=False)
    running.workloads.fail = WorkloadError("a process id is taken")
    told = running.revert(steps.checkpoint())["text"]
    assert told.startswith("counter started anew: its state could not be restored: a process id")
    assert running.workloads.running == {"counter": 0}
    assert running.workloads.held == set(), "and its ports are open again"


def test_a_reset_in_the_middle_of_a_checkpoint_ends_in_a_fresh_start(
    running: Any, workload: Document, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = Steps(running, workload(), "disk", spill=False)
    monkeypatch.setattr(running.workloads, "checkpoint", lambda *_: _die())
    with pytest.raises(KeyboardInterrupt):
        running.perform(steps.checkpoint())
    running.land(OLD, "", carried=False)
    assert running.verdict(steps.checkpoint()) is Inspection.PARTIAL
    told = running.revert(steps.checkpoint())["text"]
    assert told == "counter started anew: the machine was reset before its state was whole"
    assert running.verdict(steps.checkpoint()) is Inspection.ABSENT
    assert not list(running.state_dir.rglob("t-*")), "nothing is left of it"


def test_what_nobody_knows_how_to_start_is_left_to_the_boot_after_a_reset(
    running: Any, workload: Document, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*_: Any) -> None:
        raise NotSupportedError("nobody knows how it is started")

    steps = Steps(running, workload(), "kho", spill=False)
    running.perform(steps.checkpoint())
    running.land(OLD, "", carried=False)
    monkeypatch.setattr(running.workloads, "start_anew", unknown)
    told = running.revert(steps.checkpoint())["note"]
    assert told.startswith("counter is left to what starts it at boot: the machine was reset")


def _die() -> None:
    """The process ends in the middle of a call."""
    raise KeyboardInterrupt
