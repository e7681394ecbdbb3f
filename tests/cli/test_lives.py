"""Whole lives of a transaction, as real processes on a pretend host."""

from __future__ import annotations

import json
import signal
import socket
from pathlib import Path
from typing import Any

import pytest

SLOW = {"kind": "slow", "seconds": 30.0}


def outcome(mkupgrade: Any) -> str:
    found = mkupgrade.json("status")["last"]
    return str(found["outcome"])


def running(mkupgrade: Any) -> str:
    return str(mkupgrade.host()["kernel"]["release"])


def workload(mkupgrade: Any) -> tuple[str, int]:
    """Whether it runs, and how often it was started from nothing."""
    found = mkupgrade.host()["workloads"]["counter"]
    return found["status"], found["life"]


def test_plan_apply_status_and_then_no_changes(mkupgrade: Any) -> None:
    saved = mkupgrade.directory / "plan.json"
    planned = mkupgrade("plan", mkupgrade.spec, "-o", saved, "--detailed-exitcode", code=2)
    assert planned.stdout.splitlines()[-1].startswith("Plan: 1 kernel to change, 1 workload")
    applied = mkupgrade("apply", saved)
    assert "Committed: Linux 7.2.13 -> 7.3.4" in applied.stdout
    assert running(mkupgrade) == "7.3.4"
    assert workload(mkupgrade) == ("running", 1)
    status = mkupgrade("status")
    assert "not proven by a cold boot" in status.stdout
    assert "committed" in status.stdout
    again = mkupgrade("apply", mkupgrade.spec, "--yes")
    assert again.stdout.splitlines()[-1].startswith("No changes.")
    assert mkupgrade("plan", mkupgrade.spec, "--detailed-exitcode", code=0)


def test_a_failing_check_brings_the_old_kernel_back(mkupgrade: Any) -> None:
    mkupgrade.change_host(failing_checks={"answers": "7.3.4"})
    page = mkupgrade.directory / "report.html"
    failed = mkupgrade("apply", mkupgrade.spec, "--yes", "--report-html", page, code=3)
    assert "Rolled back: Linux 7.2.13 -> 7.3.4 -> 7.2.13" in failed.stdout
    assert "answers" in failed.stdout
    assert running(mkupgrade) == "7.2.13"
    assert workload(mkupgrade) == ("running", 1)
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")


@pytest.mark.slow
def test_what_was_rolled_back_is_applied_again_only_when_asked(mkupgrade: Any) -> None:
    mkupgrade.change_host(failing_checks={"answers": "7.3.4"})
    mkupgrade("apply", mkupgrade.spec, "--yes", code=3)
    refused = mkupgrade("apply", mkupgrade.spec, "--yes", code=1)
    assert "rolled back before" in refused.stderr
    assert f"mkupgrade apply {mkupgrade.spec} --again" in refused.stderr
    seen = mkupgrade.json("status", mkupgrade.spec)
    assert not seen["will_act"]
    assert "rolled back before" in seen["why_not"][0]
    mkupgrade.change_host(failing_checks={})
    mkupgrade("apply", mkupgrade.spec, "--yes", "--again")
    assert outcome(mkupgrade) == "committed"


def test_failure_before_the_pivot_is_undone(mkupgrade: Any) -> None:
    mkupgrade.change_host(faults={"preserve/host": {"kind": "fail", "message": "no room"}})
    failed = mkupgrade("apply", mkupgrade.spec, "--yes", code=3)
    assert "no room" in failed.stdout
    assert "undone: " in failed.stdout
    assert running(mkupgrade) == "7.2.13"
    assert workload(mkupgrade) == ("running", 1)


@pytest.mark.slow
def test_a_killed_apply_is_resumed(mkupgrade: Any) -> None:
    mkupgrade.change_host(faults={"restore/counter": {"kind": "die-after"}})
    _, err = mkupgrade.process("apply", mkupgrade.spec, "--yes", code=-signal.SIGKILL)
    assert "Jump" in err
    status = mkupgrade.json("status")
    assert status["unfinished"]["section"] == "forward"
    assert status["running"] is None
    assert not status["will_act"]
    refused = mkupgrade("apply", mkupgrade.spec, "--yes", code=1)
    assert "mkupgrade resume" in refused.stderr
    assert "is not finished" in mkupgrade("plan", mkupgrade.spec).stderr
    resumed = mkupgrade("resume")
    assert "Committed" in resumed.stdout
    assert running(mkupgrade) == "7.3.4"
    assert workload(mkupgrade) == ("running", 1)


