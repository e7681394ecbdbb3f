"""The guest's programs, run here as the ordinary programs that they are."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from orchestrator.rehearsal.client import Client
from orchestrator.rehearsal.guest import workloads
from orchestrator.rehearsal.result import read_log

GUEST = Path(workloads.__file__).parent


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@contextmanager
def program(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    name, *rest = arguments
    process = subprocess.Popen(
        [sys.executable, "-IS", str(GUEST / name), *rest],
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_lines(path: Path, lines: int) -> str:
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        if path.exists() and path.read_text().count("\n") >= lines:
            return path.read_text()
        time.sleep(0.02)
    pytest.fail(f"{path} never had {lines} lines")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["counter.py", "sleeper.py"])
def test_every_client_gets_every_number(name: str, tmp_path: Path) -> None:
    log, port = tmp_path / "log", free_port()
    with (
        program(name, str(port), str(log), "0.01"),
        Client(port) as first,
        Client(port) as second,
    ):
        assert first.wait_messages(20, 10)
        assert second.wait_messages(20, 10)
        assert first.seen().whole
        assert second.seen().whole
        assert first.seen().releases == (os.uname().release,)
    assert read_log(log.read_text()).whole


@pytest.mark.slow
def test_a_client_that_goes_away_disturbs_nobody(tmp_path: Path) -> None:
    log, port = tmp_path / "log", free_port()
    with program("counter.py", str(port), str(log), "0.01"), Client(port) as stays:
        for _ in range(3):
            Client(port).close()
        assert stays.wait_messages(30, 10)
        assert stays.seen().whole


def test_the_tree_goes_round_through_all_its_processes(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with program("tree.py", str(log), str(tmp_path / "socket"), "0.01") as process:
        text = wait_lines(log, 10)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        assert len(children) == 2
    for line in text.splitlines()[:10]:
        number, came_back, pid, _ = line.split()
        assert (number, int(pid)) == (came_back, process.pid)


def test_only_workloads_that_do_not_run_are_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    argv = [sys.executable, "-c", "import time; time.sleep(30)"]
    pid_file = tmp_path / "deep" / "pid"
    config = tmp_path / "rehearsal.json"
    config.write_text(json.dumps({"workloads": [{"argv": argv, "pid_file": str(pid_file)}]}))
    monkeypatch.setattr(workloads, "CONFIG", config)
    workloads.main()
    first = int(pid_file.read_text())
    try:
        deadline = time.monotonic() + 5
        while not workloads.running(pid_file, argv) and time.monotonic() < deadline:
            time.sleep(0.02)
        workloads.main()
        assert int(pid_file.read_text()) == first
        assert not workloads.running(pid_file, [*argv, "other"])
    finally:
        os.kill(first, signal.SIGKILL)
        os.waitpid(first, 0)
    assert not workloads.running(pid_file, argv)


def test_the_init_is_a_script_that_any_posix_shell_reads() -> None:
    subprocess.run(["sh", "-n", str(GUEST / "init.sh")], check=True)
