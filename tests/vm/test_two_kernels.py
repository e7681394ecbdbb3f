"""Two guests that run at once, in two kernels, with a wire between them: a workload is carried from
the one to the other and back by the agents in both, as a step of the multikernel driver does it,
and goes on where it was if the other refuses."""

from __future__ import annotations

import itertools
import json
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import pytest

from orchestrator.agent.keys import new_key
from orchestrator.rehearsal.kernels import KernelPair
from orchestrator.rehearsal.machine import Guest
from tests.support import upgrades as up

pytestmark = pytest.mark.timeout(900)

Boot = Callable[..., AbstractContextManager[Guest]]

MOVER = Path(__file__).parent / "guest/mover.py"
TRANSACTION = "t-20260901-ab12cd"
KEY = "/etc/mkupgrade/agent.key"
"""The source's own; each kernel has one."""
TARGET_KEY = "/etc/mkupgrade/target.key"
SOURCE, TARGET = "tcp:10.77.0.1:1022", "tcp:10.77.0.2:1022"
COUNTER = up.started("counter", "7777", "/run/counter/log")["argv"]
LOG = "/var/log/agent.log"
FIRST_PID = 26000
"""Of the workload: a target that runs has processes of its own, and theirs must not be these."""


WORKLOAD = {
    "name": "counter",
    "instance": "host",
    "find": {"cmdline": "/counter.py "},
    "migrate": {"method": "criu", "carry": ["/run/counter/log"]},
}


@pytest.fixture(scope="module")
def guests(boot: Boot, kernels: KernelPair) -> Iterator[tuple[Guest, Guest]]:
    """The source with its workload, and the target without; keys laid out, and a wire up."""
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
        source.spawn(COUNTER, "/dev/null")
        theirs = new_key(TRANSACTION).text()
        source.put(KEY, new_key("t-earlier").text(), 0o600)
        source.put(TARGET_KEY, theirs, 0o600)
        target.put(KEY, theirs, 0o600)
        for number, guest in ((1, source), (2, target)):
            guest.run(["ip", "addr", "add", f"10.77.0.{number}/24", "dev", "eth1"])
            guest.run(["ip", "link", "set", "eth1", "up"])
        source.put("/root/mover.py", MOVER.read_bytes())
        source.put("/root/counter.json", json.dumps(WORKLOAD))
        listen(source, SOURCE)
        listen(target, TARGET)
        yield source, target


def listen(guest: Guest, address: str) -> None:
    """Start the agent of a guest, and wait until it listens."""
    guest.run(["rm", "-f", LOG])
    guest.spawn(
        ["mkupgrade", "agent", "--listen", address, "--key-file", KEY,
         "--receive", up.STATE_DIR, "--work", "--json"],
        LOG,
    )  # fmt: skip
    guest.wait_for(["grep", "-qs", "listening", LOG])


def move(source: Guest, verb: str, workload: str = "/root/counter.json") -> dict[str, Any]:
    """What the host says, which is in the source."""
    ends = [SOURCE, KEY, TARGET, TARGET_KEY]
    done = source.run(["python3", "/root/mover.py", verb, *ends, workload], timeout=300)
    said: dict[str, Any] = json.loads(done.stdout)
    print(verb, said)
    return said


def numbers(guest: Guest) -> list[tuple[int, str]]:
    """(number, kernel) of each line that the workload wrote."""
    lines = [line.split() for line in guest.text("/run/counter/log").splitlines()]
    return [(int(words[0]), words[-1]) for words in lines]


def grows(guest: Guest, beyond: int) -> None:
    """Wait until it has counted further."""
    script = f"test $(tail -n 1 /run/counter/log | cut -d ' ' -f 1) -gt {beyond}"
    guest.wait_for(["sh", "-c", script])


