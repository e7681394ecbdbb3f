"""The timer that applies what is offered: off by default, and a service that may jump."""

from __future__ import annotations

import configparser
import shutil
import subprocess
from importlib import resources
from pathlib import Path

import pytest

from orchestrator.offers.window import Window

SERVICE, TIMER = "mkupgrade-offer.service", "mkupgrade-offer.timer"


def text(name: str) -> str:
    return (resources.files("orchestrator") / "offers" / name).read_text(encoding="utf-8")


def parsed(name: str) -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(text(name))
    return parser


def test_nothing_but_the_timer_starts_the_service() -> None:
    assert not parsed(SERVICE).has_section("Install")
    assert parsed(TIMER)["Install"]["WantedBy"] == "timers.target"


def test_a_missed_window_is_not_made_up_for() -> None:
    assert parsed(TIMER)["Timer"]["Persistent"] == "no"


def test_the_window_of_the_service_holds_every_start_of_the_timer() -> None:
    name, _, value = parsed(SERVICE)["Service"]["Environment"].partition("=")
    window = Window.parse(value)
    assert name == "MKUPGRADE_WINDOW"
    assert parsed(TIMER)["Timer"]["OnCalendar"] == f"*-*-* {window.start:%H:%M}:00"
    assert parsed(TIMER)["Timer"]["RandomizedDelaySec"] == "1h"
    assert window.holds(window.start.replace(hour=window.start.hour + 1))


def test_what_it_restores_gets_no_sandbox_and_outlives_it() -> None:
    sandbox = ("CapabilityBoundingSet", "NoNewPrivileges", "Protect", "Private", "Restrict",
               "SystemCall", "MemoryMax", "TasksMax", "Limit", "LockPersonality")  # fmt: skip
    assert not [key for key in parsed(SERVICE)["Service"] if key.startswith(sandbox)]
    assert parsed(SERVICE)["Service"]["KillMode"] == "process"


def test_without_a_permit_or_an_offer_it_does_not_even_start() -> None:
    unit = parsed(SERVICE)["Unit"]
    assert unit["ConditionPathExists"] == "/etc/mkupgrade/host.permit"
    assert unit["ConditionDirectoryNotEmpty"] == "/var/lib/mkupgrade/offers"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_takes_both(tmp_path: Path) -> None:
    for name in (SERVICE, TIMER):
        fitted = text(name).replace("ExecStart=mkupgrade", "ExecStart=/bin/true")
        (tmp_path / name).write_text(fitted, encoding="utf-8")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *map(str, sorted(tmp_path.iterdir()))],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
