"""Both ends of the control channel, the guest's over a pseudo-terminal instead of virtio."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
import tty
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.model.errors import RehearsalError
from orchestrator.rehearsal.control import Control, GuestRestartedError
from orchestrator.rehearsal.guest import agent


class Line:
    """A UNIX socket on one side, a terminal on the other, as QEMU is between the two."""

    def __init__(self, room: Path) -> None:
        self.master, slave = os.openpty()
        tty.setraw(slave)
        self.device = Path(os.ttyname(slave))
        self._slave = slave
        self.path = room / "control"
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.path))
        self._listener.listen(1)
        threading.Thread(target=self._carry, daemon=True).start()

    def _carry(self) -> None:
        connection, _ = self._listener.accept()
        self.connection = connection

        def down() -> None:
            while data := connection.recv(4096):
                os.write(self.master, data)

        threading.Thread(target=down, daemon=True).start()
        try:
            while data := os.read(self.master, 4096):
                connection.sendall(data)
        except OSError:
            pass


@pytest.fixture
def line(tmp_path: Path) -> Line:
    return Line(tmp_path)


@pytest.fixture
def control(line: Line) -> Iterator[Control]:
    control = Control(line.path)
    yield control
    control.close()


def start_agent(line: Line, *, greets: bool = True) -> agent.Channel:
    """What the agent's main does, in a thread; one that does not greet has done so before."""
    channel = agent.Channel(line.device)
    if greets:
        channel.send(agent.hello())

    def serve() -> None:
        while True:
            request = channel.receive()
            threading.Thread(target=agent.answer, args=(channel, request), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    return channel


def alive() -> None:
    return None


def test_a_program_runs_and_both_streams_and_the_code_come_back(
    line: Line, control: Control
) -> None:
    start_agent(line)
    assert control.wait_hello(1, 5, alive).release == os.uname().release
    pieces: list[tuple[str, bytes]] = []
    code = (
        "import os, sys; print('out', os.environ['X']);"
        "sys.stderr.buffer.write(sys.stdin.buffer.read()); sys.exit(3)"
    )
    done = control.run(
        [sys.executable, "-c", code],
        timeout=20,
        stdin=b"fed\xff",
        env={"X": "1"},
        on_output=lambda name, data: pieces.append((name, data)),
    )
    assert (done.code, done.stdout) == (3, "out 1\n")
    assert "fed" in done.stderr
    assert b"".join(d for n, d in pieces if n == "stdout") == b"out 1\n"


def test_files_of_any_size_and_content_come_and_go(
    line: Line, control: Control, tmp_path: Path
) -> None:
    start_agent(line)
    blob = bytes(range(256)) * 700
    target = tmp_path / "deep" / "file"
    control.put(str(target), blob, 0o600)
    assert target.read_bytes() == blob
    assert target.stat().st_mode & 0o777 == 0o600
    assert control.get(str(target)) == blob
    control.put(str(target), b"", 0o644)
    assert control.get(str(target)) == b""


@pytest.mark.slow
def test_a_program_that_takes_too_long_is_killed_with_its_children(
    line: Line, control: Control, tmp_path: Path
) -> None:
    start_agent(line)
    mark = tmp_path / "late"
    argv = ["sh", "-c", f"(sleep 1.5; touch {mark}) & echo started; wait"]
    with pytest.raises(RehearsalError, match=r"longer than 0\.5 s") as caught:
        control.run(argv, timeout=0.5)
    assert caught.value.details == ("started",)
    time.sleep(1.5)
    assert not mark.exists()


def test_a_path_is_waited_for_in_the_guest(line: Line, control: Control, tmp_path: Path) -> None:
    start_agent(line)
    path = tmp_path / "comes"
    assert not control.wait_path(str(path), 0.1)
    threading.Timer(0.2, path.touch).start()
    assert control.wait_path(str(path), 20.0)


def test_what_cannot_be_started_is_an_error_with_the_reason(line: Line, control: Control) -> None:
    start_agent(line)
    with pytest.raises(RehearsalError, match="FileNotFoundError"):
        control.run(["/no/such/program"], timeout=5)
    with pytest.raises(RehearsalError, match="FileNotFoundError"):
        control.get("/no/such/file")
    assert control.run(["true"], timeout=5).code == 0


def test_a_new_kernel_ends_what_the_old_one_left_unanswered(line: Line, control: Control) -> None:
    channel = start_agent(line)
    control.wait_hello(1, 5, alive)
    caught: list[GuestRestartedError] = []

    def ask() -> None:
        try:
            control.run(["sh", "-c", "echo before; exec sleep 5"], timeout=20)
        except GuestRestartedError as error:
            caught.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    time.sleep(0.5)
    # The old kernel goes away in the middle of a line; the next one's agent greets.
    os.write(channel._fd, b'{"id": 1, "stre')
    channel.send({**agent.hello(), "hello": "another-boot", "release": "7.3.4"})
    thread.join(5)
    assert len(caught) == 1
    assert caught[0].partial == "before\n"
    hello = control.wait_hello(2, 5, alive)
    assert (hello.boot_id, hello.release) == ("another-boot", "7.3.4")
    assert control.run(["echo", "after"], timeout=5).stdout == "after\n"


def test_a_kernel_that_has_greeted_somebody_before_is_adopted_and_the_next_one_ends_requests(
    line: Line, control: Control
) -> None:
    channel = start_agent(line, greets=False)
    control.adopt()
    assert control.wait_hello(1, 5, alive).boot_id == agent.hello()["hello"]
    channel.send({**agent.hello(), "hello": "another-boot"})
    assert control.wait_hello(2, 5, alive).boot_id == "another-boot"


def test_garbage_on_the_line_is_skipped(line: Line, control: Control) -> None:
    channel = start_agent(line)
    control.wait_hello(1, 5, alive)
    os.write(channel._fd, b"\x00\xff garbage\n[1, 2]\n{}\nnull\n")
    assert control.run(["echo", "fine"], timeout=5).stdout == "fine\n"


def test_waiting_for_a_kernel_that_never_comes_ends(control: Control) -> None:
    with pytest.raises(RehearsalError, match="did not greet within"):
        control.wait_hello(1, 0.3, alive)
