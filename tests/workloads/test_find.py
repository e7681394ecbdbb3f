"""From the spec's `find` to processes; a pid file is not believed without need."""

from __future__ import annotations

import os
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.model.errors import WorkloadError
from orchestrator.model.spec.workloads import Workload
from orchestrator.system import proc, systemd
from orchestrator.workloads import claims, find
from orchestrator.workloads.meta import CriuMeta

Start = Callable[..., int]
Make = Callable[..., Workload]
Until = Callable[[Callable[[], bool]], bool]

FORKS = "import os, time\nos.fork()\ntime.sleep(600)"


def pid_file(tmp_path: Path, content: str | bytes, mode: int = 0o644) -> Path:
    path = tmp_path / "app.pid"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    path.chmod(mode)
    return path


def test_a_tree_is_found_root_first_by_its_pid_file(
    start: Start, workload: Make, tmp_path: Path, until: Until
) -> None:
    pid = start(FORKS)
    path = pid_file(tmp_path, f"{pid}\n")
    assert until(lambda: len(proc.tree(pid)) == 2)
    state = find.state(workload({"pid_file": str(path)}))
    assert state.pids[0] == pid
    assert len(state.pids) == 2
    assert state.error is None
    assert state.memory_bytes > 1 << 20


def test_a_tree_is_found_by_its_arguments(start: Start, workload: Make, until: Until) -> None:
    mark = uuid.uuid4().hex
    pid = start(FORKS, mark)
    assert until(lambda: len(proc.tree(pid)) == 2)
    assert find.state(workload({"cmdline": mark})).pids[0] == pid


def test_two_unrelated_matches_are_an_error(start: Start, workload: Make, until: Until) -> None:
    mark = uuid.uuid4().hex
    pids = [start("import time\ntime.sleep(600)", mark) for _ in range(2)]
    assert until(lambda: all(mark in proc.arguments(p) for p in pids))
    error = find.state(workload({"cmdline": mark})).error
    assert error is not None
    assert "2 unrelated processes" in error


@pytest.mark.parametrize(
    "wanted", [{"cmdline": "no-such-program-anywhere-1f6e"}, {"pid_file": "/nope"}]
)
def test_not_running_is_told_from_other_errors(workload: Make, wanted: dict[str, str]) -> None:
    state = find.state(workload(wanted))
    assert state.pids == []
    assert state.error is not None
    assert state.error.startswith("not running")


def test_a_stale_pid_file_means_not_running(workload: Make, tmp_path: Path) -> None:
    path = pid_file(tmp_path, str(proc.pid_max() - 1))
    state = find.state(workload({"pid_file": str(path)}))
    assert state.error is not None
    assert state.error.startswith("not running")


def of_an_earlier_boot(path: Path) -> None:
    """As if it was last written a minute before this boot."""
    booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    os.utime(path, (booted - 60, booted - 60))


def test_a_pid_file_of_an_earlier_boot_names_nobody(
    start: Start, workload: Make, tmp_path: Path
) -> None:
    path = pid_file(tmp_path, str(start()))
    of_an_earlier_boot(path)
    error = find.state(workload({"pid_file": str(path)})).error
    assert error is not None
    assert error.startswith("not running")
    assert "the pid file is of an earlier boot, and process " in error


def test_a_process_that_is_younger_than_its_pid_file_is_refused(
    start: Start, workload: Make, tmp_path: Path
) -> None:
    """The pid was used again in this boot; or the clock was set, so that it is for a person."""
    path = pid_file(tmp_path, str(start()))
    os.utime(path, (time.time() - 60, time.time() - 60))
    state = find.state(workload({"pid_file": str(path)}))
    assert state.error is not None
    assert "was started 60 s after it was written" in state.error
    assert not state.error.startswith("not running")
    path.touch()
    assert find.state(workload({"pid_file": str(path)})).pids


def test_a_process_that_was_restored_in_this_boot_is_known_by_its_claim(
    start: Start, workload: Make, tmp_path: Path
) -> None:
    meta = {"pids": [4000], "tasks": [4000], "argv": [sys.executable, "-S", "-c", "import time"]}
    before = claims._now()
    pid = start("import time\ntime.sleep(600)")
    argv = [sys.executable, "-S", "-c", "import time\ntime.sleep(600)"]
    path = pid_file(tmp_path, str(pid))
    os.utime(path, (0, 0))
    app = workload({"pid_file": str(path)})
    for fields, found in (
        ({"pids": [pid], "argv": argv}, True),
        ({"pids": [pid], "argv": [*argv, "--other"]}, False),
        ({"pids": [pid], "argv": argv, "sessions": [pid]}, True),
        ({"pids": [pid], "argv": argv, "sessions": [pid + 1]}, False),
    ):
        claim = claims.write(CriuMeta.model_validate({**meta, **fields}))
        claims._write(claim.model_copy(update={"since": before}))
        assert bool(find.state(app).pids) is found, fields


