"""The agent's units under systemd, over vsock (the loopback of one kernel): the one in its sandbox,
and the one that works."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from importlib import resources
from pathlib import Path

from orchestrator.rehearsal.machine import Guest
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


def state(guest: Guest, unit: str = UNIT) -> str:
    return guest.run(["systemctl", "is-active", unit], check=False).stdout.strip()


def unit(name: str) -> str:
    return (resources.files("orchestrator") / "agent" / name).read_text(encoding="utf-8")


def test_the_unit_takes_state_over_vsock_in_its_sandbox(boot: Boot) -> None:
    """Without a key it does not start; with one it is asked, takes a handover, and writes where
    state belongs."""
    with boot(systemd=True) as guest:
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
