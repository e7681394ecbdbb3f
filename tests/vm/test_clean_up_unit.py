"""The timer of clean-up under systemd: started at once, and quiet where no kernel has instances."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from orchestrator.rehearsal.machine import Guest
from orchestrator.system.clean_up_unit import SERVICE, TIMER

Boot = Callable[..., AbstractContextManager[Guest]]

SET_UP = """
import shutil
from pathlib import Path
from orchestrator.system import clean_up_unit
clean_up_unit.set_up(Path("/srv/state"), [shutil.which("mkupgrade")])
"""
UNCONDITIONAL = "[Unit]\nConditionPathExists=\n"
"""An empty condition drops all of them (systemd.unit(5))."""


def say(guest: Guest, *arguments: str) -> str:
    return guest.run(["systemctl", *arguments], check=False).stdout.strip()


def test_the_timer_runs_clean_up_where_it_has_something_to_do(boot: Boot) -> None:
    with boot(systemd=True) as guest:
        guest.run(["python3", "-c", SET_UP])
        assert say(guest, "is-enabled", TIMER) == "enabled"
        assert say(guest, "is-active", TIMER) == "active"

        guest.run(["systemctl", "start", SERVICE])
        assert say(guest, "show", "--property=ConditionResult", "--value", SERVICE) == "no"

        guest.put(f"/etc/systemd/system/{SERVICE}.d/always.conf", UNCONDITIONAL)
        guest.run(["systemctl", "daemon-reload"])
        guest.run(["systemctl", "start", SERVICE])
        result = say(guest, "show", "--property=Result,ExecMainStatus", SERVICE)
        assert result.split() == ["Result=success", "ExecMainStatus=0"]
        said = guest.run(["journalctl", "--unit", SERVICE, "--output=cat"]).stdout
        assert "Nothing is kept past its time." in said
