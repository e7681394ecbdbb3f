"""Whatever is given as a file: an error with a place and a way on, never a traceback."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli.main import as_our_error
from orchestrator.cli.verbs.apply import refuse_if_not_permitted
from orchestrator.cli.wiring import driver_named
from orchestrator.model.errors import GuardError, LockedError
from orchestrator.model.outcomes import ExitCode
from orchestrator.system.multikernel import FileSystem

TAKES_A_SPEC = ["validate", "plan", "graph", "apply", "doctor"]


BAD = ["missing", "directory", "empty", "binary", "list", "garbage plan", "foreign plan"]


def bad_files(directory: Path) -> dict[str, Path]:
    made = {
        "missing": directory / "none.yaml",
        "directory": directory,
        "empty": directory / "empty.yaml",
        "binary": directory / "binary.yaml",
        "list": directory / "list.yaml",
        "garbage plan": directory / "plan.json",
        "foreign plan": directory / "foreign.json",
    }
    made["empty"].write_bytes(b"")
    made["binary"].write_bytes(bytes(range(256)) * 64)
    made["list"].write_text("- a\n- \x1b[31mb\n", encoding="utf-8")
    made["garbage plan"].write_text('{"format": "mkupgrade-plan/v1", ', encoding="utf-8")
    made["foreign plan"].write_text('{"format": "other/v9"}', encoding="utf-8")
    return made


@pytest.mark.parametrize("verb", TAKES_A_SPEC)
@pytest.mark.parametrize("kind", BAD)
def test_a_bad_file_is_an_error_with_a_place(
    run: Any, tmp_path: Path, verb: str, kind: str
) -> None:
    path = bad_files(tmp_path)[kind]
    shown = run(verb, path, *(["--yes"] if verb == "apply" else []))
    assert shown.exit_code == ExitCode.ERROR
    assert shown.stdout == ""
    assert shown.stderr.startswith("error: ")
    assert "\x1b" not in shown.stderr
    assert "a fault in mkupgrade" not in shown.stderr
    assert path.name in shown.stderr


@pytest.mark.parametrize("verb", TAKES_A_SPEC)
def test_with_json_the_error_is_json(run: Any, tmp_path: Path, verb: str) -> None:
    shown = run(verb, tmp_path / "none.yaml", "--json")
    error = json.loads(shown.stderr)
    assert error["exit_code"] == 1
    assert set(error["error"]) >= {"code", "class", "what", "where", "state", "next_command"}


@pytest.mark.parametrize("verb", ["status", "history", "report", "resume", "rollback", "abort"])
@pytest.mark.parametrize("kind", ["file", "link", "garbage", "open to others"])
def test_a_state_directory_that_is_none(run: Any, tmp_path: Path, verb: str, kind: str) -> None:
    state = tmp_path / "state"
    if kind == "file":
        state.write_text("x", encoding="utf-8")
    else:
        state.mkdir(mode=0o700)
        journal = state / "journal.db"
        if kind == "link":
            journal.symlink_to("/etc/passwd")
        else:
            journal.write_bytes(os.urandom(4096))
            journal.chmod(0o600 if kind == "garbage" else 0o666)
    shown = run(verb, "--state-dir", state, *(["--yes"] if verb == "rollback" else []))
    assert "a fault in mkupgrade" not in shown.stderr
    if kind != "file":
        assert shown.exit_code == 1
        assert shown.stderr.startswith("error: ")
        assert "journal.db" in shown.stderr


def test_a_tampered_plan_is_refused(mkupgrade: Any) -> None:
    saved = mkupgrade.directory / "plan.json"
    mkupgrade("plan", mkupgrade.spec, "-o", saved)
    assert saved.stat().st_mode & 0o077 == 0
    text = saved.read_text(encoding="utf-8")
    saved.write_text(text.replace("7.3.4 for kexec", "7.3.4 for ever"), encoding="utf-8")
    refused = mkupgrade("apply", saved, code=1)
    assert "does not fit its digest" in refused.stderr
    assert not (mkupgrade.state / "journal.db").exists()


def test_a_plan_without_its_spec_is_refused(mkupgrade: Any, make_graph: Any) -> None:
    from orchestrator.planning import save

    saved = mkupgrade.directory / "plan.json"
    saved.write_text(save(make_graph().model_copy(update={"spec": None})), encoding="utf-8")
    refused = mkupgrade("apply", saved, code=1)
    assert "spec" in refused.stderr


def test_a_report_that_cannot_be_written_is_found_before_anything_happens(mkupgrade: Any) -> None:
    page = mkupgrade.directory / "none" / "report.html"
    refused = mkupgrade("apply", mkupgrade.spec, "--yes", "--report-html", page, code=1)
    assert "there is no directory" in refused.stderr
    assert not (mkupgrade.state / "journal.db").exists()


def test_the_multikernel_driver_is_refused_on_any_other_kernel(mkupgrade: Any) -> None:
    text = mkupgrade.spec.read_text(encoding="utf-8")
    mkupgrade.spec.write_text(text.replace("driver: simulated", "driver: multikernel"))
    refused = mkupgrade("plan", mkupgrade.spec, code=1)
    assert "this is no multikernel host: this kernel has no /sys/fs/multikernel" in refused.stderr


@pytest.mark.parametrize("reason", [None, "no multikernel file system is mounted"])
def test_a_host_of_the_multikernel_kernel_is_told_by_its_file_system(
    reason: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FileSystem, "why_not", lambda _: reason)
    if reason is not None:
        assert driver_named("auto", tmp_path).name == "live-update"
        return
    assert driver_named("auto", tmp_path).name == "multikernel"


def test_unknown_and_ambiguous_transactions(mkupgrade: Any) -> None:
    assert "no transaction yet" in mkupgrade("report", code=1).stderr
    mkupgrade("apply", mkupgrade.spec, "--yes")
    assert 'no transaction "1999"' in mkupgrade("report", "1999", code=1).stderr
    assert "Committed" in mkupgrade("report", "2").stdout


def test_nothing_begins_on_a_machine_that_was_not_permitted(make_graph: Any) -> None:
    """Here the tests run: whatever machine it is, it is not the one of this plan."""
    graph = make_graph({"machine_id": "0" * 32}).model_copy(update={"driver": "live-update"})
    with pytest.raises(GuardError, match="refused to change the kernel") as caught:
        refuse_if_not_permitted(graph)
    assert caught.value.next_command == "mkupgrade host permit"
    assert caught.value.exit_code is ExitCode.ERROR
    refuse_if_not_permitted(graph.model_copy(update={"driver": "simulated"}))


def test_any_error_becomes_one_of_ours() -> None:
    bug = as_our_error(ZeroDivisionError("oh \x1b[2J"))
    assert bug is not None
    assert bug.error_class.value == "bug"
    denied = as_our_error(PermissionError(13, "Permission denied", "/var/lib/mkupgrade"))
    assert denied is not None
    assert denied.state == "this may need root"
    stopped = as_our_error(KeyboardInterrupt())
    assert stopped is not None
    assert stopped.exit_code is ExitCode.ERROR
    locked = LockedError("x")
    assert as_our_error(locked) is locked
    assert as_our_error(SystemExit(0)) is None
