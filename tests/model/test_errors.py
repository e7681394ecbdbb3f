"""The error tree and the exit codes."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path

import pytest

from orchestrator.model import errors
from orchestrator.model.errors import (
    ErrorClass,
    GuardError,
    LockedError,
    MkupgradeError,
    StalePlanError,
    SystemCallError,
    UnknownOutcomeError,
)
from orchestrator.model.outcomes import ExitCode, Outcome

PAGE = Path(__file__).resolve().parents[2] / "docs" / "exit-codes.md"
TREE = [
    member
    for _, member in inspect.getmembers(errors, inspect.isclass)
    if issubclass(member, MkupgradeError)
]


def make(kind: type[MkupgradeError]) -> MkupgradeError:
    if issubclass(kind, SystemCallError):
        return kind("it failed", errno=16)
    return kind("it failed")


def test_every_kind_of_error_has_a_code_of_its_own() -> None:
    codes = [kind.code for kind in TREE]

    assert len(codes) == len(set(codes))
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", code) for code in codes)


@pytest.mark.parametrize("kind", TREE, ids=lambda kind: kind.__name__)
def test_every_error_is_plain_data_for_json(kind: type[MkupgradeError]) -> None:
    error = make(kind)
    error.where, error.next_command = "here", "mkupgrade status"

    data = json.loads(json.dumps(error.as_dict()))

    assert data["what"] == "it failed"
    assert data["where"] == "here"
    assert data["next_command"] == "mkupgrade status"
    assert data["class"] in {c.value for c in ErrorClass}
    assert isinstance(error.exit_code, ExitCode)


def test_an_error_shows_where_before_what() -> None:
    assert str(MkupgradeError("it failed", where="plan.yaml:3:1")) == "plan.yaml:3:1: it failed"
    assert str(MkupgradeError("it failed")) == "it failed"


def test_the_class_can_be_set_for_one_error_alone() -> None:
    busy = MkupgradeError("it failed", error_class=ErrorClass.BUSY)

    assert busy.error_class is ErrorClass.BUSY
    assert MkupgradeError("it failed").error_class is ErrorClass.FAILED


def test_what_policy_refuses_is_not_worth_another_try() -> None:
    assert GuardError("no").error_class is ErrorClass.REFUSED
    assert LockedError("no").error_class is ErrorClass.BUSY


def test_errors_with_an_exit_code_of_their_own() -> None:
    assert StalePlanError.exit_code is ExitCode.STALE_PLAN
    assert LockedError.exit_code is ExitCode.WAITING
    assert UnknownOutcomeError.exit_code is ExitCode.UNKNOWN
    assert MkupgradeError.exit_code is ExitCode.ERROR


def test_exit_codes_are_never_renumbered() -> None:
    assert {code.name: int(code) for code in ExitCode} == {
        "DONE": 0,
        "ERROR": 1,
        "CHANGES_PENDING": 2,
        "ROLLED_BACK": 3,
        "ROLLBACK_INCOMPLETE": 4,
        "STALE_PLAN": 5,
        "WAITING": 6,
        "INTERRUPTED": 7,
        "UNKNOWN": 8,
        "DEGRADED": 9,
        "COLD_REBOOT_NEEDED": 100,
    }


def test_only_a_commit_counts_as_success() -> None:
    assert [o for o in Outcome if o.exit_code is ExitCode.DONE] == [Outcome.COMMITTED]
    assert len({o.exit_code for o in Outcome}) == len(Outcome)


def test_the_page_on_exit_codes_is_true() -> None:
    text = PAGE.read_text(encoding="utf-8")

    codes = re.findall(r"^\| (\d+) \| `([A-Z_]+)` \|", text, re.MULTILINE)
    assert [(int(code), name) for code, name in codes] == [(int(c), c.name) for c in ExitCode]
    outcomes = re.findall(r"^\| `([a-z-]+)` \| (\d+) \|", text, re.MULTILINE)
    assert [(o, int(c)) for o, c in outcomes] == [(o.value, int(o.exit_code)) for o in Outcome]
