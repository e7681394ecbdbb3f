"""`host permit` and `host forbid`, on a machine made of files: the real /etc is never touched."""

from __future__ import annotations

import json
import os
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from orchestrator.system import clean_up_unit, guard, resume_unit, systemd, units
from orchestrator.system.guard import GuardPaths, objections

MACHINE = "0123456789abcdef0123456789abcdef"
NAMESPACES = {"cgroup": 4026531835, "pid": 4026531836, "user": 4026531837}


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GuardPaths:
    """A machine that is not permitted yet; the verbs see no other."""
    paths = GuardPaths(
        permit=tmp_path / "etc/mkupgrade/host.permit",
        machine_id=tmp_path / "etc/machine-id",
        proc=tmp_path / "proc",
        container_marks=(tmp_path / "container",),
        owner=os.geteuid(),
    )
    (tmp_path / "etc").mkdir(mode=0o755)
    paths.machine_id.write_text(f"{MACHINE}\n", encoding="ascii")
    for process in ("1", "self"):
        names = paths.proc / process / "ns"
        names.mkdir(parents=True)
        for name in ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts"):
            (names / name).symlink_to(f"{name}:[{NAMESPACES.get(name, 4026531000)}]")
    (paths.proc / "1/environ").write_bytes(b"HOME=/\0")
    monkeypatch.setattr(systemd, "is_running", lambda: False)
    monkeypatch.setattr(guard, "REAL", paths)
    monkeypatch.setattr(guard, "permit_host", partial(guard.permit_host, paths))
    monkeypatch.setattr(guard, "forbid_host", partial(guard.forbid_host, paths))
    return paths


def test_permit_allows_this_machine_and_forbid_takes_it_back(run: Any, machine: GuardPaths) -> None:
    assert objections(machine)
    permitted = run("host", "permit")
    assert permitted.exit_code == 0
    assert f"permitted: mkupgrade may change the kernel of this machine ({machine.permit})" in (
        permitted.stdout
    )
    assert objections(machine) == []
    forbidden = run("host", "forbid")
    assert (forbidden.exit_code, forbidden.stdout) == (0, "forbidden: the permit was removed\n")
    assert objections(machine)
    assert run("host", "forbid").stdout == "forbidden: there was no permit\n"


def test_both_speak_json(run: Any, machine: GuardPaths) -> None:
    permit = str(machine.permit)
    said = [json.loads(run("host", verb, "--json").stdout) for verb in ("permit", "forbid")]
    assert said == [
        {
            "permitted": True,
            "permit": permit,
            "resumes_at_boot": False,
            "unit": None,
            "cleans_up": False,
        },
        {"permitted": False, "permit": permit, "removed": True},
    ]


def test_permit_has_systemd_go_on_after_a_restart(
    run: Any, machine: GuardPaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def set_up(state_dir: Path, program: list[str]) -> Path:
        calls.append((state_dir, program))
        return tmp_path / resume_unit.NAME

    monkeypatch.setattr(systemd, "is_running", lambda: True)
    monkeypatch.setattr(resume_unit, "set_up", set_up)
    said = run("host", "permit", "--state-dir", "/srv/state")
    assert f"{resume_unit.NAME} goes on after a restart ({tmp_path}" in said.stdout
    ((state_dir, program),) = calls
    assert state_dir == Path("/srv/state")
    assert Path(program[0]).is_absolute()


def test_permit_has_a_timer_give_back_what_is_kept_where_the_kernel_has_instances(
    run: Any, machine: GuardPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    monkeypatch.setattr(systemd, "is_running", lambda: True)
    monkeypatch.setattr(resume_unit, "set_up", lambda *_: None)
    monkeypatch.setattr(clean_up_unit, "wanted", lambda: True)
    monkeypatch.setattr(clean_up_unit, "set_up", lambda state, _: calls.append(state))
    said = run("host", "permit", "--state-dir", "/srv/state")
    assert f"{clean_up_unit.TIMER} gives back what is kept past its time" in said.stdout
    assert calls == [Path("/srv/state")]


@pytest.fixture
def other_unit(machine: GuardPaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A unit is installed that looks after /var/lib/mkupgrade; where units would be written."""
    found = {"LoadState": "loaded", "UnitFileState": "enabled",
             "RequiresMountsFor": "/var/lib/mkupgrade"}  # fmt: skip
    directory = tmp_path / "etc/systemd/system"
    monkeypatch.setattr(systemd, "is_running", lambda: True)
    monkeypatch.setattr(
        systemd, "properties", lambda _, *names: {n: found.get(n, "") for n in names}
    )
    monkeypatch.setattr(clean_up_unit, "wanted", lambda: False)
    monkeypatch.setattr(units, "DIRECTORY", directory)
    monkeypatch.setattr(units, "NIXOS", tmp_path / "etc/NIXOS")
    return directory


def test_on_nixos_another_state_directory_is_refused_and_nothing_permitted(
    run: Any, machine: GuardPaths, other_unit: Path, tmp_path: Path
) -> None:
    store = tmp_path / "store/system-units"
    store.mkdir(parents=True)
    other_unit.parent.mkdir()
    other_unit.symlink_to(store)
    units.NIXOS.touch()
    refused = run("host", "permit", "--state-dir", "/srv/state")
    assert refused.exit_code == 1
    for word in (f"{other_unit} ({store})", "on NixOS units come from the system's configuration",
                 "nothing was changed", "look after /var/lib/mkupgrade",
                 "next:  mkupgrade host permit\n"):  # fmt: skip
        assert word in refused.stderr, refused.stderr
    assert not machine.permit.exists()
    assert not [*store.iterdir()]
    assert run("host", "permit").exit_code == 0
    assert objections(machine) == []
    # And what was permitted stays so.
    assert run("host", "permit", "--state-dir", "/srv/state").exit_code == 1
    assert objections(machine) == []


def test_where_units_cannot_be_written_nothing_is_permitted(
    run: Any, machine: GuardPaths, other_unit: Path
) -> None:
    refused = run("host", "permit", "--state-dir", "/srv/state")
    assert refused.exit_code == 1
    assert f"{resume_unit.NAME} cannot be written for this state directory" in refused.stderr
    assert f"next:  findmnt --target {other_unit}" in refused.stderr
    assert not machine.permit.exists()


def test_without_systemd_permit_says_what_is_left_to_do(run: Any, machine: GuardPaths) -> None:
    assert "`mkupgrade resume --boot` at boot" in run("host", "permit").stdout


def test_a_container_is_not_permitted(run: Any, machine: GuardPaths) -> None:
    machine.container_marks[0].touch()
    refused = run("host", "permit")
    assert refused.exit_code == 1
    assert "inside a container" in refused.stderr
    assert "nothing was changed" in refused.stderr
    assert not machine.permit.exists()


def test_who_is_not_root_is_told_so(
    run: Any, machine: GuardPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: machine.owner + 1)
    refused = run("host", "permit")
    assert refused.exit_code == 1
    assert "next:  sudo mkupgrade host permit" in refused.stderr
    assert not machine.permit.exists()
