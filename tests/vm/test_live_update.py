"""The main job on real kernels: there, back after a failure, and home from a dead kernel."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from orchestrator.rehearsal.client import Client
from orchestrator.rehearsal.kernels import KernelPair
from orchestrator.rehearsal.machine import Guest
from tests.support import upgrades as up

DAMAGE = Path(__file__).parent / "guest/damage.py"
STRANGER = Path(__file__).parent / "guest/stranger.py"
Boot = Callable[..., AbstractContextManager[Guest]]


@pytest.mark.parametrize("channel", ["kho", "disk"])
def test_workloads_live_through_two_kernels_and_a_failed_third_jump(
    boot: Boot, kernels: KernelPair, channel: str
) -> None:
    """There: committed, nothing lost, and a second apply has nothing to do. Then a jump back
    whose check fails behind it, or never answers and is ended by its deadline: the kernel from
    before returns, and still nothing is lost."""
    old, new = kernels.source.release, kernels.target.release
    check, told = {
        "kho": (up.kernel_check("none-such"), "none-such"),
        "disk": (up.silent_check(old), "did not end within 3.0 s and was killed"),
    }[channel]
    programs = (up.COUNTER, up.SLEEPER, up.TREE)
    names = ("counter", "sleeper", "tree")
    workloads = [up.workload(name) for name in names]
    with (
        boot(workloads=programs, forwards=(7777,), handover=channel == "kho") as guest,
        Client(guest.forwarded(7777)) as client,
    ):
        plan = up.document(new, workloads, checks=[up.kernel_check(new)])
        assert up.apply(guest, plan).release == new
        report = up.outcome(guest)
        assert report["outcome"] == "committed"
        expected = "memory" if channel == "kho" else "disk"
        assert {up.result_of(report, f"restore/{n}")["from"] for n in names} == {expected}
        _assert_unharmed(guest, client, names, [old, new])
        again = guest.run(["mkupgrade", "apply", up.PLAN, "--yes"])
        assert "No changes" in again.stdout
        if channel == "kho":
            _assert_it_is_told(guest)

        plan = up.document(old, workloads, checks=[check])
        assert up.apply(guest, plan).release == old
        report = up.outcome(guest)
        assert (report["outcome"], guest.release()) == ("rolled-back", new), json.dumps(report)
        assert told in json.dumps(report)
        _assert_unharmed(guest, client, names, [old, new])
        refused = guest.run(["mkupgrade", "apply", up.PLAN, "--yes"], check=False)
        assert (refused.code, "--again" in refused.stderr) == (1, True)


def test_a_dead_new_kernel_ends_in_the_old_one_with_the_spilled_state(
    boot: Boot, kernels: KernelPair
) -> None:
    """It cannot mount its root and panics: the reset ends in the default entry, where the
    workload goes on from what was spilled before the jump, its connections included."""
    old, new = kernels.source.release, kernels.target.release
    with (
        boot(workloads=(up.COUNTER,), forwards=(7777,)) as guest,
        Client(guest.forwarded(7777)) as client,
    ):
        edits = {"remove": ["root=/dev/vda"], "append": ["root=/dev/none-such"]}
        plan = up.document(new, [up.workload("counter")], edits)
        assert up.apply(guest, plan).release == old
        report = up.outcome(guest)
        assert report["outcome"] == "rolled-back"
        told = up.result_of(report, "recover.restore/counter")["text"]
        assert told.startswith("counter restored from spilled state of ")
        assert "panic" in guest.serial()
        _assert_unharmed(guest, client, ("counter",), [old])


def test_state_that_is_nowhere_left_ends_in_a_fresh_start_that_is_told(
    boot: Boot, kernels: KernelPair
) -> None:
    """Nothing spilled, and the new kernel is dead, or the state in memory is damaged or missing."""
    old, new = kernels.source.release, kernels.target.release
    with boot() as guest:
        guest.spawn(up.COUNTER["argv"])
        counter = [up.workload("counter", spill=False, find={"cmdline": "counter.py 7777"})]
        plan = up.document(new, counter, {"append": ["init=/none-such"]})
        assert up.apply(guest, plan).release == old
        _assert_started_anew(guest, "no state left")

        up.put_plan(guest, up.document(new, counter))
        guest.put("/root/damage.py", DAMAGE.read_bytes())
        for how, why in (("damaged", "digest"), ("missing", "token 1")):
            guest.run(["rm", "-f", up.ENDED])
            _, hello = guest.run_through([up.PYTHON, "/root/damage.py", how, up.PLAN])
            assert hello.release == new
            report = _assert_started_anew(guest, "no state left")
            assert guest.release() == old
            assert "no complete state has arrived for counter" in json.dumps(report)
            assert why in json.dumps(report)


def test_state_of_a_transaction_that_nobody_knows_is_told_and_left_alone(
    boot: Boot, kernels: KernelPair
) -> None:
    """The resume at boot says what waits in memory and touches nothing of it: it is
    still there."""
    image = f"/boot/vmlinuz-{kernels.target.release}"
    with boot() as guest:
        guest.put("/root/stranger.py", STRANGER.read_bytes())
        guest.run(["mkdir", "-m", "700", "/var/lib/mkupgrade"])
        _, hello = guest.run_through([up.PYTHON, "/root/stranger.py", "leave", image])
        assert hello.release == kernels.target.release
        guest.wait_for_path(up.ENDED, timeout=120.0)
        told = " ".join(guest.text(up.RESUME_LOG).split())
        assert "this kernel was entered by transaction 20260101-000000-gone" in told
        assert "State of its workloads may be waiting in session" in told
        said = guest.run(["mkupgrade", "status"], check=False).output
        assert "20260101-000000-gone" in said
        taken = guest.run([up.PYTHON, "/root/stranger.py", "take"])
        assert taken.stdout == "state of a workload\n"


def _assert_started_anew(guest: Guest, why: str) -> dict[str, Any]:
    report = up.outcome(guest)
    assert report["outcome"] == "rolled-back"
    told = up.result_of(report, "recover.restore/counter")["text"]
    assert told == f"counter started anew: {why}"
    up.assert_goes_on(guest, "counter")
    return report


def _assert_unharmed(
    guest: Guest, client: Client, names: tuple[str, ...], releases: list[str]
) -> None:
    """Every workload counts on, the client outside has its one connection, new ones work."""
    assert client.wait_messages(5, 60.0)
    seen = client.seen()
    assert seen.whole, seen
    assert list(seen.releases) == releases
    for name in names:
        up.assert_goes_on(guest, name)
        up.assert_gapless(guest, name)
    with Client(guest.forwarded(7777)) as another:
        assert another.wait_messages(3, 30.0)


def _assert_it_is_told(guest: Guest) -> None:
    """By the verbs that look back, in the guest itself."""
    verified = guest.run(["mkupgrade", "history", "--verify"])
    assert "whole" in verified.stdout
    told = guest.run(["mkupgrade", "report", "--json"])
    assert json.loads(told.stdout) == up.report(guest)
    status = guest.run(["mkupgrade", "status"])
    assert "not proven by a cold boot" in status.stdout
