"""Two guests that run at once, in two kernels, with a wire between them: a workload moves from the
one to the other by the agent, and goes on where it was if the other refuses."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import pytest

from orchestrator.rehearsal.kernels import KernelPair
from orchestrator.rehearsal.machine import Guest
from tests.support import upgrades as up

pytestmark = pytest.mark.timeout(900)

Boot = Callable[..., AbstractContextManager[Guest]]

MOVER = Path(__file__).parent / "guest/mover.py"
TRANSACTION = "t-20260901-ab12cd"
KEY, OTHER_KEY = "/etc/mkupgrade/agent.key", "/etc/mkupgrade/other.key"
ADDRESS = "tcp:10.77.0.2:1022"
WORKLOADS = {
    "counter": up.started("counter", "7777", "/run/counter/log")["argv"],
    "tree": up.started("tree", "/run/tree/log", "/run/tree/socket")["argv"],
}
FIRST_PID = 26000
"""Of the workloads: a target that runs has processes of its own, and theirs must not be these."""


def workload(name: str) -> dict[str, Any]:
    migrate = {"method": "criu", "carry": [f"/run/{name}/log"]}
    found = {"cmdline": f"/{name}.py "}
    return {"name": name, "instance": "host", "find": found, "migrate": migrate}


@pytest.fixture(scope="module")
def guests(boot: Boot, kernels: KernelPair) -> Iterator[tuple[Guest, Guest]]:
    """The source with its workloads, and the target without; keys laid out, and a wire up."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]

    def wire(number: int, how: str) -> tuple[str, ...]:
        nic = f"virtio-net-pci,netdev=wire,mac=52:54:00:77:00:0{number}"
        return ("-netdev", f"socket,id=wire,{how}=127.0.0.1:{port}", "-device", nic)

    with ExitStack() as stack:
        source = stack.enter_context(boot(extra=wire(1, "listen"), memory_mib=768))
        target = stack.enter_context(
            boot(extra=wire(2, "connect"), kernel=kernels.target.image, memory_mib=768)
        )
        source.run(["sh", "-c", f"echo {FIRST_PID} >/proc/sys/kernel/ns_last_pid"])
        for argv in WORKLOADS.values():
            source.spawn(argv, "/dev/null")
        for name in (KEY, OTHER_KEY):
            source.run(["mkupgrade", "agent", "--new-key", TRANSACTION, "--key-file", name])
        target.put(KEY, source.get(KEY), 0o600)
        for number, guest in ((1, source), (2, target)):
            guest.run(["ip", "addr", "add", f"10.77.0.{number}/24", "dev", "eth1"])
            guest.run(["ip", "link", "set", "eth1", "up"])
            guest.put("/root/mover.py", MOVER.read_bytes())
            for name in ("counter", "tree"):
                guest.put(f"/root/{name}.json", json.dumps(workload(name)))
        listen(source, target)
        yield source, target


def listen(source: Guest, target: Guest) -> None:
    """Start the agent in the target, and wait until the source reaches it."""
    target.spawn(
        ["mkupgrade", "agent", "--listen", ADDRESS, "--key-file", KEY,
         "--receive", up.STATE_DIR, "--json"],
        "/var/log/agent.log",
    )  # fmt: skip
    source.wait_for(["mkupgrade", "agent", "--ask", ADDRESS, "--key-file", KEY])


def move(source: Guest, target: Guest, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """What both ends say."""
    send = ["python3", "/root/mover.py", "send", ADDRESS, KEY, f"/root/{name}.json"]
    sent = json.loads(source.run(send, timeout=300).stdout)
    take = ["python3", "/root/mover.py", "take", KEY, f"/root/{name}.json"]
    return sent, json.loads(target.run(take, timeout=300).stdout)


def numbers(guest: Guest, name: str) -> list[tuple[int, str]]:
    """(number, kernel) of each line that the workload wrote."""
    lines = [line.split() for line in guest.text(f"/run/{name}/log").splitlines()]
    return [(int(words[0]), words[-1]) for words in lines]


def grows(guest: Guest, name: str, beyond: int) -> None:
    """Wait until it has counted further."""
    script = f"test $(tail -n 1 /run/{name}/log | cut -d ' ' -f 1) -gt {beyond}"
    guest.wait_for(["sh", "-c", script])


def test_a_target_that_refuses_leaves_the_workload_running_in_the_source(
    guests: tuple[Guest, Guest],
) -> None:
    """Twice: by another key, and with no agent there any more."""
    source, target = guests
    for key, code in ((OTHER_KEY, "agent-key"), (KEY, "connection-lost")):
        if code == "connection-lost":
            target.run(["pkill", "-TERM", "-f", "mkupgrade agent"])
        before = numbers(source, "counter")[-1][0]
        send = ["python3", "/root/mover.py", "send", ADDRESS, key, "/root/counter.json"]
        said = json.loads(source.run(send, timeout=300).stdout)
        assert said["error"]["code"] == code
        assert said["pids"]
        grows(source, "counter", before + 5)
    counted = [number for number, _ in numbers(source, "counter")]
    assert counted == list(range(1, len(counted) + 1))
    assert not target.exists(f"{up.STATE_DIR}/handover")
    listen(source, target)


def test_workloads_move_from_a_running_kernel_to_another_that_runs(
    guests: tuple[Guest, Guest], kernels: KernelPair
) -> None:
    """Nothing is counted twice and nothing left out, across two releases; the source's kernel
    never stopped."""
    old, new = kernels.source.release, kernels.target.release
    source, target = guests
    asked = source.run(["mkupgrade", "agent", "--ask", ADDRESS, "--key-file", KEY, "--json"])
    assert json.loads(asked.stdout)["release"] == new
    for name in ("counter", "tree"):
        grows(source, name, 5)
        sent, taken = move(source, target, name)
        print(name, sent, taken)
        assert (sent["verdict"], taken["source"]) == ("present", old)
        assert taken["pids"] == sent["pids"]
        last = numbers(source, name)[-1][0]
        grows(target, name, last + 5)
        counted = numbers(target, name)
        assert [number for number, _ in counted] == list(range(1, len(counted) + 1))
        kinds = [kernel for _, kernel in counted]
        assert kinds == [old] * kinds.count(old) + [new] * kinds.count(new)
        assert kinds.count(old) == last, "what the source wrote last came along"
    assert source.release() == old
    assert source.run(["pgrep", "-f", "counter.py"], check=False).code == 1
