"""What is easily got wrong at the keyboard, and what is said of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest


def test_a_file_that_is_not_there_is_looked_for(run: Any, tmp_path: Path) -> None:
    missing = tmp_path / "plan.yaml"
    for verb in ("validate", "plan", "apply", "doctor", "graph", "rehearse"):
        found = run(verb, missing)
        assert found.exit_code == 1
        assert "the spec cannot be read: No such file or directory" in found.stderr
        assert f"next:  ls -ld {tmp_path}" in found.stderr


def test_a_directory_is_no_plan(run: Any, tmp_path: Path) -> None:
    assert "the spec is not a file" in run("apply", tmp_path).stderr


def test_a_spec_through_a_pipe_is_read_whole(mkupgrade: Any) -> None:
    pipe = mkupgrade.directory / "pipe"
    os.mkfifo(pipe)
    with mkupgrade.start("plan", pipe) as process:
        pipe.write_text(mkupgrade.spec.read_text())
        out, err = process.communicate(timeout=60)
    assert "Plan: 1 kernel to change" in out, err


def test_a_saved_plan_is_validated_by_its_own_rules(mkupgrade: Any) -> None:
    saved = mkupgrade.directory / "plan.json"
    mkupgrade("plan", mkupgrade.spec, "-o", saved)
    assert "valid: test-upgrade" in mkupgrade("validate", saved).stdout
    saved.write_text(saved.read_text().replace("7.3.4", "7.3.5"))
    edited = mkupgrade("validate", saved, code=1)
    assert "it was edited or damaged" in edited.stderr
    assert f"next:  mkupgrade plan PLAN.yaml -o {saved}" in edited.stderr


def test_a_saved_plan_is_not_rehearsed(mkupgrade: Any) -> None:
    saved = mkupgrade.directory / "plan.json"
    mkupgrade("plan", mkupgrade.spec, "-o", saved)
    assert "the guest plans for itself" in mkupgrade("rehearse", saved, code=1).stderr


def test_a_group_without_a_verb_names_its_verbs(run: Any) -> None:
    found = run("host")
    assert found.exit_code == 1
    assert "mkupgrade host needs one of the verbs forbid, permit" in found.stderr
    assert "\\n" not in found.stderr


def test_status_tells_of_state_on_disk_that_no_transaction_knows(run: Any, tmp_path: Path) -> None:
    (tmp_path / "handover/20260101-000000-gone/forward").mkdir(parents=True)
    told = " ".join(run("status", "--state-dir", tmp_path).output.split())
    assert "state of unknown transaction 20260101-000000-gone" in told
    assert "bring its journal back" in told


def test_status_says_where_it_found_nothing(run: Any, tmp_path: Path) -> None:
    nowhere = tmp_path / "mistyped"
    assert f"no transaction has ended here yet ({nowhere})" in (
        run("status", "--state-dir", nowhere).stdout
    )


def test_a_reason_is_not_said_twice(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from orchestrator.model.errors import GuardError
    from orchestrator.system import guard

    def refuse() -> None:
        raise GuardError("refused to x: inside a container", details=("inside a container", "y"))

    monkeypatch.setattr(guard, "permit_host", refuse)
    said = run("host", "permit").stderr
    assert said.count("inside a container") == 1
    assert "\n  y\n" in said


def test_lines_of_tables_end_where_their_text_ends(mkupgrade: Any) -> None:
    mkupgrade("apply", mkupgrade.spec, "--yes")
    for verb in (("plan", mkupgrade.spec), ("report",), ("doctor", mkupgrade.spec), ("history",)):
        lines = mkupgrade(*verb).stdout.splitlines()
        assert [line for line in lines if line != line.rstrip()] == []
