"""Consoles and vsock of the served double, as programs see them that know nothing of it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from tests.drivers.multikernel.pair import INIT, MAKE, Pair
from tests.support.multikernel.served import state
from tests.support.multikernel.served.kerf import MAIN
from tests.support.multikernel.settings import Spawn

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

DEVICE = """
import errno, os, select, sys
from tests.support.multikernel.served.session import connect
from tests.support.multikernel.served import state
double = connect(os.environ["MKDOUBLE_CONTROL"])
fd = os.open("/dev/mktty", os.O_RDWR | os.O_NONBLOCK)
def tried(call):
    try:
        return call()
    except OSError as error:
        return errno.errorcode[error.errno]
said = [tried(lambda: os.read(fd, 10))]
said += [tried(lambda: os.write(fd, b)) for b in (b"x\\n", b"0\\n", b"9\\n", b"2\\n")]
said.append(tried(lambda: os.read(fd, 10)))
double.ask(state.say, "web", "hello")
said.append(bool(select.select([fd], [], [], 20)[0]))
said.append(os.read(fd, 10).decode())
said.append(os.write(fd, b"date\\n"))
os.close(fd)
print(said)
"""


@pytest.fixture
def running(pair: Pair) -> Pair:
    """With web, which runs."""
    load, _ = pair.load()
    runs = {("uname", "-r"): (0, b"7.0.0-mk2\n"), ("false",): (1, b"")}
    pair.double.ask(state.behave, "web", Spawn(runs=runs))
    went, _, _ = pair.theirs([INIT, MAKE, load, ["start", "web"], 5])
    assert all(went)
    return pair


def test_the_device_picks_an_instance_by_the_first_write_and_reads_nothing_before(
    running: Pair,
) -> None:
    done = running.double.run("env", f"PYTHONPATH={Path.cwd()}", sys.executable, "-c", DEVICE)
    expected: list[Any] = ["ENOTCONN", "EINVAL", "EINVAL", "ENODEV", 2, "EAGAIN", True, "hello", 5]
    assert done.out.strip() == str(expected), done.err
    assert running.double.ask(state.typed, 2) == b"date\n"


CONSOLE = """
import os, pty, select, sys
from tests.support.multikernel.served.session import connect
from tests.support.multikernel.served import state
double = connect(os.environ["MKDOUBLE_CONTROL"])
pid, fd = pty.fork()
if pid == 0:
    os.environ["PYTHONPATH"] = sys.argv[1]
    os.execv(sys.executable, [sys.executable, "-c", sys.argv[2], "console", "web"])
def until(text, seen=b""):
    while text not in seen:
        seen += os.read(fd, 1000)
    return seen
until(b"to detach")
seen = b""
while b"hello" not in seen:
    double.ask(state.say, "web", "hello")  # until it listens, nobody hears it
    if select.select([fd], [], [], 0.1)[0]:
        seen += os.read(fd, 1000)
os.write(fd, b"ls")
os.write(fd, bytes([0x1d]) + b".")
until(b"Disconnected", seen)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


def test_kerf_attaches_to_a_console_and_detaches(running: Pair) -> None:
    argv = (sys.executable, "-c", CONSOLE, running.kerf.packages, MAIN)
    done = running.double.run("env", f"PYTHONPATH={Path.cwd()}", *argv)
    assert done.out.strip() == "0", done.err
    assert running.double.ask(state.typed, 2) == b"ls"


def test_kerf_runs_commands_in_an_instance(running: Pair) -> None:
    """By frames over vsock, both ways; more than the window of what may be under way."""
    told = running.kerf.run("exec", "web", "uname", "-r")
    assert (told.code, told.out) == (0, "7.0.0-mk2\n"), told.err
    assert running.kerf.run("exec", "web", "false").code == 1
    text = "0123456789abcde\n" * 20_000
    back = running.kerf.run("exec", "-i", "web", "cat", stdin=text)
    assert (back.code, back.out == text) == (0, True), back.err
    ran = running.double.ask(state.commands)
    assert ran == [("web", ("uname", "-r")), ("web", ("false",)), ("web", ("cat",))]


def test_nobody_answers_kerf_where_its_agent_does_not_run(running: Pair) -> None:
    running.double.ask(state.behave, "web", Spawn(ready_in=None))
    running.theirs([["kill", "web"], ["start", "web"], 5])
    refused = running.kerf.run("exec", "web", "true")
    assert refused.code == 1
    assert "is not running kerf-init" in refused.err
