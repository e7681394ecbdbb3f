"""Work with workloads, asked of an agent: done by a child, again where it is asked for again."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.agent.client import About
from orchestrator.agent.errors import ProtocolError, RefusedError
from orchestrator.agent.keys import Key
from orchestrator.agent.wire import Type, most
from orchestrator.agent.work import in_a_child
from orchestrator.drivers.carrying import worker
from orchestrator.drivers.carrying.requests import done, read_answer, read_look
from orchestrator.handover.frame import SIZE
from orchestrator.handover.manifest import Manifest
from orchestrator.handover.parcel import Parcel
from orchestrator.handover.stream import ConnectionLostError
from orchestrator.model.errors import ErrorClass, HandoverError, WorkloadError
from orchestrator.model.steps import Inspection, Section
from orchestrator.system.limited import Limited
from orchestrator.workloads.facade import Workloads
from tests.agent.conftest import TRANSACTION
from tests.support.agents import Local
from tests.support.carried import PID, Kernel, workload

PARCEL = Parcel(TRANSACTION, Section.FORWARD, "counter")
ABOUT = About(TRANSACTION, "counter")


@pytest.fixture
def kernel(key: Key, tmp_path: Path) -> Iterator[Kernel]:
    made = Kernel(tmp_path / "kernel", key, counter=41)
    yield made
    made.close()


def request(verb: str, **rest: Any) -> bytes:
    fields = {
        "verb": verb, "transaction": TRANSACTION, "section": "forward", "plan_digest": "ab" * 32,
        "workload": workload(), "seconds": 20,
    }  # fmt: skip
    return json.dumps(fields | rest).encode()


def ask(kernel: Kernel, verb: str, **rest: Any) -> dict[str, Any]:
    with kernel.agent.client(about=ABOUT) as client:
        return read_answer(client.work(request(verb, **rest)), "web")


def frame(kernel: Kernel, token: int) -> bytes:
    found = b""
    with kernel.agent.client(about=ABOUT) as client:
        while piece := client.fetch(Section.FORWARD, token, len(found)):
            found += piece
    return found


def arrived(kernel: Kernel, tmp_path: Path) -> None:
    """As if it had been passed on: the handover that this kernel made is here, and nothing else."""
    ask(kernel, "take")
    kept = tmp_path / "kept"
    PARCEL.channel(kernel.directory).dir.rename(kept)
    ask(kernel, "drop")
    place = PARCEL.channel(kernel.directory)
    place.begin()
    place.dir.rmdir()
    kept.rename(place.dir)


def test_what_is_taken_can_be_fetched_frame_by_frame_as_it_was_sealed(kernel: Kernel) -> None:
    taken = ask(kernel, "take")
    assert "counter" not in kernel.workloads.running
    manifest = Manifest.decode(frame(kernel, 0), "manifest")
    assert hashlib.sha256(manifest.encode()).hexdigest() == taken["manifest"]
    payload = manifest.workload("counter").payload
    assert payload is not None
    body = frame(kernel, payload.token)[SIZE:]
    assert (len(body), hashlib.sha256(body).hexdigest()) == (payload.length, payload.sha256)
    assert b"pages-1.img" in body


def test_a_take_that_is_asked_for_again_gives_the_very_same_handover(kernel: Kernel) -> None:
    """As after a connection that was cut before the answer."""
    first = ask(kernel, "take")
    kernel.agent.restart()
    assert ask(kernel, "take") == first


def test_what_is_taken_runs_again_from_what_is_kept_and_nothing_is_left(kernel: Kernel) -> None:
    ask(kernel, "take")
    ask(kernel, "again")
    assert kernel.workloads.running == {"counter": 41}
    assert ask(kernel, "again")["how"] == "ran-on"
    left = {path.name for path in kernel.directory.rglob("*")}
    assert left == {"work", "counter.lock"}


def test_a_checkpoint_that_breaks_is_seen_and_taken_back(kernel: Kernel) -> None:
    kernel.workloads.breaks.add("checkpoint")
    with pytest.raises(WorkloadError, match="broke at its end"):
        ask(kernel, "take")
    look = read_look(ask(kernel, "look"), "web")
    assert (look.running, look.taken, look.manifest) == (False, Inspection.PRESENT, "")
    ask(kernel, "again")
    assert kernel.workloads.running == {"counter": 41}


def test_what_arrived_is_restored_once_and_told_from_what_runs_there_anyway(
    kernel: Kernel, tmp_path: Path
) -> None:
    arrived(kernel, tmp_path)
    before = read_look(ask(kernel, "look"), "web")
    assert (before.running, before.brought) == (False, Inspection.ABSENT)
    assert len(before.manifest) == 64
    assert ask(kernel, "bring")["pids"] == [PID]
    assert ask(kernel, "bring")["notes"] == ["it ran already"]
    after = read_look(ask(kernel, "look"), "web")
    assert (after.running, after.brought) == (True, Inspection.PRESENT)
    ask(kernel, "end")
    assert kernel.workloads.running == {}


def test_nothing_is_restored_over_one_that_runs(kernel: Kernel, tmp_path: Path) -> None:
    arrived(kernel, tmp_path)
    kernel.workloads.running["counter"] = 7
    with pytest.raises(WorkloadError, match="not from this state"):
        ask(kernel, "bring")
    assert kernel.workloads.running == {"counter": 7}


def test_what_was_restored_before_a_reboot_does_not_count_as_restored(
    kernel: Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrived(kernel, tmp_path)
    ask(kernel, "bring")
    kernel.restart()
    monkeypatch.setattr(worker.proc, "boot_id", lambda: "another")
    assert read_look(ask(kernel, "look"), "web").brought is Inspection.ABSENT


def test_one_that_does_not_run_gives_no_state(kernel: Kernel) -> None:
    kernel.workloads.running.clear()
    with pytest.raises(WorkloadError, match="no state to take"):
        ask(kernel, "take")


def test_two_pieces_of_work_with_one_workload_wait_for_each_other(kernel: Kernel) -> None:
    parsed = worker.read_request(request("look", seconds=0.15))
    holder = worker.Worker(parsed, kernel.directory, kernel.workloads, Limited(5))
    with holder._alone():
        answer = worker.answer(request("take", seconds=0.15), kernel.directory, kernel.workloads)
    said = json.loads(answer)["error"]
    assert said["class"] == ErrorClass.BUSY
    assert kernel.workloads.running == {"counter": 41}


def test_an_agent_that_only_takes_state_does_no_work(agent: Local) -> None:
    with agent.client() as client:
        assert not client.status().works
        with pytest.raises(RefusedError, match="takes state"):
            client.work(request("look"))


@pytest.mark.parametrize(
    "wrong",
    [
        {"verb": "run"}, {"section": "recover"}, {"transaction": "../t"}, {"plan_digest": "x"},
        {"workload": workload("../x")}, {"workload": {}}, {"seconds": 0},
    ],
)  # fmt: skip
def test_a_request_that_means_ill_changes_nothing(kernel: Kernel, wrong: dict[str, Any]) -> None:
    data = json.dumps(json.loads(request("take")) | wrong).encode()
    said = json.loads(worker.answer(data, kernel.directory, kernel.workloads))
    assert said["error"]["code"] == "handover"
    assert kernel.workloads.running == {"counter": 41}
    assert not list(kernel.directory.iterdir())


def test_handovers_of_two_workloads_arrive_at_once(agent: Local) -> None:
    block = b"x" * 100
    digest = hashlib.sha256(block).digest()
    with (
        agent.client(about=ABOUT) as one,
        agent.client(about=About(TRANSACTION, "shop")) as other,
    ):
        one.begin(Section.FORWARD)
        other.begin(Section.FORWARD)
        one.put(digest, block)
        one.flush()
        assert one.lacking([digest]) == [False]
        assert other.lacking([digest]) == [True]


def test_what_is_not_complete_cannot_be_fetched(agent: Local) -> None:
    with agent.client(about=ABOUT) as client:
        with pytest.raises(RefusedError, match="no state of forward"):
            client.fetch(Section.FORWARD, 0, 0)
        with pytest.raises(RefusedError):
            client.fetch(Section.FORWARD, 1, 0)


def test_an_answer_about_thousands_of_processes_keeps_to_its_bound() -> None:
    said = done({"pids": list(range(1 << 16)), "notes": ["x" * 9000] * 9000, "taken": "t"})
    assert len(said) <= most(Type.WORKED)
    assert read_answer(said, "web")["pids"][:2] == [0, 1]


def test_answers_that_mean_ill_are_refused() -> None:
    for answer in (b"", b"[]", b'{"error": {"what": 1}}', b"{" * 10_000):
        with pytest.raises(HandoverError):
            read_answer(answer, "web")
    with pytest.raises(HandoverError):
        read_look({"running": True}, "web")


@pytest.mark.parametrize("seconds", [b"0", b"-1", b'"5"', b"true", b"1e9", b"null"])
def test_work_without_an_honest_limit_is_not_begun(seconds: bytes) -> None:
    with pytest.raises(ProtocolError):
        in_a_child(["/bin/false"])(b'{"seconds": ' + seconds + b"}")


def test_a_child_that_fails_costs_the_request_and_not_the_agent(key: Key, tmp_path: Path) -> None:
    (tmp_path / "state").mkdir(mode=0o700)
    local = Local(key, tmp_path / "state", work=in_a_child([sys.executable, "-c", "raise OSError"]))
    with local.client() as client:
        with pytest.raises(RefusedError, match="did not end well"):
            client.work(b'{"seconds": 5}')
        assert client.status().works
    local.close()


@pytest.mark.slow
def test_a_hooks_workload_is_saved_fetched_and_loaded_by_a_real_child(
    key: Key, tmp_path: Path
) -> None:
    """With nothing doubled: the worker as the agent starts it, and the operator's commands."""
    (tmp_path / "state").mkdir(mode=0o700)
    kept = tmp_path / "shop"
    kept.write_text("17 orders")
    migrate = {
        "method": "hooks",
        "save": ["sh", "-c", f'mv {kept} "$MKUPGRADE_STATE_DIR/orders"'],
        "load": ["sh", "-c", f'cp "$MKUPGRADE_STATE_DIR/orders" {kept}'],
    }
    pid_file = tmp_path / "pid"
    pid_file.write_text(f"{os.getpid()}\n")
    document = workload("counter", migrate=migrate, find={"pid_file": str(pid_file)})
    argv = [sys.executable, "-m", "orchestrator.drivers.carrying.worker", str(tmp_path / "state")]
    local = Local(key, tmp_path / "state", work=in_a_child(argv))

    def do(verb: str) -> dict[str, Any]:
        with local.client(about=ABOUT) as client:
            return read_answer(client.work(request(verb, workload=document)), "web")

    do("take")
    assert not kept.exists()
    pid_file.unlink()
    with local.client(about=ABOUT) as client:
        assert Manifest.decode(client.fetch(Section.FORWARD, 0, 0), "m").workload("counter")
    do("bring")
    assert kept.read_text() == "17 orders"
    local.close()


