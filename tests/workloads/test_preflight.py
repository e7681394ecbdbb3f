"""What would go wrong behind the pivot is found while nothing has happened."""

from __future__ import annotations

import json
import socket
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.model.spec.workloads import CriuMigrate, Workload
from orchestrator.system import files, proc
from orchestrator.workloads import find as finding
from orchestrator.workloads import preflight
from orchestrator.workloads.facade import Workloads
from orchestrator.workloads.findings import Finding
from tests.support.control import Control

Start = Callable[..., int]
Make = Callable[..., Workload]
Until = Callable[[Callable[[], bool]], bool]
LOGS = Path(__file__).with_name("logs")


@pytest.fixture
def look(
    tmp_path: Path, workload: Make, start: Start, until: Until
) -> Callable[..., list[Finding]]:
    """Start a program, wait until it is ready, and run preflight on it."""

    def run(code: str, migrate: dict[str, Any], channel: str = "kho", **rest: Any) -> list[Finding]:
        mark = uuid.uuid4().hex
        ready = tmp_path / mark
        wait = f"\nopen({str(ready)!r}, 'w').close()\nimport time\ntime.sleep(600)"
        start(code + wait, mark)
        app = workload({"cmdline": mark}, migrate, **rest)
        assert until(ready.exists)
        state_dir = tmp_path / "state"
        state_dir.mkdir(mode=0o700, exist_ok=True)
        scratch = tmp_path / "scratch"
        found = Workloads().preflight(app, channel, scratch, Control(), state_dir)  # type: ignore[arg-type]
        assert not scratch.exists() or list(scratch.iterdir()) == []
        return found

    return run


Look = Callable[..., list[Finding]]


def errors(found: list[Finding]) -> list[str]:
    return [f.text for f in found if f.severity == "error"]


def test_a_healthy_workload_passes_with_a_trial_dump(look: Look, fake_criu: Path) -> None:
    assert errors(look("", {"method": "criu"})) == []
    calls = [json.loads(line) for line in fake_criu.read_text().splitlines()]
    [dump] = [c for c in calls if c[0] == "dump"]
    assert "--leave-running" in dump


def test_what_criu_refuses_is_found_now(
    look: Look, fake_criu: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_CRIU_FAIL", str(LOGS / "half-of-unix.log"))
    [text] = errors(look("", {"method": "criu"}))
    assert "leads out of the workload" in text
    assert "sk-unix.c" in text


def test_a_dump_that_may_be_cut_off_is_an_error(
    look: Look, fake_criu: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be killed with its parasite still in the workload."""
    monkeypatch.setattr(preflight, "_TRIAL_SHARE", 0.005)
    [text] = errors(look("", {"method": "criu", "timeout": "20s", "extra": ["--slow"]}))
    assert "migrate.timeout allows" in text


def test_the_trial_can_be_left_out(look: Look, fake_criu: Path) -> None:
    look("", {"method": "criu", "trial": False})
    assert '"dump"' not in fake_criu.read_text()


def test_a_file_on_tmpfs_that_nobody_carries_is_named(look: Look, fake_criu: Path) -> None:
    path = f"/dev/shm/mkupgrade-{uuid.uuid4().hex}"
    code = f"f = open({path!r}, 'w')"
    try:
        [text] = errors(look(code, {"method": "criu"}))
        assert path in text
        assert "migrate.carry" in text
        assert errors(look(code, {"method": "criu", "carry": [path]})) == []
    finally:
        Path(path).unlink(missing_ok=True)


def test_what_is_carried_must_be_a_file_that_would_be_lost(look: Look, fake_criu: Path) -> None:
    texts = errors(look("", {"method": "criu", "carry": ["/etc/passwd", "/run/no-such-1f6e"]}))
    assert "/etc/passwd, which is not on a volatile file system" in texts[0]
    assert "/run/no-such-1f6e, which is no regular file" in texts[1]


def test_deleted_files_are_named(look: Look, fake_criu: Path, tmp_path: Path) -> None:
    path = tmp_path / "gone"
    found = look(f"import os\nf = open({str(path)!r}, 'w')\nos.unlink(f.name)", {"method": "criu"})
    assert any("deleted files" in f.text and str(path) in f.text for f in found)


def test_ids_that_the_next_boot_takes_are_named(
    workload: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    early = proc.Process(100, 2, 0, 0, "I", "kworker", started=10, resident_bytes=0)
    late = proc.Process(900, 2, 0, 0, "I", "kworker", started=10**6, resident_bytes=0)
    monkeypatch.setattr(finding, "task_ids", lambda pids: [12, 250, 9000])
    monkeypatch.setattr(proc, "processes", lambda: [early, late])
    scene = preflight.Scene(workload({"cmdline": "x"}), "kho", tmp_path, tmp_path, [early])
    found = list(preflight._process_ids(scene, CriuMigrate(method="criu")))
    assert [f.severity for f in found] == ["error"]
    assert "process ids 12 will be taken by threads" in found[0].text


def test_no_time_namespace_and_a_timer_is_an_error(
    look: Look, fake_criu: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class NoTimeNamespace:
        def __truediv__(self, name: str) -> Path:
            return Path("/nowhere")

    monkeypatch.setattr(preflight.proc, "PROC", NoTimeNamespace())
    [warning] = [f for f in look("", {"method": "criu", "trial": False}) if "TIME_NS" in f.text]
    assert warning.severity == "warning"


def test_connections_without_nft_are_an_error(
    look: Look, fake_criu: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.workloads.hold.available", lambda: False)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        code = f"import socket\ns = socket.create_connection(('127.0.0.1', {port}))"
        assert any("nft is not installed" in t for t in errors(look(code, {"method": "criu"})))
        texts = errors(look(code, {"method": "criu", "tcp_established": False}))
        assert any("set migrate.tcp_established" in t for t in texts)


def test_no_room_is_an_error_that_names_both_sizes(
    look: Look, fake_criu: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "free_bytes", lambda path: 1 << 12)
    found = look("", {"method": "criu", "trial": False}, "disk")
    assert any("4.0 KiB are free" in text for text in errors(found))
    monkeypatch.setattr(proc, "memory", lambda: proc.Memory(1 << 20, 1 << 12))
    found = look("", {"method": "criu", "trial": False}, "kho", spill=False)
    assert any("use channel disk" in text for text in errors(found))


def test_programs_of_hooks_must_be_there_and_stay_there(look: Look) -> None:
    found = look("", {"method": "hooks", "save": ["no-such-1f6e"], "load": ["true"]})
    assert errors(found) == ["program no-such-1f6e is not there, or not executable"]


def test_a_workload_that_does_not_run_is_an_error(workload: Make, tmp_path: Path) -> None:
    app = workload({"cmdline": "nobody-1f6e"})
    found = Workloads().preflight(app, "disk", tmp_path, Control(), tmp_path)
    assert [f.severity for f in found] == ["error"]


def test_an_extra_argument_that_breaks_the_method_is_an_error(look: Look, fake_criu: Path) -> None:
    assert any(
        "may not hold -R" in t for t in errors(look("", {"method": "criu", "extra": ["-R"]}))
    )


def test_a_connection_to_another_process_is_an_error(
    look: Look, fake_criu: Path, tmp_path: Path
) -> None:
    path = str(tmp_path / "bus")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        code = f"import socket\ns = socket.socket(socket.AF_UNIX)\ns.connect({path!r})"
        assert any("leads out of the workload" in t for t in errors(look(code, {"method": "criu"})))
