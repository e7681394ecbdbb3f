"""The unit that goes on at boot: found missing, written, enabled, on a systemd made of answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.model.errors import MkupgradeError
from orchestrator.system import resume_unit, systemd, units

STATE = Path("/var/lib/mkupgrade")
SCRIPT = ["/usr/local/bin/mkupgrade"]


class Systemd:
    """Answers as systemctl gives them."""

    def __init__(self) -> None:
        self.load, self.enabled, self.mounts = "not-found", "", ""
        self.calls: list[str] = []

    def properties(self, unit: str, *names: str) -> dict[str, str]:
        assert unit == resume_unit.NAME
        found = {
            "LoadState": self.load,
            "UnitFileState": self.enabled,
            "RequiresMountsFor": self.mounts,
        }
        return {name: found[name] for name in names}

    def reload(self) -> None:
        self.calls.append("reload")

    def enable(self, unit: str) -> None:
        self.calls.append(f"enable {unit}")


@pytest.fixture
def pretend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Systemd:
    made = Systemd()
    monkeypatch.setattr(units, "DIRECTORY", tmp_path)
    monkeypatch.setattr(systemd, "is_running", lambda: True)
    for name in ("properties", "reload", "enable"):
        monkeypatch.setattr(systemd, name, getattr(made, name))
    return made


@pytest.mark.parametrize(
    ("load", "enabled", "mounts", "why"),
    [
        ("not-found", "", "", "is not installed"),
        ("masked", "masked", "", "is not installed"),
        ("loaded", "disabled", "/var/lib/mkupgrade /run", "is not enabled"),
        ("loaded", "enabled", "/srv/state /run", "looks after another state directory"),
        ("loaded", "enabled", "/var/lib/mkupgrade /run", None),
    ],
)
def test_only_an_enabled_unit_for_this_state_directory_will_do(
    pretend: Systemd, load: str, enabled: str, mounts: str, why: str | None
) -> None:
    pretend.load, pretend.enabled, pretend.mounts = load, enabled, mounts
    found = resume_unit.problem(STATE)
    assert found == why if why is None else why in str(found)


def test_another_init_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(systemd, "is_running", lambda: False)
    assert resume_unit.problem(STATE) is None
    assert resume_unit.set_up(STATE, SCRIPT) is None


def test_what_is_missing_is_written_and_enabled(pretend: Systemd, tmp_path: Path) -> None:
    path = resume_unit.set_up(STATE, SCRIPT)
    assert path == tmp_path / resume_unit.NAME
    assert path.stat().st_mode & 0o777 == 0o644
    assert "\nExecStart=/usr/local/bin/mkupgrade resume --boot\n" in path.read_text()
    assert pretend.calls == ["reload", f"enable {resume_unit.NAME}"]


def test_a_unit_of_the_distribution_is_only_enabled(pretend: Systemd, tmp_path: Path) -> None:
    pretend.load, pretend.enabled, pretend.mounts = "loaded", "disabled", f"{STATE} /run"
    assert resume_unit.set_up(STATE, SCRIPT) is None
    assert list(tmp_path.iterdir()) == []
    assert pretend.calls == [f"enable {resume_unit.NAME}"]


def test_a_unit_that_is_right_is_not_touched(pretend: Systemd, tmp_path: Path) -> None:
    pretend.load, pretend.enabled, pretend.mounts = "loaded", "enabled", f"{STATE} /run"
    assert resume_unit.set_up(STATE, SCRIPT) is None
    assert (list(tmp_path.iterdir()), pretend.calls) == ([], [])


def test_another_state_directory_is_looked_after_everywhere_in_the_unit() -> None:
    text = resume_unit.unit_text(Path("/srv/state"), ["/opt/venv/bin/python", "-m", "x"])
    assert "\nExecStart=/opt/venv/bin/python -m x resume --boot --state-dir /srv/state\n" in text
    assert "\nRequiresMountsFor=/srv/state /run\n" in text
    assert "\nConditionPathExists=/srv/state/journal.db\n" in text
    assert "/var/lib/mkupgrade" not in text


def test_for_the_defaults_it_is_the_shipped_unit() -> None:
    made = resume_unit.unit_text(STATE, ["/usr/bin/mkupgrade"])
    assert made == resume_unit.shipped().replace("=mkupgrade", "=/usr/bin/mkupgrade")


@pytest.mark.parametrize("path", ["/srv/a b", "/srv/%n", '/srv/"x"', "/srv/a\nExecStart=/bin/x"])
def test_a_path_that_means_something_else_in_a_unit_is_refused(path: str) -> None:
    with pytest.raises(MkupgradeError, match="special characters"):
        resume_unit.unit_text(Path(path), SCRIPT)
    with pytest.raises(MkupgradeError, match="special characters"):
        resume_unit.unit_text(STATE, [path])
