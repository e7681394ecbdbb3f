"""The command line against the served double, where it listens to consoles and talks by vsock: to
`mkupgrade agent` in an instance, and by `kerf exec` as the examples do."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.drivers.multikernel import scene
from tests.drivers.multikernel.examples import ROOT, document
from tests.drivers.multikernel.served_host import Host
from tests.support.multikernel.served import state
from tests.support.multikernel.served.kerf import MAIN, installed
from tests.support.multikernel.served.session import cannot_be_served
from tests.support.multikernel.settings import AgentSays, Spawn

_LACK = cannot_be_served()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(_LACK is not None, reason=str(_LACK)),
]

DONE, ROLLED_BACK = 0, 3
PANIC = "Linux version 7.1.0-mk3\nVFS: Cannot open root device\nKernel panic - not syncing\n"


@pytest.fixture
def host(module_host: Host) -> Host:
    module_host.begin(scene.only_web)
    return module_host


def surge(host: Host, **instance: Any) -> dict[str, Any]:
    """Of web alone."""
    plan = document("multikernel-surge", host.directory, checks=[], workloads=[])
    (web,) = [it for it in plan["instances"] if it["name"] == "web"]
    plan["instances"] = [web | {"after": []} | instance]
    # Of ours, whose seconds a busy machine makes long.
    return plan | {"rollback": {"boot_deadline": "10s"}}


def logs(host: Host) -> dict[str, str]:
    return {path.name: path.read_text() for path in host.directory.glob("state/**/console.*.log")}


def awaited(host: Host) -> dict[str, Any]:
    steps = host.outcome()["steps"]
    found: dict[str, Any] = next(it for it in steps if it["id"] == "await-instance/web-g2")
    return found


def test_the_last_words_of_a_kernel_that_does_not_come_up_are_told(host: Host) -> None:
    before = host.picture()
    host.double.ask(state.behave, "web-g2", Spawn(boots_in=10_000, says=PANIC))
    done = host.apply(surge(host))
    assert done.code == ROLLED_BACK, done.out + done.err
    assert host.picture() == before
    assert awaited(host)["error"]["details"][-3:] == PANIC.splitlines()
    assert logs(host) == {"console.web-g2.log": PANIC}


@pytest.mark.parametrize("boots_in", [1, 10_000])
def test_a_lost_console_costs_the_log_and_changes_nothing_of_the_end(
    host: Host, boots_in: float
) -> None:
    """A kernel that comes up is committed to, one that does not is reverted, with its reason."""
    before = host.picture()
    spawn = Spawn(boots_in=boots_in, says=PANIC, console_lost=True)
    host.double.ask(state.behave, "web-g2", spawn)
    done = host.apply(surge(host))
    assert logs(host) == {}
    if boots_in == 1:
        assert done.code == DONE, done.out + done.err
        assert host.states() == {"web": "loaded", "web-g2": "active"}
    else:
        assert done.code == ROLLED_BACK, done.out + done.err
        assert host.picture() == before
        assert "has not answered" in host.outcome()["reason"]


def with_agent(host: Host, says: AgentSays) -> dict[str, Any]:
    (host.directory / "initrd").write_bytes(b"070701")
    host.double.ask(state.behave, "web-g2", Spawn(agent=says))
    kernel = {
        "image": str(host.directory / "vmlinux"),
        "release": scene.RELEASE,
        "initrd": str(host.directory / "initrd"),
    }
    return surge(host, kernel=kernel, agent={"port": says.port})


def test_an_upgrade_waits_for_the_agent_that_has_its_key(host: Host) -> None:
    """The agent is a real one, reached by vsock; its key came with the initrd."""
    done = host.apply(with_agent(host, AgentSays(scene.RELEASE, port=1021, ready_in=20)))
    assert done.code == DONE, done.out + done.err
    said = awaited(host)["result"]["agent"]
    assert (said["release"], said["boot_id"]) == (scene.RELEASE, "boot of web-g2")
    assert host.states() == {"web": "loaded", "web-g2": "active"}


@pytest.mark.parametrize(
    ("says", "why"),
    [
        (AgentSays("6.6.6"), "it runs Linux 6.6.6"),
        (AgentSays(scene.RELEASE, answers_in=10_000), "its agent does not: is its unit there?"),
        (AgentSays(scene.RELEASE, ready_in=10_000), "its agent is not ready"),
    ],
    ids=["another kernel", "no answer", "never ready"],
)
def test_an_agent_that_does_not_say_so_is_an_upgrade_that_did_not_happen(
    host: Host, says: AgentSays, why: str
) -> None:
    before = host.picture()
    done = host.apply(with_agent(host, says))
    assert done.code == ROLLED_BACK, done.out + done.err
    assert host.picture() == before
    assert why in host.outcome()["reason"]


def test_the_examples_own_commands_reach_into_the_instances(host: Host) -> None:
    """`kerf exec` of the real kerf, as `plans/multikernel-surge.yaml` has it: to see whether the
    new generation is ready, until its init answers, and to move the workload."""
    kerf = host.directory / "bin/kerf"
    kerf.parent.mkdir(exist_ok=True)
    (host.directory / "bin/main.py").write_text(MAIN)
    kerf.write_text(
        f'#!/bin/sh\nPYTHONPATH={installed()} exec python3 {host.directory}/bin/main.py "$@"\n'
    )
    kerf.chmod(0o755)
    plan = document("multikernel-surge", host.directory, checks=[])
    example = yaml.safe_load((ROOT / "plans/multikernel-surge.yaml").read_text(encoding="utf-8"))
    plan["workloads"] = example["workloads"]
    for instance, its in zip(plan["instances"], example["instances"], strict=True):
        instance["ready"] = its.get("ready", [])
    host.double.ask(state.behave, "web-g2", Spawn(ready_in=20))
    path = f"{kerf.parent}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = host.apply(plan, env={"PATH": path})
    assert done.code == DONE, done.out + done.err
    assert host.double.ask(state.commands) == [
        ("web-g2", ("systemctl", "is-system-running")),
        ("web", ("systemctl", "stop", "shop")),
        ("web-g2", ("systemctl", "start", "shop")),
    ]