@pytest.mark.slow
def test_ctrl_c_once_undoes_everything(mkupgrade: Any) -> None:
    mkupgrade.change_host(faults={"preserve/host": SLOW})
    apply = mkupgrade.start("apply", mkupgrade.spec, "--yes")
    mkupgrade.wait_for("preserve/host")
    apply.send_signal(signal.SIGINT)
    out, err = apply.communicate(timeout=20)
    assert apply.returncode == 3, (out, err)
    assert "nothing more is started" in err
    assert "Rolled back" in out
    assert running(mkupgrade) == "7.2.13"
    assert workload(mkupgrade) == ("running", 1)


@pytest.mark.slow
def test_sigterm_counts_as_ctrl_c(mkupgrade: Any) -> None:
    mkupgrade.change_host(faults={"preserve/host": SLOW})
    apply = mkupgrade.start("apply", mkupgrade.spec, "--yes")
    mkupgrade.wait_for("preserve/host")
    apply.send_signal(signal.SIGTERM)
    apply.communicate(timeout=20)
    assert apply.returncode == 3


@pytest.mark.slow
def test_a_shutdown_in_the_middle_of_resume_at_boot_rolls_nothing_back(mkupgrade: Any) -> None:
    mkupgrade.change_host(faults={"soak/host": SLOW})
    apply = mkupgrade.start("apply", mkupgrade.spec, "--yes")
    mkupgrade.wait_for("soak/host")
    apply.kill()
    apply.communicate(timeout=20)
    resume = mkupgrade.start("resume", "--boot")
    while (mkupgrade.json("status")["running"] or {}).get("pid") != resume.pid:
        assert resume.poll() is None
    resume.send_signal(signal.SIGTERM)
    resume.communicate(timeout=20)
    assert resume.returncode == 7
    mkupgrade.change_host(faults={})
    mkupgrade("resume", "--boot", code=0)
    assert outcome(mkupgrade) == "committed"
    assert workload(mkupgrade) == ("running", 1)


@pytest.mark.slow
def test_a_closed_terminal_does_not_stop_a_transaction(mkupgrade: Any) -> None:
    mkupgrade.change_host(faults={"preserve/host": {"kind": "slow", "seconds": 0.8}})
    apply = mkupgrade.start("apply", mkupgrade.spec, "--yes")
    mkupgrade.wait_for("preserve/host")
    apply.send_signal(signal.SIGHUP)
    apply.communicate(timeout=20)
    assert apply.returncode == 0
    assert outcome(mkupgrade) == "committed"


@pytest.mark.slow
def test_ctrl_c_twice_stops_at_once_and_is_resumed(mkupgrade: Any) -> None:
    hangs = {**SLOW, "on": "revert", "times": 1}
    mkupgrade.change_host(
        faults={"load-kernel/host": hangs, "preserve/host": {"kind": "fail", "times": 1}}
    )
    with mkupgrade.start("apply", mkupgrade.spec, "--yes") as apply:
        mkupgrade.wait_for("load-kernel/host", "revert_intended")
        apply.send_signal(signal.SIGINT)
        # Signals of one kind are not counted while one is pending: wait for the answer.
        while "nothing more is started" not in apply.stderr.readline():
            assert apply.poll() is None
        apply.send_signal(signal.SIGINT)
        out, _ = apply.communicate(timeout=20)
    assert apply.returncode == 7, out
    assert "mkupgrade resume" in out
    assert mkupgrade.json("status")["unfinished"]["interrupted"]
    mkupgrade("resume", code=3)
    assert running(mkupgrade) == "7.2.13"
    assert workload(mkupgrade) == ("running", 1)


@pytest.mark.slow
def test_a_stale_plan_is_refused(mkupgrade: Any) -> None:
    saved = mkupgrade.directory / "plan.json"
    mkupgrade("plan", mkupgrade.spec, "-o", saved)
    mkupgrade.change_host(signature_enforced=True)
    refused = mkupgrade("apply", saved, code=5)
    assert "signature_enforced: False -> True" in refused.stderr
    assert not (mkupgrade.state / "journal.db").exists()


