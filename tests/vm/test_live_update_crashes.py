"""SIGKILL of the engine before the jump: at every event on the way there, at some of the way back,
and in the middle of a checkpoint."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from orchestrator.model.errors import JournalError
from orchestrator.rehearsal.client import Client
from orchestrator.rehearsal.kernels import KernelPair
from orchestrator.rehearsal.machine import Guest
from tests.support import upgrades as up

Boot = Callable[..., AbstractContextManager[Guest]]
CRASH = Path(__file__).parent / "guest/crash.py"
HOOK_LOG = "/var/lib/hook.log"


def hook() -> dict[str, Any]:
    """Writes down each time it is run and undone."""
    run, undo = (["sh", "-c", f"echo {word} >> {HOOK_LOG}"] for word in ("run", "undo"))
    return {"name": "note", "run": run, "undo": undo}


@pytest.mark.timeout(1200)
def test_a_killed_engine_is_resumed_all_the_way_or_reverted_and_never_both(
    boot: Boot, kernels: KernelPair
) -> None:
    check = {"name": "up", "kind": "tcp", "port": 7777, "when": ["before"]}
    plan = up.document(
        kernels.target.release,
        [up.workload("counter")],
        checks=[check],
        hooks={"before": [hook()]},
    )
    with boot(workloads=(up.COUNTER,)) as guest:
        up.put_plan(guest, plan)
        guest.run(["mkupgrade", "plan", up.PLAN, "-o", "/root/plan.json"])
        guest.put("/root/crash.py", CRASH.read_bytes())
        argv = [up.PYTHON, "/root/crash.py", "/root/plan.json", "every", "0.4"]
        done = guest.run(argv, timeout=1100.0)
        *killed, unharmed, in_flight = [json.loads(line) for line in done.stdout.splitlines()]
        ahead = [case for case in killed if not case["back"]]
        assert len(ahead) >= 9, "the beginning, and one for each step before the jump"
        assert len(killed) >= len(ahead) + 2
        assert not unharmed["died"]
        for case in (*killed, in_flight):
            assert case["died"], case
            _assert_reverted(case)
        _assert_reverted(unharmed)
        for case in ahead:
            assert "jump/host" in case["attempts"], "a resume goes on, it does not give up"
        words = guest.text(HOOK_LOG).split()
        assert words == ["run", "undo"] * (len(words) // 2)
        up.assert_goes_on(guest, "counter")
        up.assert_gapless(guest, "counter", least=20)
        _die_for_real_and_go_on(guest, kernels)


@pytest.mark.timeout(1200)
def test_what_dies_in_the_new_kernel_costs_neither_memory_nor_truth(
    boot: Boot, kernels: KernelPair
) -> None:
    """Nothing is spilled. First the resume dies between retrieval and durable copy: the next one
    has the state from memory all the same. Then, with the workloads running on in the new
    kernel, the machine is reset: in the old one the counter comes back from the copy, without the
    connection whose client is ahead of it; the sleeper, whose log has grown since, which CRIU
    refuses, is started anew, and its pid file, which it does not write, is written for it."""
    old, new = kernels.source.release, kernels.target.release
    counter = up.started("counter", "7777", "/dev/null")
    with (
        boot(workloads=(counter, up.SLEEPER), forwards=(7777,), files=up.dying("again")) as guest,
        Client(guest.forwarded(7777)) as client,
    ):
        workloads = [up.workload(name, spill=False) for name in ("counter", "sleeper")]
        plan = up.document(new, workloads, soak={"duration": "30m", "interval": "1s"})
        assert up.apply(guest, plan).release == new
        assert client.wait_release(new, 240.0), guest.text(up.RESUME_LOG)
        left = json.loads(guest.text(up.DIED))
        assert (left["code"], left["payloads"]) == (-signal.SIGKILL, [])
        assert ["keeper_program.py" in holder for holder in left["holders"]] == [True]
        assert client.seen().whole, client.seen()
        report = _report_in_soak(guest)
        names = ("counter", "sleeper")
        assert {up.result_of(report, f"restore/{n}")["from"] for n in names} == {"memory"}
        assert guest.run(["pgrep", "-f", "keeper_program.py"], check=False).stdout == ""
        up.assert_goes_on(guest, "sleeper")

        assert guest.reset().release == old
        report = up.outcome(guest)
        assert report["outcome"] == "rolled-back"
        told = up.result_of(report, "recover.restore/counter")["text"]
        assert told.startswith("counter restored from spilled state of ")
        assert told.endswith("; it had run on since, so that its 1 connection was closed")
        told = up.result_of(report, "recover.restore/sleeper")["text"]
        assert told.startswith("sleeper started anew: its state could not be restored: ")
        up.assert_goes_on(guest, "sleeper")
        with Client(guest.forwarded(7777)) as another:
            assert another.wait_messages(3, 30.0)
        planned = guest.run(["mkupgrade", "plan", up.PLAN])
        assert "does not run now" not in planned.output
        up.assert_whole(guest)


def _report_in_soak(guest: Guest) -> dict[str, Any]:
    """The report once both workloads are restored; the transaction goes on."""
    states: dict[str, str] = {}
    for _ in range(200):
        try:
            report = up.report(guest)
        except JournalError:
            continue  # written to while it was copied
        states = {s["id"]: s["state"] for s in report["steps"]}
        if states["soak/host"] == "intended":
            return report
        time.sleep(0.5)
    raise AssertionError(states)


def _die_for_real_and_go_on(guest: Guest, kernels: KernelPair) -> None:
    """With the workload stopped and the session lost with its process: the resume preserves the
    state again and jumps, and the new kernel goes on."""
    argv = [up.PYTHON, "/root/crash.py", "/root/plan.json", "once", "performed preserve/host"]
    assert guest.run(argv).code == 0
    assert guest.text("/sys/kernel/kexec_loaded").strip() == "1"
    _, hello = guest.run_through(["mkupgrade", "resume"])
    assert hello.release == kernels.target.release
    report = up.outcome(guest)
    assert report["outcome"] == "committed"
    assert up.result_of(report, "restore/counter")["from"] == "memory"
    up.assert_goes_on(guest, "counter")
    up.assert_gapless(guest, "counter")


def _assert_reverted(case: dict[str, Any]) -> None:
    assert case["resumed"] == 0, case
    assert case["outcome"] == "rolled-back", case
    assert case["kexec_loaded"] == "0", case
    assert case["left"] == [], case
