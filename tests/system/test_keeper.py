"""Descriptors that outlive who opened them, with real processes and an ordinary file."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.model.errors import MkupgradeError
from orchestrator.system import keeper

NAME = "session"


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / ("long" * 30) / "kept"
    yield path
    keeper.release(path, NAME)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Its reading end sees the end of the file when the last writing end is closed."""
    reading, writing = os.pipe2(os.O_NONBLOCK)
    yield reading, writing
    os.close(reading)


def test_what_is_kept_lives_on_after_its_owner_closed_it_and_is_asked_back(
    directory: Path, pipe: tuple[int, int]
) -> None:
    reading, writing = pipe
    keeper.keep(directory, NAME, writing)
    os.close(writing)
    for word in (b"one", b"two"):
        again = keeper.kept(directory, NAME)
        assert again is not None
        assert not os.get_inheritable(again)
        os.write(again, word)
        os.close(again)
        assert os.read(reading, 10) == word
    with pytest.raises(BlockingIOError):
        os.read(reading, 1)
    keeper.release(directory, NAME)
    assert os.read(reading, 1) == b""
    assert keeper.kept(directory, NAME) is None
    assert list(directory.iterdir()) == []


def test_sigkill_of_the_owner_right_after_the_call_loses_nothing(
    directory: Path, pipe: tuple[int, int]
) -> None:
    reading, writing = pipe
    program = (
        "import os, signal, sys; from pathlib import Path; from orchestrator.system import keeper\n"
        f"keeper.keep(Path(sys.argv[1]), {NAME!r}, {writing}); os.kill(os.getpid(), signal.SIGKILL)"
    )
    argv = [sys.executable, "-c", program, str(directory)]
    died = subprocess.run(argv, pass_fds=[writing], timeout=30, check=False)
    os.close(writing)
    assert died.returncode == -signal.SIGKILL
    with pytest.raises(BlockingIOError):
        os.read(reading, 1)
    again = keeper.kept(directory, NAME)
    assert again is not None
    os.close(again)
    keeper.release(directory, NAME)
    assert os.read(reading, 1) == b""


def test_signals_meant_for_others_do_not_end_it(directory: Path, pipe: tuple[int, int]) -> None:
    _, writing = pipe
    keeper.keep(directory, NAME, writing)
    os.close(writing)
    first = keeper.kept(directory, NAME)  # it is up, and has set its signals
    process = keeper._started[directory / NAME]
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        os.kill(process.pid, number)
    second = keeper.kept(directory, NAME)
    assert None not in (first, second)
    assert process.poll() is None
    for fd in (first, second):
        assert fd is not None
        os.close(fd)


def test_a_keeper_that_was_killed_is_none_and_leaves_room_for_the_next(
    directory: Path, pipe: tuple[int, int]
) -> None:
    _, writing = pipe
    keeper.keep(directory, NAME, writing)
    process = keeper._started[directory / NAME]
    process.kill()
    process.wait(10)
    assert keeper.kept(directory, NAME) is None
    keeper.keep(directory, NAME, writing)
    os.close(writing)
    again = keeper.kept(directory, NAME)
    assert again is not None
    os.close(again)


def test_nothing_kept_is_said_as_such_and_released_without_a_word(directory: Path) -> None:
    assert keeper.kept(directory, NAME) is None
    keeper.release(directory, NAME)
    assert not directory.exists()


def test_its_directory_is_ours_alone(directory: Path, pipe: tuple[int, int]) -> None:
    _, writing = pipe
    directory.mkdir(parents=True, mode=0o755)
    with pytest.raises(MkupgradeError, match="open to others"):
        keeper.keep(directory, NAME, writing)
    directory.chmod(0o700)
    keeper.keep(directory, NAME, writing)
    os.close(writing)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
