"""The timer that has old generations given back: written, enabled and started, on a systemd made of
answers."""

from __future__ import annotations

import configparser
from pathlib import Path

import pytest

from orchestrator.system import clean_up_unit, systemd, units

STATE = Path("/var/lib/mkupgrade")
SCRIPT = ["/usr/bin/mkupgrade"]


class Systemd:
    """Answers as systemctl gives them."""

    def __init__(self) -> None:
        self.load, self.mounts = "not-found", ""
        self.calls: list[str] = []

    def properties(self, unit: str, *names: str) -> dict[str, str]:
        assert unit == clean_up_unit.SERVICE
        return {"LoadState": self.load, "RequiresMountsFor": self.mounts}

    def reload(self) -> None:
        self.calls.append("reload")

    def enable(self, unit: str) -> None:
        self.calls.append(f"enable {unit}")

    def start(self, unit: str, timeout: float) -> None:
        self.calls.append(f"start {unit}")


@pytest.fixture
def pretend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Systemd:
    made = Systemd()
    monkeypatch.setattr(units, "DIRECTORY", tmp_path)
    monkeypatch.setattr(systemd, "is_running", lambda: True)
    for name in ("properties", "reload", "enable", "start"):
        monkeypatch.setattr(systemd, name, getattr(made, name))
    return made


TIMER = ["enable mkupgrade-clean-up.timer", "start mkupgrade-clean-up.timer"]


def test_what_is_missing_is_written_enabled_and_started(pretend: Systemd, tmp_path: Path) -> None:
    written = clean_up_unit.set_up(STATE, SCRIPT)
    assert written == [tmp_path / clean_up_unit.SERVICE, tmp_path / clean_up_unit.TIMER]
    assert "\nExecStart=/usr/bin/mkupgrade clean-up\n" in written[0].read_text()
    assert pretend.calls == ["reload", *TIMER]


def test_units_of_the_distribution_are_only_enabled_and_started(
    pretend: Systemd, tmp_path: Path
) -> None:
    pretend.load, pretend.mounts = "loaded", str(STATE)
    assert clean_up_unit.set_up(STATE, SCRIPT) == []
    assert (list(tmp_path.iterdir()), pretend.calls) == ([], TIMER)


def test_another_state_directory_is_looked_after_everywhere(pretend: Systemd) -> None:
    pretend.load, pretend.mounts = "loaded", str(STATE)
    service, timer = clean_up_unit.set_up(Path("/srv/state"), SCRIPT)
    text = service.read_text()
    assert "\nExecStart=/usr/bin/mkupgrade clean-up --state-dir /srv/state\n" in text
    assert "/var/lib/mkupgrade" not in text
    assert timer.read_text() == units.shipped("multikernel", clean_up_unit.TIMER)


def test_the_timer_comes_back_behind_every_boot_and_catches_up() -> None:
    parsed = configparser.ConfigParser()
    parsed.optionxform = str  # type: ignore[assignment, method-assign]
    parsed.read_string(units.shipped("multikernel", clean_up_unit.TIMER))
    assert parsed["Timer"]["OnCalendar"] == "hourly"
    assert parsed["Timer"]["Persistent"] == "yes"
    assert parsed["Install"]["WantedBy"] == "timers.target"


def test_it_is_wanted_where_the_kernel_can_have_instances_only(
    pretend: Systemd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clean_up_unit, "ROOT", tmp_path / "multikernel")
    assert not clean_up_unit.wanted()
    (tmp_path / "multikernel").mkdir()
    assert clean_up_unit.wanted()
    monkeypatch.setattr(systemd, "is_running", lambda: False)
    assert not clean_up_unit.wanted()
