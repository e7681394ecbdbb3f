"""Commands that are shown as the next can be copied and run as they are."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli import next_command
from orchestrator.cli.next_command import complete


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("MKUPGRADE_STATE_DIR", raising=False)
    next_command.forget()
    yield
    next_command.forget()


def shown(text: str) -> list[str]:
    """The arguments behind "next:" or "Next:"."""
    (command,) = re.findall(r"^\s*[Nn]ext:\s+mkupgrade (.*)$", text, re.MULTILINE)
    return shlex.split(command)


@pytest.mark.parametrize(
    "command",
    ["mkupgrade resume", "mkupgrade plan", "mkupgrade apply --help", "df -h /srv", "mkupgrade"],
)
def test_without_anything_known_nothing_is_added(command: str) -> None:
    assert complete(command) == command


@pytest.mark.parametrize(
    ("command", "completed"),
    [
        ("mkupgrade plan", "mkupgrade plan 'my plan.yaml'"),
        ("mkupgrade apply --again", "mkupgrade apply 'my plan.yaml' --again"),
        ("mkupgrade plan other.yaml", "mkupgrade plan other.yaml"),
        ("mkupgrade resume tx-1", "mkupgrade resume tx-1 --state-dir /srv/state"),
        ("mkupgrade status --watch", "mkupgrade status --watch --state-dir /srv/state"),
        ("mkupgrade history --state-dir /x", "mkupgrade history --state-dir /x"),
        ("mkupgrade rollback --help", "mkupgrade rollback --help"),
        ("mkupgrade schema", "mkupgrade schema"),
    ],
)
def test_file_and_state_directory_are_added_where_they_are_taken(
    command: str, completed: str
) -> None:
    next_command.remember_plan(Path("my plan.yaml"), saved=False)
    next_command.remember_state_dir(Path("/srv/state"))
    assert complete(command) == completed


def test_the_state_directory_by_default_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    next_command.remember_state_dir(Path("/var/lib/mkupgrade"))
    assert complete("mkupgrade resume") == "mkupgrade resume"
    next_command.remember_state_dir(Path("/srv/state"))
    monkeypatch.setenv("MKUPGRADE_STATE_DIR", "/srv/state")
    assert complete("mkupgrade resume") == "mkupgrade resume"


def test_the_way_out_of_a_stale_plan_works_as_it_is_shown(mkupgrade: Any) -> None:
    saved = mkupgrade.directory / "plan.json"
    mkupgrade("plan", mkupgrade.spec, "-o", saved)
    mkupgrade.change_host(hostname="renamed")
    refused = mkupgrade("apply", saved, code=5)
    assert shown(refused.stderr) == ["plan", str(saved), "-o", str(saved)]
    mkupgrade(*shown(refused.stderr))
    mkupgrade("apply", saved)


def test_an_interrupted_transaction_is_resumed_as_it_is_shown(mkupgrade: Any) -> None:
    del mkupgrade.environment["MKUPGRADE_STATE_DIR"]
    mkupgrade.change_host(
        failing_checks={"answers": "7.3.4"}, faults={"return.checkpoint/counter": {"kind": "fail"}}
    )
    stuck = mkupgrade("apply", mkupgrade.spec, "--yes", code=4)
    mkupgrade.change_host(failing_checks={}, faults={})
    assert shown(stuck.stdout)[-2:] == ["--state-dir", str(mkupgrade.state)]
    mkupgrade(*shown(stuck.stdout), code=3)


def test_a_host_that_cannot_carry_a_plan_out_is_looked_at_with_that_plan(mkupgrade: Any) -> None:
    mkupgrade("plan", mkupgrade.spec)
    mkupgrade.change_host(signature_enforced=True)
    refused = mkupgrade("plan", mkupgrade.spec, code=1)
    assert shown(refused.stderr) == ["doctor", str(mkupgrade.spec)]
    looked = mkupgrade("doctor", mkupgrade.spec, code=1)
    assert "next:" not in looked.stderr
