"""Programs: bounded in time and output, and nothing of them is left behind."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from orchestrator.model.errors import ErrorClass, NotSupportedError, ToolError
from orchestrator.system import subprocesses
from orchestrator.system.subprocesses import run, run_filter


def test_output_input_and_locale() -> None:
    done = run(["sh", "-c", "cat; echo $LC_ALL $EXTRA >&2"], timeout=10, input=b"in",
               env={"EXTRA": "more"})  # fmt: skip
    assert (done.text, done.error_text, done.returncode) == ("in", "C more", 0)


def test_no_input_is_no_terminal() -> None:
    assert run(["cat"], timeout=10).stdout == b""


def test_a_failure_carries_the_command_and_the_end_of_what_was_said() -> None:
    script = "for i in $(seq 100); do echo line $i >&2; done; exit 3"
    with pytest.raises(ToolError) as error:
        run(["sh", "-c", script], timeout=10)
    assert error.value.what == "sh ended with exit status 3: line 100"
    assert error.value.details[0] == f"command: sh -c '{script}'"
    assert len(error.value.details) == 1 + subprocesses.TAIL_LINES
    assert error.value.error_class is ErrorClass.FAILED


def test_a_signal_is_named() -> None:
    with pytest.raises(ToolError, match="was killed by SIGSEGV"):
        run(["sh", "-c", "kill -SEGV $$"], timeout=10)


def test_without_check_the_status_is_the_callers() -> None:
    assert run(["sh", "-c", "exit 3"], timeout=10, check=False).returncode == 3


def test_out_of_time_ends_the_whole_group(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    started = time.monotonic()
    with pytest.raises(ToolError, match=r"did not end within 0\.3 s") as error:
        run(["sh", "-c", f"sleep 60 & echo $! > {pid_file}; wait"], timeout=0.3)
    assert time.monotonic() - started < 5
    assert error.value.error_class is ErrorClass.TIMEOUT
    assert _gone(int(pid_file.read_text()))


def test_a_request_to_stop_is_heard() -> None:
    started = time.monotonic()
    with pytest.raises(ToolError, match="was stopped on request"):
        run(["sleep", "60"], timeout=60, stopped=lambda: True)
    assert time.monotonic() - started < 5


def test_a_program_left_in_the_background_is_not_waited_for(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    started = time.monotonic()
    run(["sh", "-c", f"sleep 60 & echo $! > {pid_file}"], timeout=30)
    assert time.monotonic() - started < 5
    pid = int(pid_file.read_text())
    assert not _gone(pid, patience=0)
    os.kill(pid, 9)


def test_a_program_that_writes_without_end_is_ended() -> None:
    with pytest.raises(ToolError, match="wrote more than 64 MiB"):
        run(["cat", "/dev/zero"], timeout=60)


def test_the_end_of_long_output_is_kept() -> None:
    done = run([sys.executable, "-c", "print('x' * 5_000_000 + 'end')"], timeout=30)
    assert len(done.stdout) == subprocesses.OUTPUT_LIMIT
    assert done.text.endswith("end")


def test_a_missing_program_names_its_package() -> None:
    with pytest.raises(NotSupportedError, match="nosuchprogram is not installed") as error:
        run(["nosuchprogram"], timeout=1)
    assert error.value.next_command is None
    assert subprocesses.missing("nft").next_command == "apt install nftables"


def test_what_is_no_program_is_an_error_of_ours(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("no program")
    for argv, cwd in (([str(path)], None), (["true"], tmp_path / "missing")):
        with pytest.raises(ToolError):
            run(argv, timeout=1, cwd=cwd)


def test_arguments_reach_no_shell() -> None:
    assert run(["echo", "$HOME; `id`"], timeout=10).text == "$HOME; `id`"


def test_a_filter_is_bounded() -> None:
    data = os.urandom(3 << 20)
    assert run_filter(["cat"], data, limit=3 << 20, timeout=30).stdout == data
    done = run_filter(["cat", "/dev/zero"], b"", limit=1000, timeout=30)
    assert len(done.stdout) == 1001
    with pytest.raises(ToolError, match="did not end within"):
        run_filter(["sleep", "60"], b"", limit=10, timeout=0.2)


def _gone(pid: int, patience: float = 5) -> bool:
    end = time.monotonic() + patience
    while True:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        if time.monotonic() >= end:
            return False
        time.sleep(0.02)
