"""SIGKILL of the engine before the jump: at every event, and in the middle of a checkpoint."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

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
        assert len(killed) >= 16
        assert not unharmed["died"]
        for case in (*killed, in_flight):
            assert case["died"], case
            _assert_reverted(case)
        _assert_reverted(unharmed)
        for case in killed[:9]:  # the beginning, and one for each step before the jump
            assert "jump/host" in case["attempts"], "a resume goes on, it does not give up"
        words = guest.text(HOOK_LOG).split()
        assert words == ["run", "undo"] * (len(words) // 2)
        up.assert_goes_on(guest, "counter")
        up.assert_gapless(guest, "counter", least=20)
        _die_for_real_and_go_on(guest, kernels)
        _die_with_state_in_hand_and_go_on(guest, kernels)


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


def _die_with_state_in_hand_and_go_on(guest: Guest, kernels: KernelPair) -> None:
    """Nothing is spilled, and behind the jump the resume dies between retrieval and durable copy:
    the next one, by hand, has the state from memory all the same."""
    up.install_dying(guest)
    target = kernels.source.release
    plan = up.document(target, [up.workload("counter", spill=False)])
    assert up.apply(guest, plan).release == target
    guest.wait_for(["test", "-e", up.ENDED], timeout=120.0)
    assert guest.text(up.ENDED).strip() == str(128 + signal.SIGKILL)
    assert not guest.exists(up.DIES_ONCE)
    assert guest.run(["find", "/var/lib/mkupgrade", "-name", "payload-*"]).stdout == ""
    assert len(_keepers(guest)) == 1
    guest.run(["mkupgrade", "resume"], timeout=120.0)
    report = up.report(guest)
    assert report["outcome"] == "committed"
    assert up.result_of(report, "restore/counter")["from"] == "memory"
    assert _keepers(guest) == []
    up.assert_goes_on(guest, "counter")
    up.assert_gapless(guest, "counter")


def _keepers(guest: Guest) -> list[str]:
    listed = guest.run(["pgrep", "-f", "keeper_program.py"], check=False)
    return listed.stdout.split()


def _assert_reverted(case: dict[str, Any]) -> None:
    assert case["resumed"] == 0, case
    assert case["outcome"] == "rolled-back", case
    assert case["kexec_loaded"] == "0", case
    assert case["left"] == [], case