@pytest.mark.parametrize("content", ["", "\0\0\0\0", "12 34"])
def test_a_pid_file_that_a_power_cut_has_emptied_names_nobody(
    workload: Make, tmp_path: Path, content: str
) -> None:
    path = pid_file(tmp_path, content)
    of_an_earlier_boot(path)
    error = find.state(workload({"pid_file": str(path)})).error
    assert error is not None
    assert error.startswith("not running")
    assert "is of an earlier boot and holds no process id" in error


@pytest.mark.parametrize("why", ["another boot", "younger than the process", "no JSON"])
def test_a_claim_that_does_not_hold_proves_nothing(
    start: Start, workload: Make, tmp_path: Path, why: str
) -> None:
    argv = [sys.executable, "-S", "-c", "import time\ntime.sleep(600)"]
    pid = start("import time\ntime.sleep(600)")
    path = pid_file(tmp_path, str(pid))
    os.utime(path, (0, 0))
    claim = claims.write(CriuMeta(pids=[pid], tasks=[pid], argv=argv))
    since = {"since": 0} if why != "younger than the process" else {"since": claim.since + 1000}
    boot = {"boot_id": "another"} if why == "another boot" else {}
    claims._write(claim.model_copy(update={**since, **boot}))
    if why == "no JSON":
        (claims.DIRECTORY / f"{pid}.json").write_text("{")
    state = find.state(workload({"pid_file": str(path)}))
    assert state.pids == []


@pytest.mark.parametrize(
    ("content", "mode", "why"),
    [
        ("", 0o644, "does not hold a process id"),
        ("1", 0o644, "does not hold a process id"),
        ("0", 0o644, "does not hold a process id"),
        ("-5", 0o644, "does not hold a process id"),
        ("12 34", 0o644, "does not hold a process id"),
        (b"\xff\xfe", 0o644, "does not hold a process id"),
        ("9" * 100, 0o644, "does not hold a process id"),
        ("SELF", 0o666, "everybody may write it"),
    ],
)
def test_a_pid_file_that_cannot_be_trusted_is_refused(
    content: str | bytes, mode: int, why: str, tmp_path: Path
) -> None:
    path = pid_file(tmp_path, str(os.getpid()) if content == "SELF" else content, mode)
    with pytest.raises(WorkloadError, match=why):
        find.read_pid_file(path)


def test_a_pid_file_that_is_a_link_is_refused(tmp_path: Path) -> None:
    pid_file(tmp_path, str(os.getpid()))
    (tmp_path / "link").symlink_to(tmp_path / "app.pid")
    with pytest.raises(WorkloadError, match="cannot be used"):
        find.read_pid_file(tmp_path / "link")


def test_a_pid_file_of_another_user_names_its_own_processes_only(tmp_path: Path) -> None:
    path = pid_file(tmp_path, str(os.getpid()))
    try:
        os.chown(path, 12345, 12345)
    except OSError:  # EINVAL where this namespace has no such user: builds of Nix
        pytest.skip("only root can give a file away")
    with pytest.raises(WorkloadError, match="user 12345 wrote it"):
        find.read_pid_file(path)


def test_a_cgroup_with_two_roots_is_an_error(
    start: Start, workload: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    pids = [start(), start()]
    monkeypatch.setattr(systemd, "cgroup_pids", lambda cgroup: pids)
    error = find.state(workload({"cgroup": "/system.slice/app.service"})).error
    assert error is not None
    assert "2 unrelated processes" in error


def test_a_process_that_left_the_tree_of_its_unit_is_an_error(
    start: Start, workload: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would stay behind, in a kernel that is no more."""
    root, stray = start(), start()
    unit = systemd.Unit("app.service", "loaded", "active", "running", root, "/app", "/x")
    monkeypatch.setattr(systemd, "show", lambda name: unit)
    monkeypatch.setattr(systemd, "cgroup_pids", lambda cgroup: sorted([root, stray]))
    error = find.state(workload({"unit": "app.service"})).error
    assert error is not None
    assert f"processes {stray} are no descendants" in error


def test_ids_of_threads_are_counted(start: Start, until: Until) -> None:
    pid = start(
        "import threading, time\n"
        "for _ in range(3): threading.Thread(target=time.sleep, args=(600,), daemon=True).start()\n"
        "time.sleep(600)"
    )
    assert until(lambda: len(find.task_ids([pid])) == 4)
