"""The agent's unit under systemd, in its sandbox, over vsock (the loopback of one kernel)."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from importlib import resources
from pathlib import Path

from orchestrator.rehearsal.machine import Guest
from tests.support import upgrades as up

Boot = Callable[..., AbstractContextManager[Guest]]

UNIT = "mkupgrade-agent.service"
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


def state(guest: Guest) -> str:
    return guest.run(["systemctl", "is-active", UNIT], check=False).stdout.strip()


def test_the_unit_takes_state_over_vsock_in_its_sandbox(boot: Boot) -> None:
    """Without a key it does not start; with one it is asked, takes a handover, and writes where
    state belongs."""
    text = (resources.files("orchestrator") / "agent" / UNIT).read_text(encoding="utf-8")
    with boot(systemd=True) as guest:
        guest.put(f"/etc/systemd/system/{UNIT}", text)
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
        guest.run(["systemctl", "stop", UNIT])
        assert state(guest) == "inactive", "stopping it is no failure"