@pytest.mark.slow
def test_two_applies_at_the_same_time(mkupgrade: Any) -> None:
    mkupgrade.change_host(faults={"preserve/host": {"kind": "slow", "seconds": 1.5}})
    first = mkupgrade.start("apply", mkupgrade.spec, "--yes")
    mkupgrade.wait_for("preserve/host")
    second = mkupgrade("apply", mkupgrade.spec, "--yes", code=6)
    assert f"process {first.pid}" in second.stderr
    rollback = mkupgrade("rollback", "--yes", code=6)
    assert "nothing was changed" in rollback.stderr
    seen = mkupgrade.json("status")
    assert seen["running"]["pid"] == first.pid
    assert seen["unfinished"]["running"] == ["preserve/host"]
    watched = mkupgrade("status", "--watch")
    assert "Committed" in watched.stdout
    first.communicate(timeout=20)
    assert first.returncode == 0


@pytest.mark.slow
def test_abort_undoes_what_another_process_runs(mkupgrade: Any) -> None:
    mkupgrade.change_host(faults={"preserve/host": SLOW})
    apply = mkupgrade.start("apply", mkupgrade.spec, "--yes")
    mkupgrade.wait_for("preserve/host")
    aborted = mkupgrade("abort", "--reason", "wrong day")
    assert "Rolled back" in aborted.stdout
    assert "wrong day" in aborted.stdout
    apply.communicate(timeout=20)
    assert apply.returncode == 3
    assert running(mkupgrade) == "7.2.13"


@pytest.mark.slow
def test_abort_undoes_what_nobody_runs(mkupgrade: Any) -> None:
    mkupgrade.change_host(faults={"preserve/host": {"kind": "die-before"}})
    mkupgrade.process("apply", mkupgrade.spec, "--yes", code=-signal.SIGKILL)
    mkupgrade("abort")
    assert outcome(mkupgrade) == "rolled-back"
    assert workload(mkupgrade) == ("running", 1)
    nothing = mkupgrade("abort", code=1)
    assert "no transaction is running or unfinished" in nothing.stderr


@pytest.mark.slow
def test_rollback_after_commit(mkupgrade: Any) -> None:
    mkupgrade("apply", mkupgrade.spec, "--yes")
    assert mkupgrade("rollback", code=1).stderr.startswith("error: not confirmed")
    mkupgrade("rollback", "--yes", code=0)
    assert running(mkupgrade) == "7.2.13"
    assert workload(mkupgrade) == ("running", 1)
    over = mkupgrade("rollback", "--yes", code=1)
    assert "over: rolled-back" in over.stderr


def test_resume_at_boot_is_quiet_without_a_transaction(mkupgrade: Any, tmp_path: Path) -> None:
    quiet = mkupgrade("resume", "--boot")
    assert quiet.stdout == quiet.stderr == ""
    assert mkupgrade("resume").stdout == "No transaction is unfinished.\n"


@pytest.mark.slow
def test_resume_at_boot_lets_the_boot_go_on(mkupgrade: Any, tmp_path: Path) -> None:
    """mkupgrade-resume.service is of Type=notify: without a word it would count as failed."""
    address = tmp_path / "notify"
    mkupgrade.environment["NOTIFY_SOCKET"] = str(address)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(address))
        systemd.settimeout(10)
        mkupgrade("resume", "--boot")
        assert systemd.recv(100) == b"READY=1"


@pytest.mark.slow
def test_resume_at_boot_leaves_what_waits_for_the_operator(mkupgrade: Any) -> None:
    text = mkupgrade.spec.read_text(encoding="utf-8") + "rollback: {automatic: false}\n"
    mkupgrade.spec.write_text(text, encoding="utf-8")
    mkupgrade.change_host(failing_checks={"answers": "7.3.4"})
    stands = mkupgrade("apply", mkupgrade.spec, "--yes", code=7)
    assert "Next: mkupgrade rollback" in stands.stdout
    boot = mkupgrade("resume", "--boot", code=6)
    assert "waits for you" in boot.stderr
    assert mkupgrade.json("status")["unfinished"]["waiting"]
    mkupgrade("rollback", "--yes", code=0)
    assert running(mkupgrade) == "7.2.13"


