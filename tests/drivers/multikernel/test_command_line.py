"""The example plans by the command line itself: against the double as files and system calls, in a
namespace of its own, whose time goes by itself."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.drivers.multikernel import scene
from tests.drivers.multikernel.examples import document, written
from tests.drivers.multikernel.served_host import Host
from tests.support.multikernel.served import state
from tests.support.multikernel.served.session import cannot_be_served
from tests.support.multikernel.settings import Spawn

_LACK = cannot_be_served()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(_LACK is not None, reason=str(_LACK)),
]

NAMES = ("web", "api", "batch")
NEW = {f"{name}-g2": "active" for name in NAMES}
DONE, ROLLED_BACK, STALE = 0, 3, 5


@pytest.fixture
def host(module_host: Host) -> Host:
    module_host.begin()
    return module_host


def rolling(host: Host, **rest: Any) -> dict[str, Any]:
    """One by canary, the others rolling."""
    return document("multikernel-rolling", host.directory, **rest)


def test_a_surge_is_planned_carried_out_and_has_nothing_left_to_do(host: Host) -> None:
    host.begin(scene.only_web)
    plan = written(document("multikernel-surge", host.directory, checks=[]), host.directory)
    planned = host.mkupgrade("plan", plan)
    assert planned.code == 0, planned.err
    assert "web-g2" in planned.out
    assert "3 instances to change, 1 workload to move, " in planned.out
    done = host.mkupgrade("apply", plan, "--yes")
    assert done.code == DONE, done.out + done.err
    assert "Committed: 3 new generations (Linux 7.1.0-mk3) in " in done.out
    assert host.states() == {
        "web": "loaded", "web-g2": "active", "db-g1": "active", "batch-g1": "active",
    }  # fmt: skip
    log = (host.directory / "log").read_text().splitlines()
    assert log == ["stop shop web", "start shop web-g2"]
    again = host.mkupgrade("apply", plan, "--yes")
    assert "No changes" in again.out


def test_status_draws_whose_the_cpus_are(host: Host) -> None:
    def drawn() -> list[str]:
        lines = host.status().splitlines()
        first = next(n for n, line in enumerate(lines) if line.startswith("Pool"))
        return [line.strip() for line in lines[first : first + 5]]

    assert drawn() == [
        "Pool     8 CPUs, 4.0 GiB; free: 3 CPUs, 2.1 GiB",
        "AABCC···",
        "A web    active  CPUs 8, 10, 1.0 GiB",
        "B api    active  CPU 12, 256.0 MiB",
        "C batch  active  CPUs 14, 16, 512.0 MiB",
    ]
    told = json.loads(host.status("--json"))["side_by_side"]
    assert told["pool"]["free_cpus"] == [18, 20, 22]
    assert {it["name"] for it in told["instances"]} == set(NAMES)
    assert host.apply(rolling(host)).code == DONE
    assert drawn()[1] == "AABCC···"
    assert drawn()[2].startswith("A web-g2")


def test_three_instances_are_upgraded_by_canary_and_rolling(host: Host) -> None:
    done = host.apply(rolling(host))
    assert done.code == DONE, done.out + done.err
    assert host.states() == NEW
    assert host.outcome()["outcome"] == "committed"


def surge(host: Host, kept: str) -> dict[str, Any]:
    """Of web alone, whose old generation is kept for a time."""
    plan = document("multikernel-surge", host.directory, checks=[])
    plan["instances"] = [it | {"after": []} for it in plan["instances"] if it["name"] == "web"]
    return plan | {"rollback": {"boot_deadline": "60s", "keep_old_kernel": kept}}


def test_a_committed_surge_is_rolled_back_while_the_old_generation_is_kept(host: Host) -> None:
    before = host.picture()
    assert host.apply(surge(host, "1h")).code == DONE
    assert "CPUs 8, 10, 1.0 GiB; kept for mkupgrade rollback until " in host.status()
    done = host.mkupgrade("rollback", "--yes", "--state-dir", host.directory / "state")
    assert done.code == DONE, done.out + done.err
    assert host.picture() == before
    log = (host.directory / "log").read_text().splitlines()
    assert log[2:] == ["stop shop web-g2", "start shop web"]
    assert host.outcome()["outcome"] == "rolled-back"


def test_what_is_kept_past_its_time_is_given_back_and_is_no_way_back(host: Host) -> None:
    assert host.apply(surge(host, "10ms")).code == DONE
    assert "web     loaded  CPUs 8, 10, 1.0 GiB; kept past its time" in host.status()
    state = ("--state-dir", host.directory / "state")
    given = host.mkupgrade("clean-up", *state)
    assert (given.code, given.out) == (0, "Removed: web.\n"), given.err
    assert host.states() == {"web-g2": "active", "api": "active", "batch": "active"}
    assert host.mkupgrade("clean-up", *state).out == "Nothing is kept past its time.\n"
    refused = host.mkupgrade("rollback", "--yes", *state)
    assert refused.code == 1
    assert "there is no way back: web is gone" in refused.err
    assert host.outcome()["outcome"] == "committed"


def test_the_next_apply_gives_back_before_it_plans(host: Host) -> None:
    assert host.apply(surge(host, "10ms")).code == DONE
    kernel = {"image": str(host.directory / "vmlinux"), "release": scene.RELEASE}
    big = {"name": "big", "kernel": kernel, "resources": {"cpus": 3, "memory": "1GiB"}}
    done = host.apply(surge(host, "10ms") | {"instances": [big], "workloads": [], "hooks": {}})
    assert done.code == DONE, done.out + done.err
    assert host.states()["big-g1"] == "active"
    assert "web" not in host.states()


def sized(host: Host, web: tuple[int, str], batch: tuple[int, str]) -> dict[str, Any]:
    """A plan for two instances of these sizes, with the kernel that they run."""
    kernel = {"image": str(host.directory / "vmlinux"), "release": scene.RELEASE}
    instances = [
        {"name": name, "kernel": kernel, "resources": {"cpus": cpus, "memory": memory}}
        for name, (cpus, memory) in {"web": web, "batch": batch}.items()
    ]
    strategy = {"kind": "surge"}
    return rolling(host, instances=instances, strategy=strategy, workloads=[], checks=[])


def test_other_sizes_are_given_and_taken_as_instances_run(host: Host) -> None:
    host.begin(scene.three_up_to_date)
    plan = sized(host, (4, "1536MiB"), (1, "512MiB"))
    planned = host.mkupgrade("plan", written(plan, host.directory))
    assert "Plan: 2 instances to resize, 5 steps; " in planned.out, planned.out + planned.err
    done = host.apply(plan)
    assert done.code == DONE, done.out + done.err
    assert "Committed: 2 new sizes in " in done.out
    assert host.states() == dict.fromkeys(NAMES, "active")
    lines = host.status().splitlines()
    assert any("A web    active  CPUs 8, 10, 18, 20, 1.5 GiB" in line for line in lines), lines
    assert "No changes" in host.apply(plan).out


def test_the_pool_grows_for_a_large_instance_and_shrinks_again(host: Host) -> None:
    kernel = {"image": str(host.directory / "vmlinux"), "release": scene.RELEASE}
    big = {"name": "big", "kernel": kernel, "resources": {"cpus": 5, "memory": "2GiB"}}
    plan = surge(host, "0s") | {"instances": [big], "workloads": [], "hooks": {}}
    before = host.picture()
    plan["host"] |= {"pool": {"cpus": 10, "memory": "6GiB"}}
    planned = host.mkupgrade("plan", written(plan, host.directory))
    assert "pool: 8 CPUs -> 10 CPUs, 4.0 GiB -> 6.0 GiB" in planned.out, planned.err
    assert "Plan: 1 instance to change, the pool to resize, " in planned.out
    done = host.apply(plan)
    assert done.code == DONE, done.out + done.err
    assert "Committed: 1 new generation (Linux 7.1.0-mk3) and a new pool in " in done.out
    assert "Pool     10 CPUs, 6.0 GiB; free: 0 CPUs" in host.status()
    check = {"name": "no", "kind": "command", "run": ["false"], "within": "0s"}
    host.begin()
    failed = host.apply(plan | {"checks": [check]})
    assert failed.code == ROLLED_BACK, failed.out + failed.err
    assert host.picture() == before


def never_gets_ready(host: Host) -> None:
    host.double.ask(state.behave, "api-g2", Spawn(boots_in=10_000, ready_in=None))


def loses_a_cpu(host: Host) -> None:
    host.double.ask(scene.drops_once, 12)


def fails_in_the_overlay(host: Host) -> None:
    host.double.ask(state.fail_overlay, 12)


@pytest.mark.parametrize("fault", [never_gets_ready, loses_a_cpu, fails_in_the_overlay])
def test_a_fault_leaves_every_instance_as_it_was_and_is_told(
    host: Host, fault: Callable[[Host], None]
) -> None:
    before = host.picture()
    fault(host)
    rollback = {"boot_deadline": "2s", "kernel": {"image": str(host.directory / "old")}}
    done = host.apply(rolling(host, rollback=rollback))
    assert done.code == ROLLED_BACK, done.out + done.err
    assert host.picture() == before
    report = host.outcome()
    assert report["outcome"] == "rolled-back"
    assert report["reason"]


def test_an_instance_that_somebody_changed_since_makes_the_plan_stale(host: Host) -> None:
    plan, saved = written(rolling(host), host.directory), host.directory / "plan.json"
    assert host.mkupgrade("plan", plan, "-o", saved).code == 0
    host.double.ask(scene.gets_a_cpu, "api", 18)
    before = host.picture()
    done = host.mkupgrade("apply", saved, "--yes")
    assert done.code == STALE, done.out + done.err
    assert host.picture() == before


def test_killed_at_any_moment_it_is_resumed_to_an_end(host: Host) -> None:
    began = time.monotonic()
    assert host.apply(rolling(host)).code == DONE
    whole = time.monotonic() - began
    unfinished = 0
    for part in (0.3, 0.45, 0.6, 0.75, 0.9):
        host.begin()
        before = host.picture()
        host.apply(rolling(host), killed_after=part * whole)
        resumed = host.mkupgrade("resume", "--state-dir", host.directory / "state")
        unfinished += resumed.code in (DONE, ROLLED_BACK)
        assert host.states() == NEW or host.picture() == before, resumed.out + resumed.err
    assert unfinished
