"""The main job on real kernels: there, back after a failure, and what becomes of state that is
lost, or that nobody knows."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from orchestrator.rehearsal.client import Client
from orchestrator.rehearsal.kernels import KernelPair
from orchestrator.rehearsal.machine import Guest
from tests.support import upgrades as up
from tests.support.verbs import PORT, verbs

DAMAGE = Path(__file__).parent / "guest/damage.py"
STRANGER = Path(__file__).parent / "guest/stranger.py"
NAMES = ("counter", "sleeper", "tree")
PROGRAMS = (up.COUNTER, up.SLEEPER, up.TREE)
WORKLOADS = [up.workload(name) for name in NAMES]
Boot = Callable[..., AbstractContextManager[Guest]]


def test_workloads_live_on_in_the_new_kernel_by_kho(boot: Boot, kernels: KernelPair) -> None:
    """Committed, nothing lost, told by the verbs that look back, and a second apply has nothing
    to do. Home by KHO, behind a check that fails, goes a plan of test_rehearse.py."""
    old, new = kernels.source.release, kernels.target.release
    with (
        boot(workloads=PROGRAMS, forwards=(7777, PORT), cpus=2) as guest,
        Client(guest.forwarded(7777)) as client,
    ):
        plan = up.document(new, WORKLOADS, checks=[up.kernel_check(new)])
        assert up.apply(guest, plan).release == new
        _assert_committed(up.outcome(guest), "memory")
        _assert_unharmed(guest, client, [old, new])
        with verbs(guest) as mkupgrade:
            assert "No changes" in mkupgrade.run("apply", up.PLAN, "--yes").stdout
            assert "whole" in mkupgrade.run("history", "--verify").stdout
            assert json.loads(mkupgrade.run("report", "--json").stdout) == up.report(guest)
            assert "not proven by a cold boot" in mkupgrade.run("status").stdout


def test_workloads_live_through_two_kernels_and_a_failed_third_jump_by_the_disk(
    boot: Boot, kernels: KernelPair
) -> None:
    """There: committed, and nothing lost. Then a jump back behind which a check never answers and
    is ended by its deadline: the kernel from before returns, and still nothing is lost."""
    old, new = kernels.source.release, kernels.target.release
    with (
        boot(workloads=PROGRAMS, forwards=(7777,), handover=False) as guest,
        Client(guest.forwarded(7777)) as client,
    ):
        plan = up.document(new, WORKLOADS, checks=[up.kernel_check(new)])
        assert up.apply(guest, plan).release == new
        _assert_committed(up.outcome(guest), "disk")
        _assert_unharmed(guest, client, [old, new])

        plan = up.document(old, WORKLOADS, checks=[up.silent_check(old)])
        assert up.apply(guest, plan).release == old
        report = up.outcome(guest)
        assert (report["outcome"], guest.release()) == ("rolled-back", new), up.why(report)
        assert "did not end within 3.0 s and was killed" in up.why(report)
        _assert_unharmed(guest, client, [old, new])
        refused = guest.run(["mkupgrade", "apply", up.PLAN, "--yes"], check=False)
        assert (refused.code, "--again" in refused.stderr) == (1, True)


def test_state_that_is_nowhere_left_ends_in_a_fresh_start_that_is_told(
    boot: Boot, kernels: KernelPair
) -> None:
    """Nothing spilled, and the new kernel is dead, or of the state in memory one workload's is
    damaged and the other's is missing."""
    old, new = kernels.source.release, kernels.target.release
    programs = {"counter": up.COUNTER["argv"], "sleeper": up.SLEEPER["argv"]}
    with boot() as guest:
        for argv in programs.values():
            guest.spawn(argv)
        workloads = [
            up.workload(name, spill=False, find={"cmdline": " ".join(argv[1:])})
            for name, argv in programs.items()
        ]
        plan = up.document(new, workloads, {"append": ["init=/none-such"]})
        assert up.apply(guest, plan).release == old
        _assert_started_anew(guest, programs)

        up.put_plan(guest, up.document(new, workloads))
        guest.put("/root/damage.py", DAMAGE.read_bytes())
        guest.run(["rm", "-f", up.ENDED])
        damage = [up.PYTHON, "/root/damage.py", up.PLAN, "counter", "sleeper"]
        _, hello = guest.run_through(damage)
        assert hello.release == new
        told = json.dumps(_assert_started_anew(guest, programs))
        assert guest.release() == old
        assert "no complete state has arrived for counter, sleeper" in told
        for why in ("digest", "token"):
            assert why in told


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


def _assert_committed(report: dict[str, Any], source: str) -> None:
    assert report["outcome"] == "committed", up.why(report)
    assert {up.result_of(report, f"restore/{n}")["from"] for n in NAMES} == {source}


def _assert_started_anew(guest: Guest, names: Iterable[str]) -> dict[str, Any]:
    report = up.outcome(guest)
    assert report["outcome"] == "rolled-back"
    for name in names:
        told = up.result_of(report, f"recover.restore/{name}")["text"]
        assert told == f"{name} started anew: no state left"
        up.assert_goes_on(guest, name)
    return report


def _assert_unharmed(guest: Guest, client: Client, releases: list[str]) -> None:
    """Every workload counts on, the client outside has its one connection, new ones work."""
    assert client.wait_messages(5, 60.0)
    seen = client.seen()
    assert seen.whole, seen
    assert list(seen.releases) == releases
    for name in NAMES:
        up.assert_goes_on(guest, name)
        up.assert_gapless(guest, name)
    with Client(guest.forwarded(7777)) as another:
        assert another.wait_messages(3, 30.0)
