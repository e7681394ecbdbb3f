"""A rehearsal says "held" only if everything did."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from orchestrator.model.outcomes import ExitCode
from orchestrator.rehearsal.client import Seen
from orchestrator.rehearsal.display import Display, clean, show_result
from orchestrator.rehearsal.result import LogSeen, Rehearsal, read_log

GOOD = Rehearsal(
    source="7.2.13",
    target="7.3.4",
    notes=("kernels from somewhere",),
    report={
        "outcome": "committed",
        "steps": [
            {"title": "Jump", "state": "performed", "attempts": [{"seconds": 4.5}]},
            {"title": "Never tried", "state": "pending", "attempts": []},
        ],
        "workloads": {"counter": {"blackout_seconds": 7.25, "how": "criu over kho"}},
    },
    release_after="7.3.4",
    seen=Seen(messages=100, last=120, releases=("7.2.13", "7.3.4"), longest_gap=7.5),
    logs={"counter": LogSeen(120, 0, 0)},
    new_client_served=True,
    nothing_left=True,
    seconds=42.0,
)


def test_all_good_is_held() -> None:
    assert GOOD.held
    assert GOOD.exit_code is ExitCode.DONE


@pytest.mark.parametrize(
    ("broken", "code"),
    [
        ({"release_after": "7.2.13"}, ExitCode.ERROR),
        ({"report": {}}, ExitCode.ERROR),
        ({"report": {"outcome": "rolled-back"}}, ExitCode.ROLLED_BACK),
        ({"report": {"outcome": "unknown"}}, ExitCode.UNKNOWN),
        ({"report": {"outcome": "of another version"}}, ExitCode.ERROR),
        ({"seen": Seen()}, ExitCode.ERROR),
        ({"seen": Seen(10, 10, 1, releases=("7.3.4",))}, ExitCode.ERROR),
        ({"seen": Seen(10, 10, 0, 1, releases=("7.3.4",))}, ExitCode.ERROR),
        ({"seen": Seen(10, 10, releases=("7.3.4",), ended="reset")}, ExitCode.ERROR),
        ({"seen": Seen(10, 10, releases=("7.2.13",))}, ExitCode.ERROR),
        ({"logs": {"counter": LogSeen(0, 0, 0)}}, ExitCode.ERROR),
        ({"logs": {"counter": LogSeen(10, 1, 0)}}, ExitCode.ERROR),
        ({"new_client_served": False}, ExitCode.ERROR),
        ({"nothing_left": False}, ExitCode.ERROR),
    ],
)
def test_one_thing_that_does_not_hold_is_enough(broken: dict[str, Any], code: ExitCode) -> None:
    result = replace(GOOD, **broken)
    assert not result.held
    assert result.exit_code is code


def test_what_did_not_commit_says_why() -> None:
    report = {"outcome": "rolled-back", "reason": "rolled back", "rollback_cause": "check failed"}
    finding = replace(GOOD, report=report).findings()[0]
    assert (finding.held, finding.seen) == (False, "rolled-back: check failed")


def test_json_and_tables_say_the_same() -> None:
    said = GOOD.as_dict()
    assert (said["held"], said["exit_code"]) == (True, 0)
    assert said["client"]["longest_gap"] == 7.5
    stream = io.StringIO()
    show_result(GOOD, Console(file=stream, width=160, markup=False))
    text = stream.getvalue()
    for part in ("Jump", "4.50", "7.25 s, criu over kho", "7.50 s", "Everything held."):
        assert part in text
    assert "Never tried" not in text
    stream = io.StringIO()
    show_result(replace(GOOD, nothing_left=False), Console(file=stream, width=160))
    assert "NOT everything held." in stream.getvalue()


@given(st.integers(1, 300))
def test_a_whole_log_is_whole_and_an_unfinished_line_is_not_judged(count: int) -> None:
    text = "".join(f"{n} 7.2.13\n" for n in range(1, count + 1))
    assert read_log(text + f"{count + 1}") == LogSeen(count, 0, 0)


@given(st.integers(2, 100), st.data())
def test_a_log_with_a_hole_or_a_repetition_is_not_whole(count: int, data: st.DataObject) -> None:
    numbers = list(range(1, count + 1))
    position = data.draw(st.integers(0, count - 2))
    hole = numbers[:position] + numbers[position + 1 :]
    assert not read_log("".join(f"{n} x\n" for n in hole)).whole
    twice = [*numbers[: position + 1], *numbers[position:]]
    assert not read_log("".join(f"{n} x\n" for n in twice)).whole


@given(st.text())
def test_any_log_can_be_read(text: str) -> None:
    assert read_log(text).lines == len(text.split("\n")) - 1


@given(st.text())
def test_nothing_from_the_guest_can_steer_the_terminal(text: str) -> None:
    assert all(c.isprintable() for c in clean(text))


def test_where_there_is_no_terminal_lines_come_as_they_happen() -> None:
    stream = io.StringIO()
    with Display(stream) as display:
        display.say("booting")
        display.kernel("7.2.13")
        display.output("\x1b[2Jstep")
        display.output("   ")
    lines = stream.getvalue().splitlines()
    assert [line[7:] for line in lines] == [
        "==> booting",
        "==> guest: Linux 7.2.13 is running",
        "     [2Jstep",
    ]
