"""Whether a workload can be carried is asked of both ends, while it runs on."""

from __future__ import annotations

import pytest

from orchestrator.agent.client import AgentClient
from orchestrator.drivers.carrying.ends import Cargo
from orchestrator.drivers.carrying.trying import admit, try_out
from orchestrator.handover.stream import ConnectionLostError
from orchestrator.model.errors import WorkloadError
from orchestrator.model.spec.workloads import Workload
from orchestrator.workloads.elsewhere import Needs
from tests.drivers.carrying.pair import WAY, Pair
from tests.support.carried import PID, workload
from tests.support.control import Control

CARGO = Cargo(Workload.model_validate(workload()), WAY, "ab" * 32)
SOCKET = "a trial dump of process 4000 failed: unix: Can't dump half of stream unix connection."


def test_a_workload_that_is_tried_runs_on_and_leaves_nothing(pair: Pair) -> None:
    tried = try_out(pair.end("old"), CARGO, Control())
    assert tried.needs == Needs(size=9000, tasks=[(PID, PID)])
    assert pair.places() == ["old:41"]
    assert {path.name for path in pair.old.directory.rglob("*")} == {"work", "counter.lock"}


def test_what_criu_refuses_is_told_with_workload_and_instance(pair: Pair) -> None:
    """And every line that it said."""
    pair.old.workloads.finds = [("error", f"{SOCKET}\n  Error (criu/sk-unix.c:815)")]
    with pytest.raises(WorkloadError) as caught:
        try_out(pair.end("old"), CARGO, Control())
    assert caught.value.what == f"counter cannot be taken out of old: {SOCKET}"
    assert caught.value.details == ("Error (criu/sk-unix.c:815)",)
    assert pair.places() == ["old:41"]


def test_warnings_of_a_trial_name_the_workload(pair: Pair) -> None:
    pair.old.workloads.finds = [("warning", "a deleted file is open")]
    assert try_out(pair.end("old"), CARGO, Control()).warnings == [
        "counter: a deleted file is open"
    ]


def test_one_that_does_not_run_is_found_out_by_the_trial(pair: Pair) -> None:
    pair.old.workloads.running.clear()
    with pytest.raises(WorkloadError, match="no state to take: not running"):
        try_out(pair.end("old"), CARGO, Control())


def test_the_target_is_told_what_is_needed_and_says_what_it_lacks(pair: Pair) -> None:
    needed = Needs(size=9000, tasks=[(PID, PID)], machine="x86_64")
    assert admit(pair.end("new"), CARGO, needed, Control()) == []
    assert pair.new.workloads.told == [needed]
    pair.new.workloads.lacking = [
        ("warning", "CRIU is old"),
        ("error", "process ids of it are taken here: 4000 by sleep"),
    ]
    with pytest.raises(WorkloadError, match="counter cannot be restored in new: process ids"):
        admit(pair.end("new"), CARGO, needed, Control())
    assert pair.places() == ["old:41"]


def test_an_older_agent_is_told_apart_and_not_asked(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever speaks 1.2 would call the request one that cannot be read."""
    monkeypatch.setattr(AgentClient, "minor", 2)
    tried = try_out(pair.end("old"), CARGO, Control())
    assert tried.needs is None
    assert tried.warnings == [
        "no checkpoint of counter was tried: the agent in old speaks protocol 1.2, "
        "which cannot (1.3)"
    ]
    (told,) = admit(pair.end("new"), CARGO, None, Control())
    assert "the agent in new speaks protocol 1.2" in told
    assert pair.old.asked == pair.new.asked == []


def test_where_nobody_could_say_what_is_needed_that_is_told(pair: Pair) -> None:
    (told,) = admit(pair.end("new"), CARGO, None, Control())
    assert "what counter needs in new is not known" in told
    assert pair.new.workloads.told == [Needs()]


def test_a_trial_whose_answer_was_lost_is_asked_for_again(pair: Pair) -> None:
    pair.old.agent.cuts = [None, None, 6]
    assert try_out(pair.end("old"), CARGO, Control()).needs is not None
    assert pair.old.asked == ["try", "try"]


def test_an_agent_that_does_not_answer_is_not_a_refusal(pair: Pair) -> None:
    pair.unreachable.add("old")
    with pytest.raises(ConnectionLostError):
        try_out(pair.end("old"), CARGO, Control())
