"""The command itself in one network namespace, a sender in another, and a wire between them.

Needs root and network namespaces; everything has names of its own and is taken away at the end.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from orchestrator.agent.keys import new_key, write_key
from orchestrator.handover.blocks import cut
from orchestrator.handover.stream import StreamChannel
from orchestrator.model.steps import Section
from tests.support.control import Control

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]
TRANSACTION = "t-20260901-ab12cd"
SOURCE, TARGET = "10.213.7.1", "10.213.7.2"
ADDRESS = f"tcp:{TARGET}:1022"
STRANGER = f"""
import socket, sys
with socket.create_connection(("{TARGET}", 1022), timeout=20) as stranger:
    sys.exit(stranger.recv(100) != b"")
"""


def ip(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["ip", *arguments], capture_output=True, text=True, timeout=30, check=False
    )


def why_not() -> str | None:
    if os.geteuid() != 0:
        return "needs root"
    if shutil.which("ip") is None:
        return "needs iproute2"
    name = f"mkup-{os.getpid()}-x"
    made = ip("netns", "add", name)
    ip("netns", "del", name)
    return f"no network namespace can be made: {made.stderr.strip()}" if made.returncode else None


@dataclass
class Net:
    """Two namespaces with a wire between them."""

    source: str
    target: str
    running: list[subprocess.Popen[str]] = field(default_factory=list)

    def start(self, namespace: str, *command: str, **more: Any) -> subprocess.Popen[str]:
        made = subprocess.Popen(
            ["ip", "netns", "exec", namespace, *command],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more,
        )  # fmt: skip
        self.running.append(made)
        return made

    def agent(self, key_file: Path, directory: Path) -> subprocess.Popen[str]:
        """Until it listens."""
        made = self.start(
            self.target, sys.executable, "-m", "orchestrator.cli", "agent", "--json",
            "--listen", ADDRESS, "--key-file", str(key_file), "--receive", str(directory),
        )  # fmt: skip
        assert made.stdout is not None
        assert json.loads(made.stdout.readline())["event"] == "listening"
        return made

    def sender(self, key_file: Path, directory: Path, *options: str) -> subprocess.Popen[str]:
        return self.start(
            self.source, sys.executable, "-m", "tests.agent.sender",
            ADDRESS, str(key_file), str(directory), *options,
        )  # fmt: skip


@pytest.fixture
def net() -> Iterator[Net]:
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    ends = Net(f"mkup-{os.getpid()}-s", f"mkup-{os.getpid()}-t")
    try:
        for name in (ends.source, ends.target):
            assert ip("netns", "add", name).returncode == 0
            ip("-n", name, "link", "set", "lo", "up")
        wire = ("link", "add", "wire", "netns", ends.source, "type", "veth", "peer", "name", "wire")
        made = ip(*wire, "netns", ends.target)
        if made.returncode:
            pytest.skip(f"no veth: {made.stderr.strip()}")
        for name, address in ((ends.source, SOURCE), (ends.target, TARGET)):
            ip("-n", name, "addr", "add", f"{address}/30", "dev", "wire")
            ip("-n", name, "link", "set", "wire", "up")
        yield ends
    finally:
        for process in ends.running:
            process.kill()
            process.communicate()
        for name in (ends.source, ends.target):
            ip("netns", "del", name)


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    write_key(new_key(TRANSACTION), tmp_path / "agent.key")
    return tmp_path / "agent.key"


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """64 MiB that nobody has twice, and some small files."""
    directory = tmp_path / "state"
    (directory / "small").mkdir(parents=True)
    for number in range(200):
        (directory / "small" / f"{number}").write_bytes(os.urandom(700))
    (directory / "pages").write_bytes(os.urandom(64 << 20))
    return directory


def said(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, err = process.communicate(timeout=200)
    assert out, err
    found: dict[str, Any] = json.loads(out.splitlines()[-1])
    return found


def until(true: Callable[[], bool]) -> None:
    """Poll; pytest's own timeout ends what never comes."""
    while not true():
        time.sleep(0.005)