def test_a_connection_that_is_cut_during_work_leaves_work_that_is_done(kernel: Kernel) -> None:
    kernel.agent.cuts = [6]
    with pytest.raises(ConnectionLostError):
        ask(kernel, "take")
    kernel.agent.wait()
    assert kernel.asked == ["take"]
    assert ask(kernel, "take")["bytes"] > 9000


def test_the_worker_finds_nothing_of_a_workload_that_is_not_there(tmp_path: Path) -> None:
    """By the real `Workloads`."""
    nowhere = workload(find={"pid_file": str(tmp_path / "none.pid")}, migrate={
        "method": "hooks", "save": ["false"], "load": ["false"]})  # fmt: skip
    said = worker.answer(request("look", workload=nowhere), tmp_path, Workloads())
    look = read_look(read_answer(said, "web"), "web")
    assert (look.running, look.taken, look.brought) == (
        False, Inspection.ABSENT, Inspection.ABSENT
    )  # fmt: skip


def test_what_is_copied_ahead_is_a_handover_of_its_own(kernel: Kernel) -> None:
    """It is fetched beside the state that goes on from it, which names it; the workload runs on."""
    copied = ask(kernel, "ahead")
    assert kernel.workloads.running == {"counter": 41}
    taken = ask(kernel, "take", tag="aa", ahead=copied["manifest"])
    both = [PARCEL.copied_ahead().channel(kernel.directory), PARCEL.channel(kernel.directory)]
    ahead, state = (channel.manifest() for channel in both)
    assert ahead is not None
    assert state is not None
    assert (ahead.digest(), state.digest()) == (copied["manifest"], taken["manifest"])
    assert state.workload("counter").meta["ahead"] == copied["manifest"]