def test_an_effect_that_nobody_can_tell_is_never_a_success(mkupgrade: Any) -> None:
    mkupgrade.change_host(faults={"load-kernel/host": {"kind": "unknown"}})
    stopped = mkupgrade("apply", mkupgrade.spec, "--yes", code=8)
    assert "Outcome unknown" in stopped.stdout
    assert "Next: mkupgrade resume" in stopped.stdout
    assert not mkupgrade.json("status")["will_act"]


@pytest.mark.slow
def test_resume_goes_on_with_the_last_transaction_if_its_outcome_is_unknown(mkupgrade: Any) -> None:
    """It is the command that the error names; at boot, with nobody to look, it stands still."""
    mkupgrade.change_host(faults={"load-kernel/host": {"kind": "unknown"}})
    mkupgrade("apply", mkupgrade.spec, "--yes", code=8)
    assert "outcome" not in mkupgrade("resume", "--boot", code=0).stdout
    mkupgrade("resume", code=8)
    mkupgrade.change_host(in_doubt=[])
    assert "Rolled back" in mkupgrade("resume", code=3).stdout
    assert running(mkupgrade) == "7.2.13"
    assert "No transaction is unfinished" in mkupgrade("resume", code=0).stdout


@pytest.mark.slow
def test_a_reset_that_loses_the_new_kernel_ends_in_the_old_one(mkupgrade: Any) -> None:
    mkupgrade("plan", mkupgrade.spec)
    image = mkupgrade.state / "boot" / "vmlinuz-7.3.4"
    image.write_text(image.read_text().replace('"ok"', '"panic-at-boot"'), encoding="utf-8")
    assert "panic-at-boot" in image.read_text()
    mkupgrade("apply", mkupgrade.spec, "--yes", code=3)
    assert running(mkupgrade) == "7.2.13"
    seen = mkupgrade.json("status")
    assert seen["proven_by_cold_boot"], "it was a reset that led into this boot"


def test_history_is_verified_and_a_change_is_found(mkupgrade: Any) -> None:
    import sqlite3

    mkupgrade("apply", mkupgrade.spec, "--yes")
    assert "is whole" in mkupgrade("history", "--verify").stdout
    with sqlite3.connect(mkupgrade.state / "journal.db") as journal:
        journal.execute("UPDATE events SET body = replace(body, 'performed', 'perforned')"
                        " WHERE seq = 5")  # fmt: skip
    journal.close()
    broken = mkupgrade("history", "--verify", code=1)
    assert "event 5" in broken.stderr
    assert "whole" not in broken.stdout
    (mkupgrade.state / "journal.db").unlink()
    assert "events were removed" in mkupgrade("history", "--verify", code=1).stderr


def test_events_as_json_lines_and_the_report_last(mkupgrade: Any) -> None:
    lines = mkupgrade("apply", mkupgrade.spec, "--yes", "--json").stdout.splitlines()
    parsed = [json.loads(line) for line in lines]
    assert list(parsed[0]) == ["transaction", "plan_digest"]
    assert {next(iter(p)) for p in parsed[1:-1]} <= {"event", "progress"}
    report = parsed[-1]["report"]
    assert report["outcome"] == "committed"
    assert report["workloads"]["counter"]["blackout_seconds"] > 0


def test_progress_goes_to_stderr_and_the_result_to_stdout(mkupgrade: Any) -> None:
    done = mkupgrade("apply", mkupgrade.spec, "--yes")
    assert "✓ Load Linux 7.3.4" in done.stderr
    assert "✓" not in done.stdout
    assert "Committed" not in done.stderr


@pytest.mark.parametrize("verb", ["apply", "rollback"])
def test_without_a_terminal_a_yes_is_needed(mkupgrade: Any, verb: str) -> None:
    mkupgrade("plan", mkupgrade.spec)
    if verb == "rollback":
        mkupgrade("apply", mkupgrade.spec, "--yes")
    what = mkupgrade.spec if verb == "apply" else ""
    refused = mkupgrade(verb, *filter(None, [what]), code=1)
    assert "there is no terminal to ask on" in refused.stderr
    assert "--yes" in refused.stderr


@pytest.mark.slow
def test_logs_carry_transaction_and_step(mkupgrade: Any) -> None:
    done = mkupgrade(
        "apply", mkupgrade.spec, "--yes", "--log-level", "info", "--log-format", "json"
    )
    logs = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    performed = [entry for entry in logs if entry["event"] == "performed"]
    assert {"transaction", "step", "level", "timestamp"} <= set(performed[0])