def arrived(directory: Path, tmp_path: Path) -> str:
    """Digest of the payload that `receive` unpacks in the target."""
    channel = StreamChannel(directory, TRANSACTION, Section.FORWARD)
    received = channel.receive(tmp_path / "run", Control())
    return cut(received.directories["shop"], 1, lambda *_: None).sha256


def test_state_arrives_and_what_was_copied_ahead_is_not_sent_again(
    net: Net, key_file: Path, state: Path, tmp_path: Path
) -> None:
    net.agent(key_file, tmp_path / "target")
    first = said(net.sender(key_file, state, "--ahead"))
    assert first["verdict"] == "present"
    assert first["ahead"] > 64 << 20
    assert first["sent"] == first["ahead"]
    assert arrived(tmp_path / "target", tmp_path) == first["payload"]["sha256"]


def test_an_agent_that_is_killed_half_way_goes_on_with_the_blocks_that_it_had(
    net: Net, key_file: Path, state: Path, tmp_path: Path
) -> None:
    agent = net.agent(key_file, tmp_path / "target")
    blocks = tmp_path / "target" / "handover" / TRANSACTION / "forward.blocks"
    sender = net.sender(key_file, state)
    until(lambda: blocks.exists() and blocks.stat().st_size > 8 << 20)
    agent.kill()
    agent.wait()
    assert not (blocks.parent / "forward").exists()
    kept = blocks.stat().st_size
    net.agent(key_file, tmp_path / "target")
    done = said(sender)
    if "error" in done:  # it had given up before the agent was there again: the step's next try
        assert done["error"]["code"] == "connection-lost"
        done = said(net.sender(key_file, state))
        assert done["sent"] <= (66 << 20) - kept + (1 << 20)
    assert done["verdict"] == "present"
    assert arrived(tmp_path / "target", tmp_path) == done["payload"]["sha256"]


def test_a_wire_that_is_down_for_a_while_costs_nothing_but_time(
    net: Net, key_file: Path, state: Path, tmp_path: Path
) -> None:
    net.agent(key_file, tmp_path / "target")
    blocks = tmp_path / "target" / "handover" / TRANSACTION / "forward.blocks"
    sender = net.sender(key_file, state)
    until(lambda: blocks.exists() and blocks.stat().st_size > 4 << 20)
    ip("-n", net.target, "link", "set", "wire", "down")
    time.sleep(1.5)
    ip("-n", net.target, "link", "set", "wire", "up")
    done = said(sender)
    assert done["verdict"] == "present"
    assert arrived(tmp_path / "target", tmp_path) == done["payload"]["sha256"]


def test_a_target_that_refuses_leaves_the_source_as_it_was(
    net: Net, key_file: Path, state: Path, tmp_path: Path
) -> None:
    before = cut(state, 1, lambda *_: None).sha256
    write_key(new_key(TRANSACTION), tmp_path / "other.key")
    net.agent(tmp_path / "other.key", tmp_path / "target")
    done = said(net.sender(key_file, state))
    assert done["error"]["code"] == "agent-key"
    assert done["sent"] == 0
    assert cut(state, 1, lambda *_: None).sha256 == before
    assert not list((tmp_path / "target").iterdir())


def test_an_ordinary_user_is_hung_up_on_before_a_byte_is_read(
    net: Net, key_file: Path, tmp_path: Path
) -> None:
    if shutil.which("setpriv") is None:
        pytest.skip("needs setpriv")
    agent = net.agent(key_file, tmp_path / "target")
    stranger = net.start(
        net.source, "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
        sys.executable, "-c", STRANGER,
    )  # fmt: skip
    assert stranger.wait(60) == 0, stranger.communicate()
    assert agent.stdout is not None
    told = json.loads(agent.stdout.readline())
    assert (told["event"], told["error"]) == ("hung-up", "its port is not reserved to root")
