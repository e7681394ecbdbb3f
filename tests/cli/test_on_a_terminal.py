"""What a person at a terminal sees: the plan, a question, live progress, the result."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import time
from typing import Any

import pytest

pytestmark = pytest.mark.slow

HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"


class Session:
    """`mkupgrade` on a pseudo-terminal."""

    def __init__(self, mkupgrade: Any, *arguments: object, **environment: str) -> None:
        self.ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            mkupgrade.argv(*arguments), stdin=theirs, stdout=theirs, stderr=theirs,
            env=mkupgrade.environment | {"TERM": "xterm-256color", "COLUMNS": "100"} | environment,
            start_new_session=True,
        )  # fmt: skip
        os.close(theirs)
        self.seen = ""

    def until(self, text: str | None) -> str:
        """Read until `text` was seen; None: until the process is gone."""
        end = time.monotonic() + 30
        while time.monotonic() < end and (text is None or text not in self.seen):
            try:
                part = os.read(self.ours, 65536)
            except OSError:
                break
            if not part:
                break
            self.seen += part.decode(errors="replace")
        assert text is None or text in self.seen, self.seen
        return self.seen

    def type(self, line: str) -> None:
        os.write(self.ours, line.encode() + b"\n")

    def end(self) -> int:
        self.until(None)
        os.close(self.ours)
        return self.process.wait(timeout=20)


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


@pytest.mark.parametrize("answer", ["yes", "y"])
def test_only_yes_is_a_yes(mkupgrade: Any, answer: str) -> None:
    session = Session(mkupgrade, "apply", mkupgrade.spec)
    session.until("is accepted:")
    assert "Plan: 1 kernel to change" in plain(session.seen)
    session.type(answer)
    assert session.end() == (0 if answer == "yes" else 1)
    assert ("Committed" in plain(session.seen)) is (answer == "yes")
    assert (mkupgrade.state / "journal.db").exists() is (answer == "yes")


def test_live_progress_leaves_the_terminal_as_it_was(mkupgrade: Any) -> None:
    mkupgrade.change_host(faults={"preserve/host": {"kind": "slow", "seconds": 0.6}})
    session = Session(mkupgrade, "apply", mkupgrade.spec, "--yes")
    assert session.end() == 0
    assert session.seen.count(HIDE) == session.seen.count(SHOW) > 0
    text = plain(session.seen)
    assert "as asked for" in text, "the step's own progress is shown while it runs"
    assert "✓ Preserve the state" in text
    jump = session.seen.index("Jump into Linux 7.3.4")
    assert SHOW in session.seen[:jump] or session.seen.rindex(SHOW) > jump


def test_ctrl_c_on_the_terminal_is_answered_at_once(mkupgrade: Any) -> None:
    mkupgrade.change_host(faults={"preserve/host": {"kind": "slow", "seconds": 20}})
    session = Session(mkupgrade, "apply", mkupgrade.spec, "--yes")
    mkupgrade.wait_for("preserve/host")
    session.process.send_signal(2)
    assert session.end() == 3
    assert "Rolled back" in plain(session.seen)


def test_no_color_is_respected(mkupgrade: Any) -> None:
    session = Session(mkupgrade, "plan", mkupgrade.spec, NO_COLOR="1")
    assert session.end() == 0
    colours = re.findall(r"\x1b\[([0-9;]*)m", session.seen)
    assert not [c for c in colours if re.search(r"(^|;)(3|4|9)\d", c)]


def test_colours_on_a_terminal(mkupgrade: Any) -> None:
    session = Session(mkupgrade, "plan", mkupgrade.spec)
    assert session.end() == 0
    assert "\x1b[" in session.seen


def without_reader(mkupgrade: Any, stream: str, *arguments: object) -> int:
    read, write = os.pipe()
    os.close(read)
    other = "stderr" if stream == "stdout" else "stdout"
    with os.fdopen(write, "w") as gone:
        done = subprocess.run(
            mkupgrade.argv(*arguments), env=mkupgrade.environment, timeout=30, check=False,
            **{stream: gone, other: subprocess.PIPE},
        )  # fmt: skip
    if stream == "stdout":
        assert b"Traceback" not in done.stderr
        assert b"BrokenPipe" not in done.stderr
    return done.returncode


def test_a_reader_that_goes_away_is_no_error(mkupgrade: Any) -> None:
    wanted = ("plan", mkupgrade.spec, "--detailed-exitcode")
    assert without_reader(mkupgrade, "stdout", *wanted) == 2
    assert without_reader(mkupgrade, "stderr", "validate", "/nowhere.yaml") == 1


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_transaction_goes_on_when_nobody_reads(mkupgrade: Any, stream: str) -> None:
    mkupgrade("plan", mkupgrade.spec)
    assert without_reader(mkupgrade, stream, "apply", mkupgrade.spec, "--yes") == 0
    assert mkupgrade.json("status")["last"]["outcome"] == "committed"


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_the_exit_code_stays_that_of_the_transaction(mkupgrade: Any, stream: str) -> None:
    mkupgrade.change_host(failing_checks={"answers": "7.3.4"})
    assert without_reader(mkupgrade, stream, "apply", mkupgrade.spec, "--yes") == 3
