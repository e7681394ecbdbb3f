"""A unit lets its processes vanish, and takes the restored ones back."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.model.errors import WorkloadError
from orchestrator.workloads import cgroups, units

Program = Callable[[str, str], Path]
DROP_IN = Path("systemd/system/app.service.d/zz-mkupgrade.conf")

SYSTEMCTL = """
import os, pathlib, sys
said = pathlib.Path(os.environ["SYSTEMCTL_SAID"])
drop_in = pathlib.Path(os.environ["DROP_IN"])
kind = "none"
if drop_in.exists():
    kind = "adopt" if "Type=forking" in drop_in.read_text() else "hold"
with said.open("a") as file:
    file.write(" ".join(sys.argv[2:]) + f" [{kind}]\\n")
sys.exit(1 if sys.argv[2] == os.environ.get("SYSTEMCTL_FAILS") else 0)
"""


@pytest.fixture
def run_dir(program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    run = tmp_path / "run"
    run.mkdir(mode=0o755)
    monkeypatch.setenv("SYSTEMCTL_SAID", str(tmp_path / "said"))
    monkeypatch.setenv("DROP_IN", str(run / DROP_IN))
    program("systemctl", SYSTEMCTL)
    return run


def said(run_dir: Path) -> list[str]:
    return (run_dir.parent / "said").read_text().splitlines()


def test_a_held_unit_neither_restarts_nor_cleans_up(run_dir: Path) -> None:
    units.hold("app.service", 5, run_dir)
    text = (run_dir / DROP_IN).read_text()
    for line in ("Restart=no", "ExecStopPost=", "RuntimeDirectoryPreserve=yes"):
        assert line in text.splitlines()
    units.release("app.service", 5, run_dir)
    units.release("app.service", 5, run_dir)
    assert not (run_dir / DROP_IN).exists()
    assert said(run_dir) == ["daemon-reload [hold]", "daemon-reload [none]"]


def test_restored_processes_become_those_of_the_unit(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    joined: list[tuple[str, list[int]]] = []

    def join(cgroup: str, pids: list[int]) -> None:
        joined.append((cgroup, pids))

    monkeypatch.setattr(cgroups, "join", join)
    text = units.adopt("app.service", "/system.slice/app.service", [77, 78], 5, run_dir)
    assert text == "processes adopted by unit app.service"
    assert joined == [("/system.slice/app.service", [77, 78])]
    assert (run_dir / "mkupgrade/app.service.pid").read_text() == "77\n"
    assert said(run_dir) == [
        "daemon-reload [adopt]",
        "reset-failed -- app.service [adopt]",
        "start --job-mode=ignore-dependencies -- app.service [adopt]",
        "daemon-reload [none]",
    ]


def test_a_unit_that_refuses_leaves_the_workload_running_and_is_told(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cgroups, "join", lambda cgroup, pids: None)
    monkeypatch.setenv("SYSTEMCTL_FAILS", "start")
    text = units.adopt("app.service", None, [77], 5, run_dir)
    assert text.startswith("unit app.service does not know its processes")
    assert not (run_dir / DROP_IN).exists()


def test_only_services_under_systemd_are_looked_after(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.system.systemd.is_running", lambda: True)
    assert units.applies("app.service")
    assert not units.applies("app.scope")
    assert not units.applies(None)
    monkeypatch.setattr("orchestrator.system.systemd.is_running", lambda: False)
    assert not units.applies("app.service")


def test_a_cgroup_is_made_and_joined(tmp_path: Path) -> None:
    (tmp_path / "cgroup.procs").touch()
    # On a plain directory the file has to be there first; a cgroup brings its own.
    (tmp_path / "app.slice/app.service").mkdir(parents=True)
    assert cgroups.join("/app.slice/app.service", [12], tmp_path) is None
    assert (tmp_path / "app.slice/app.service/cgroup.procs").read_text() == "12"


def test_a_cgroup_that_cannot_be_joined_is_told_not_raised(tmp_path: Path) -> None:
    assert cgroups.join("/x", [os.getpid()], tmp_path) == "no unified cgroup hierarchy is mounted"
    (tmp_path / "cgroup.procs").touch()
    (tmp_path / "x").write_text("a file in its way")
    assert "cgroup /x" in str(cgroups.join("/x", [1], tmp_path))


def test_a_cgroup_does_not_lead_out_of_the_hierarchy(tmp_path: Path) -> None:
    with pytest.raises(WorkloadError, match="not a cgroup"):
        cgroups.join("/../../etc", [1], tmp_path)