def test_nothing_is_copied_ahead_once_a_checkpoint_was_begun(kernel: Kernel) -> None:
    """What it left may rest on the copy that is there."""
    copied = ask(kernel, "ahead")
    ask(kernel, "take", tag="aa", ahead=copied["manifest"])
    with pytest.raises(WorkloadError, match="checkpoint was begun"):
        ask(kernel, "ahead")
    assert ask(kernel, "again", tag="aa")["how"] == "again"
    assert kernel.workloads.running == {"counter": 41}


def test_state_is_not_restored_upon_another_copy_than_its_own(kernel: Kernel) -> None:
    copied = ask(kernel, "ahead")
    ask(kernel, "take", tag="aa", ahead=copied["manifest"])
    PARCEL.copied_ahead().channel(kernel.directory).discard()
    with pytest.raises(WorkloadError, match="copied ahead of its state is not here"):
        ask(kernel, "bring")
    assert kernel.workloads.running == {}


@pytest.mark.parametrize("digest", ["", "ab" * 32])
def test_a_copy_that_was_not_asked_for_is_not_gone_on_from(kernel: Kernel, digest: str) -> None:
    ask(kernel, "ahead")
    ask(kernel, "take", tag="aa", ahead=digest)
    assert kernel.workloads.upon == [0]


def test_a_trial_leaves_nothing_and_may_be_asked_for_again(kernel: Kernel) -> None:
    first = ask(kernel, "try")
    assert first["needs"]["tasks"] == [[PID, PID]]
    assert ask(kernel, "try") == first
    assert kernel.workloads.running == {"counter": 41}
    assert {path.name for path in kernel.directory.rglob("*")} == {"work", "counter.lock"}


def test_a_trial_takes_nothing_away_of_what_was_copied_ahead(kernel: Kernel) -> None:
    copied = ask(kernel, "ahead")
    ask(kernel, "try")
    ask(kernel, "take", tag="aa", ahead=copied["manifest"])
    assert kernel.workloads.upon == [41]


def test_needs_that_mean_ill_are_not_looked_at(kernel: Kernel) -> None:
    data = request("admit", needs={"tasks": [[0, -1]]})
    said = json.loads(worker.answer(data, kernel.directory, kernel.workloads))
    assert said["error"]["what"] == "a request that cannot be read"
    assert kernel.workloads.told == []