def test_a_target_that_refuses_leaves_the_workload_running_in_the_source(
    guests: tuple[Guest, Guest],
) -> None:
    """Twice: by its restore, since somebody has the counter's process id there, and with no agent
    there any more."""
    source, target = guests
    pid = int(source.run(["pgrep", "-f", "/counter.py "]).stdout.split()[0])
    target.run(["sh", "-c", f"echo {pid - 1} >/proc/sys/kernel/ns_last_pid; sleep 900 &"])
    assert target.text(f"/proc/{pid}/comm").strip() == "sleep"
    tried = move(source, "try")["error"]
    taken = f"process ids of it are taken here: {pid} by sleep"
    assert tried["what"] == f"counter cannot be restored in target: {taken}"
    for code in ("workload", "connection-lost"):
        if code == "connection-lost":
            target.run(["pkill", "-TERM", "-f", "mkupgrade agent"])
            target.run(["kill", str(pid)])
        before = numbers(source)[-1][0]
        said = move(source, "carry")
        assert said["error"]["code"] == code
        assert (said["found"], said["verdict"]) == (
            "partial" if code == "workload" else "absent", "absent"
        )  # fmt: skip
        grows(source, before + 5)
    counted = [number for number, _ in numbers(source)]
    assert counted == list(range(1, len(counted) + 1))
    assert not target.exists(f"{up.STATE_DIR}/handover")
    listen(target, TARGET)


def test_what_criu_refuses_is_told_by_a_trial_and_the_workload_runs_on(
    guests: tuple[Guest, Guest],
) -> None:
    """It holds a lock on a file, and the spec does not say that locks go along."""
    source, _ = guests
    code = "import fcntl, time; f = open('/root/lock', 'w'); fcntl.flock(f, 2); time.sleep(9999)"
    source.spawn(["python3", "-c", code, "holds-a-lock"], "/dev/null")
    source.wait_for(["grep", "-q", "FLOCK", "/proc/locks"])
    locker = {**WORKLOAD, "name": "locker", "find": {"cmdline": "holds-a-lock"},
              "migrate": {"method": "criu"}}  # fmt: skip
    source.put("/root/locker.json", json.dumps(locker))
    error = move(source, "try", "/root/locker.json")["error"]
    assert "locker cannot be taken out of source: a trial dump of process" in error["what"]
    assert "set migrate.file_locks: true" in error["what"]
    assert any("lock" in line.lower() for line in error["details"])
    source.run(["pkill", "-f", "fcntl.flock"])  # it ran on


def test_a_trial_of_what_can_be_carried_finds_nothing_and_leaves_nothing(
    guests: tuple[Guest, Guest],
) -> None:
    source, target = guests
    pid = int(source.run(["pgrep", "-f", "/counter.py "]).stdout.split()[0])
    last = numbers(source)[-1][0]
    said = move(source, "try")
    assert "error" not in said
    assert any(first <= pid <= end for first, end in said["needs"]["tasks"])
    assert said["needs"]["size"] > 1 << 20
    grows(source, last + 5)
    for guest in (source, target):
        assert not guest.exists(f"{up.STATE_DIR}/work/{TRANSACTION}")


def test_a_workload_is_carried_from_a_running_kernel_to_another_that_runs_and_back(
    guests: tuple[Guest, Guest], kernels: KernelPair
) -> None:
    """Nothing is counted twice and nothing left out, across two releases; the source's kernel
    never stopped."""
    old, new = kernels.source.release, kernels.target.release
    source, target = guests
    grows(source, 5)
    said = move(source, "carry")
    assert said["verdict"] == "present"
    assert 4 * said["bytes"] < said["bytes_ahead"], "memory that it had not written to since"
    last = numbers(source)[-1][0]
    grows(target, last + 5)
    counted = held_to(numbers(target), [old, new])
    assert counted.count(old) == last, "what the source wrote last came along"
    assert source.run(["pgrep", "-f", "counter.py "], check=False).code == 1
    assert move(source, "back")["verdict"] == "absent"
    last = numbers(target)[-1][0]
    grows(source, last + 5)
    held_to(numbers(source), [old, new, old])
    assert target.run(["pgrep", "-f", "counter.py "], check=False).code == 1
    assert source.release() == old


def held_to(counted: list[tuple[int, str]], kernels: list[str]) -> list[str]:
    """The kernel of each number: none is missing, none comes twice, and the kernels are these, one
    after the other."""
    assert [number for number, _ in counted] == list(range(1, len(counted) + 1))
    kinds = [kernel for _, kernel in counted]
    assert [kind for kind, _ in itertools.groupby(kinds)] == kernels
    return kinds
