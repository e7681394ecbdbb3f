"""What the workloads' tests share: real processes, workloads of a spec, programs on PATH."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from orchestrator.model.spec.workloads import Workload
from orchestrator.workloads import claims
from tests.support.control import Control

Start = Callable[..., int]
Make = Callable[..., Workload]
Program = Callable[[str, str], Path]


@pytest.fixture(autouse=True)
def claimed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this test's claims are, in the place of /run."""
    directory = tmp_path / "run" / "restored"
    monkeypatch.setattr(claims, "DIRECTORY", directory)
    return directory


@pytest.fixture
def control() -> Control:
    return Control(seconds=20.0)


@pytest.fixture(autouse=True)
def synced(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """When everything was synced (CLOCK_MONOTONIC): nothing is, since that could take long here."""
    times: list[float] = []
    monkeypatch.setattr(os, "sync", lambda: times.append(time.monotonic()))
    return times


@pytest.fixture
def start() -> Iterator[Start]:
    """Start `python -S -c CODE MARK…` as a child of PID 1, in a session of its own: its pid.
    Ended after the test, with all its session."""
    started: list[int] = []

    def begin(code: str = "import time\ntime.sleep(600)", *words: str) -> int:
        argv = [sys.executable, "-S", "-c", code, *words]
        read, write = os.pipe()
        helper = (
            "import os, subprocess, sys\n"
            "child = subprocess.Popen(sys.argv[2:], start_new_session=True,"
            " stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)\n"
            "os.write(int(sys.argv[1]), str(child.pid).encode())\n"
            "os._exit(0)\n"
        )
        starter = [sys.executable, "-S", "-c", helper, str(write), *argv]
        subprocess.run(starter, check=True, pass_fds=[write])
        os.close(write)
        pid = int(os.read(read, 20))
        os.close(read)
        started.append(pid)
        # vfork(2) lets the parent go on before execve(2) has put the arguments in their place.
        while not Path(f"/proc/{pid}/cmdline").read_bytes():
            time.sleep(0.001)
        return pid

    yield begin
    for pid in started:
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)


@pytest.fixture
def workload(tmp_path: Path) -> Make:
    """A workload of the spec: `workload(find={…}, migrate={…})`."""

    def make(find: dict[str, Any], migrate: dict[str, Any] | None = None, **rest: Any) -> Workload:
        whole = {"name": "app", "instance": "host", "find": find}
        return Workload.model_validate({**whole, "migrate": migrate or {"method": "criu"}, **rest})

    return make


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    """Put a program on PATH: `program("criu", python_source)`."""
    directory = tmp_path / "bin"
    directory.mkdir()
    monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")

    def put(name: str, source: str) -> Path:
        path = directory / name
        path.write_text(f"#!{sys.executable} -S\n{source}")
        path.chmod(0o755)
        return path

    return put


@pytest.fixture
def fake_criu(program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The stand-in for criu on PATH; the path of its list of calls."""
    program("criu", Path(__file__).with_name("fake_criu.py").read_text())
    calls = tmp_path / "criu-calls"
    monkeypatch.setenv("FAKE_CRIU_LOG", str(calls))
    return calls


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], bool]:
    """Wait up to five seconds for something to hold."""

    def wait(holds: Callable[[], bool]) -> bool:
        end = time.monotonic() + 5
        while not (held := holds()) and time.monotonic() < end:
            time.sleep(0.02)
        return held

    return wait
