"""`agent`: a key is made, the agent listens and is asked, and ends when it is told to."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from orchestrator.system import proc
from tests.cli.conftest import Run

TRANSACTION = "20261123-140307-k3xw"
ROOT = Path(__file__).parents[2]
UNIT = "mkupgrade-agent.service"
WORK_UNIT = "mkupgrade-agent-work.service"

needs_reserved_ports = pytest.mark.skipif(
    os.geteuid() != 0, reason="asking from a port below 1024 needs root"
)


@contextmanager
def listening(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """The command, and what it says first."""
    command = [sys.executable, "-m", "orchestrator.cli", "agent", "--json", *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as running:
        try:
            assert running.stdout is not None
            yield running, json.loads(running.stdout.readline())
        finally:
            running.kill()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture
def key_file(run: Run, tmp_path: Path) -> Path:
    path = tmp_path / "agent.key"
    assert run("agent", "--new-key", TRANSACTION, "--key-file", path).exit_code == 0
    return path


def test_a_new_key_is_private_and_never_the_same(run: Run, key_file: Path) -> None:
    first = key_file.read_text(encoding="ascii")
    made = run("agent", "--new-key", TRANSACTION, "--key-file", key_file, "--json")
    assert json.loads(made.stdout) == {"transaction": TRANSACTION, "key_file": str(key_file)}
    assert key_file.read_text(encoding="ascii") != first
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    assert first.split()[2] not in made.output


def test_what_is_no_transaction_gets_no_key(run: Run, tmp_path: Path) -> None:
    done = run("agent", "--new-key", "../x", "--key-file", tmp_path / "key")
    assert done.exit_code == 1
    assert not (tmp_path / "key").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--listen", "vsock:1022"],
        ["--listen", "vsock:1022", "--ask", "vsock:3:1022"],
        ["--listen", "tcp:127.0.0.1:1022", "--receive", "x", "--most", "much"],
        ["--listen", "tcp:0.0.0.0:1022", "--receive", "x"],
        ["--ask", "vsock:1022"],
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_opened(
    run: Run, key_file: Path, arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run("agent", *arguments, "--key-file", key_file)
    assert done.exit_code == 1
    assert "mkupgrade agent --help" in done.stderr


def test_a_key_that_others_can_read_is_refused_with_the_way_to_put_it_right(
    run: Run, key_file: Path
) -> None:
    key_file.chmod(0o644)
    done = run("agent", "--ask", "tcp:127.0.0.1:9", "--key-file", key_file)
    assert done.exit_code == 1
    assert f"chmod 600 {key_file}" in done.stderr


@needs_reserved_ports
def test_it_is_asked_and_ends_when_it_is_told_to(run: Run, key_file: Path, tmp_path: Path) -> None:
    address = f"tcp:127.0.0.1:{free_port()}"
    flag = tmp_path / "up"
    options = ("--key-file", str(key_file), "--receive", str(tmp_path / "state"))
    with listening("--listen", address, *options, "--ready-file", str(flag)) as (agent, first):
        assert first == {"event": "listening", "at": address, "transaction": TRANSACTION}
        asked = run("agent", "--ask", address, "--key-file", key_file, "--json")
        assert asked.exit_code == 6
        assert json.loads(asked.stdout)["problems"] == [f"{flag} is not there yet"]
        flag.touch()
        asked = run("agent", "--ask", address, "--key-file", key_file, "--json")
        assert asked.exit_code == 0
        said = json.loads(asked.stdout)
        assert (said["release"], said["boot_id"]) == (proc.release(), proc.boot_id())
        assert f"boot {proc.boot_id()}" in run("agent", "--ask", address, *options[:2]).stdout
        agent.send_signal(signal.SIGTERM)
        assert agent.wait(20) == 0
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700


@needs_reserved_ports
def test_an_agent_with_another_key_is_told_apart_from_none(
    run: Run, key_file: Path, tmp_path: Path
) -> None:
    address = f"tcp:127.0.0.1:{free_port()}"
    nobody = run("agent", "--ask", address, "--key-file", key_file, "--json")
    assert json.loads(nobody.stderr)["error"]["code"] == "connection-lost"
    options = ("--key-file", str(key_file), "--receive", str(tmp_path / "state"))
    with listening("--listen", address, *options):
        other = tmp_path / "other.key"
        run("agent", "--new-key", TRANSACTION, "--key-file", other)
        asked = run("agent", "--ask", address, "--key-file", other, "--json")
    assert json.loads(asked.stderr)["error"]["code"] == "agent-key"


def unit(name: str = UNIT) -> str:
    return (resources.files("orchestrator") / "agent" / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", [UNIT, WORK_UNIT])
def test_the_units_call_the_command_as_it_is(run: Run, name: str) -> None:
    """Its options exist, and what it listens at is an address."""
    line = next(li for li in unit(name).splitlines() if li.startswith("ExecStart="))
    words = line.removeprefix("ExecStart=").split()
    assert words[:2] == ["mkupgrade", "agent"]
    shown = run("agent", "--help").output
    assert all(word in shown for word in words if word.startswith("--"))
    from orchestrator.agent.transport import parse_listen

    assert parse_listen(words[words.index("--listen") + 1]).port < 1024


def test_the_unit_that_works_gives_workloads_nothing_that_they_had_not() -> None:
    """What is restored keeps its parents' sandbox; the key and the directory are as in the other
    one."""
    lines = set(unit(WORK_UNIT).splitlines())
    sandbox = ("CapabilityBoundingSet", "NoNewPrivileges", "Protect", "Private", "Restrict",
               "SystemCall", "MemoryMax", "TasksMax", "Limit", "LockPersonality")  # fmt: skip
    assert not [line for line in lines if line.startswith(sandbox)]
    assert {"KillMode=process", f"Conflicts={UNIT}"} <= lines
    same = ("LoadCredential", "StateDirectory", "UMask", "ConditionPathExists")
    assert {li for li in unit().splitlines() if li.startswith(same)} <= lines


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_takes_the_unit_and_finds_little_exposed(tmp_path: Path) -> None:
    path = tmp_path / UNIT
    path.write_text(unit().replace("ExecStart=mkupgrade", "ExecStart=/bin/true"), encoding="utf-8")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(path)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    done = subprocess.run(
        ["systemd-analyze", "--offline=true", "--threshold=25", "security", str(path)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-200:]
