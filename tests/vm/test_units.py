"""Units under systemd: the agent's two, over vsock (the loopback of one kernel), and clean-up's
timer. All of them in one boot."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from importlib import resources
from pathlib import Path

import pytest

from orchestrator.rehearsal.machine import Guest
from orchestrator.system.clean_up_unit import SERVICE, TIMER
from tests.support import upgrades as up

Boot = Callable[..., AbstractContextManager[Guest]]

UNIT, WORK_UNIT = "mkupgrade-agent.service", "mkupgrade-agent-work.service"
MOVER = Path(__file__).parent / "guest/mover.py"
SENDER = Path(__file__).parents[1] / "agent/sender.py"
TRANSACTION = "t-20260901-ab12cd"
KEY = "/etc/mkupgrade/agent.key"
ADDRESS = "vsock:1:1022"
STRANGER = """
import os, socket
os.setuid(65534)
with socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM) as stranger:
    stranger.settimeout(20)
    stranger.connect((1, 1022))
    print(stranger.recv(100) == b"")
"""
COUNTER = {
    "name": "counter",
    "instance": "host",
    "find": {"cmdline": "/counter.py "},
    "migrate": {"method": "criu", "carry": ["/run/counter/log"]},
}

SET_UP = """
import shutil
from pathlib import Path
from orchestrator.system import clean_up_unit
clean_up_unit.set_up(Path("/srv/state"), [shutil.which("mkupgrade")])
"""
UNCONDITIONAL = "[Unit]\nConditionPathExists=\n"
"""An empty condition drops all of them (systemd.unit(5))."""


@pytest.fixture(scope="module")
def guest(boot: Boot) -> Iterator[Guest]:
    with boot(systemd=True) as booted:
        yield booted


def systemctl(guest: Guest, *arguments: str) -> str:
    return guest.run(["systemctl", *arguments], check=False).stdout.strip()


def state(guest: Guest, unit: str = UNIT) -> str:
    return systemctl(guest, "is-active", unit)


def unit(name: str) -> str:
    return (resources.files("orchestrator") / "agent" / name).read_text(encoding="utf-8")


def test_the_unit_takes_state_over_vsock_in_its_sandbox(guest: Guest) -> None:
    """Without a key it does not start; with one it is asked, takes a handover, and writes where
    state belongs."""
    for name in (UNIT, WORK_UNIT):
        guest.put(f"/etc/systemd/system/{name}", unit(name))
    guest.put("/root/sender.py", SENDER.read_bytes())
    guest.run(["systemctl", "daemon-reload"])
    guest.run(["systemctl", "start", UNIT])
    assert state(guest) == "inactive"
    guest.run(["mkupgrade", "agent", "--new-key", TRANSACTION, "--key-file", KEY])
    guest.run(["systemctl", "start", UNIT])
    assert state(guest) == "active"

    ask = ["mkupgrade", "agent", "--ask", ADDRESS, "--key-file", KEY, "--json"]
    said = json.loads(guest.run(ask).stdout)
    assert (said["release"], said["ready"]) == (guest.release(), True)

    guest.run(["sh", "-c", "mkdir /root/state; head -c 3000000 /dev/urandom >/root/state/a"])
    sent = guest.run(["python3", "/root/sender.py", ADDRESS, KEY, "/root/state", "--ahead"])
    told = json.loads(sent.stdout)
    assert told["verdict"] == "present"
    place = f"{up.STATE_DIR}/handover/{TRANSACTION}/forward"
    modes = guest.run(["stat", "-c", "%a %n", place, f"{place}/payload-000001"]).stdout.split()
    assert modes[::2] == ["700", "600"]

    assert guest.run(["python3", "-c", STRANGER]).stdout.strip() == "True"
    restores_what_runs_on(guest)
    assert state(guest) == "inactive", "that it was stopped for the other is no failure"


def restores_what_runs_on(guest: Guest) -> None:
    """By CRIU, in the unit that works: what it restored counts on when the unit is restarted."""

    def numbers() -> list[int]:
        return [int(line.split()[0]) for line in guest.text("/run/counter/log").splitlines()]

    def grows() -> None:
        script = f"test $(tail -n 1 /run/counter/log | cut -d ' ' -f 1) -gt {numbers()[-1] + 5}"
        guest.wait_for(["sh", "-c", script])

    guest.spawn(up.started("counter", "7777", "/run/counter/log")["argv"], "/dev/null")
    guest.wait_for(["test", "-s", "/run/counter/log"])
    guest.put("/root/mover.py", MOVER.read_bytes())
    guest.put("/root/counter.json", json.dumps(COUNTER))
    guest.run(["systemctl", "start", WORK_UNIT])
    assert (state(guest), state(guest, WORK_UNIT)) == ("inactive", "active")
    ends = [ADDRESS, KEY, ADDRESS, KEY]
    done = guest.run(
        ["python3", "/root/mover.py", "stay", *ends, "/root/counter.json"], timeout=300
    )
    assert "runs again in source, from the state that it kept" in json.loads(done.stdout)["text"]
    grows()
    guest.run(["systemctl", "restart", WORK_UNIT])
    grows()
    counted = numbers()
    assert counted == list(range(1, len(counted) + 1))


def test_the_timer_runs_clean_up_where_it_has_something_to_do(guest: Guest) -> None:
    guest.run(["python3", "-c", SET_UP])
    assert systemctl(guest, "is-enabled", TIMER) == "enabled"
    assert systemctl(guest, "is-active", TIMER) == "active"

    guest.run(["systemctl", "start", SERVICE])
    assert systemctl(guest, "show", "--property=ConditionResult", "--value", SERVICE) == "no"

    guest.put(f"/etc/systemd/system/{SERVICE}.d/always.conf", UNCONDITIONAL)
    guest.run(["systemctl", "daemon-reload"])
    guest.run(["systemctl", "start", SERVICE])
    result = systemctl(guest, "show", "--property=Result,ExecMainStatus", SERVICE)
    assert result.split() == ["Result=success", "ExecMainStatus=0"]
    said = guest.run(["journalctl", "--unit", SERVICE, "--output=cat"]).stdout
    assert "Nothing is kept past its time." in said
