"""command, systemd, kernel, file: on real files and real programs."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from orchestrator.checks import Baseline, Checker, CheckResult, Sources, baseline_now
from orchestrator.model.spec import Check
from orchestrator.system import systemd

CHECK: TypeAdapter[Any] = TypeAdapter(Check)


@pytest.fixture
def run(control: Any) -> Any:
    def one(kind: str, checker: Checker | None = None, **keys: Any) -> CheckResult:
        check = CHECK.validate_python({"name": "it", "kind": kind, **keys})
        return (checker or Checker()).run(check, control)

    return one


# command


def test_a_command_holds_by_its_exit_status(run: Any) -> None:
    assert run("command", run=["true"]).detail == "exit status 0"
    assert run("command", run=["sh", "-c", "exit 3"], exit_code=3).ok


def test_another_exit_status_comes_with_what_was_said(run: Any) -> None:
    result = run("command", run=["sh", "-c", "echo out; echo why >&2; exit 2"])

    assert not result.ok
    assert result.detail == 'exit status 2, wanted 0: "why"'


def test_text_is_looked_for_in_standard_output_only(run: Any) -> None:
    argv = ["sh", "-c", "echo ready; echo broken >&2"]

    assert run("command", run=argv, stdout_contains="ready").ok
    assert not run("command", run=argv, stdout_contains="broken").ok


def test_arguments_reach_the_program_without_a_shell(run: Any) -> None:
    argv = ["printf", "%s", "$HOME; `id` *"]

    assert run("command", run=argv, stdout_contains="$HOME; `id` *").ok


def test_a_missing_program_does_not_hold(run: Any) -> None:
    result = run("command", run=["no-such-program-here"])

    assert not result.ok
    assert "no-such-program-here" in result.detail


def test_a_command_that_hangs_is_killed_with_its_children(run: Any, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    argv = ["sh", "-c", f"sleep 600 & echo $! > {pid_file}; wait"]

    began = time.monotonic()
    result = run("command", run=argv, timeout="300ms")

    assert time.monotonic() - began < 3
    assert not result.ok
    child = int(pid_file.read_text())
    for _ in range(100):
        if (
            not Path(f"/proc/{child}/status").exists()
            or "Z (zombie)" in Path(f"/proc/{child}/status").read_text()
        ):
            break
        time.sleep(0.02)
    else:
        pytest.fail("the child outlived its check")


def test_a_stop_ends_a_running_command(run: Any, control: Any) -> None:
    control.stop = True

    began = time.monotonic()
    assert not run("command", run=["sleep", "60"]).ok
    assert time.monotonic() - began < 5


def test_what_a_program_says_is_shown_on_one_printable_line(run: Any) -> None:
    result = run("command", run=["sh", "-c", "printf 'a\\033[31m\\nb' >&2; exit 1"])

    assert result.detail.isprintable()


# systemd


@pytest.fixture
def unit(monkeypatch: Any) -> Any:
    def set_to(load: str, active: str) -> None:
        seen = systemd.Unit("x.service", load, active, "sub", 0, "", "")
        monkeypatch.setattr(systemd, "show", lambda name: seen)

    return set_to


def test_a_unit_in_the_wanted_state_holds(run: Any, unit: Any) -> None:
    unit("loaded", "active")
    assert run("systemd", unit="x.service").detail == "active (sub)"

    unit("loaded", "inactive")
    assert run("systemd", unit="x.service", state="inactive").ok


@pytest.mark.parametrize("active", ["failed", "activating", "inactive", "reloading"])
def test_a_unit_in_another_state_does_not(run: Any, unit: Any, active: str) -> None:
    unit("loaded", active)

    assert run("systemd", unit="x.service").detail == f"{active} (sub), wanted active"


def test_a_unit_that_does_not_exist_is_not_taken_for_inactive(run: Any, unit: Any) -> None:
    unit("not-found", "inactive")

    assert run("systemd", unit="x.service", state="inactive").detail == "x.service is not-found"


@pytest.mark.skipif(systemd.is_running(), reason="systemd runs here")
def test_a_host_without_systemd_does_not_hold_and_says_so(run: Any) -> None:
    assert "systemd does not run" in run("systemd", unit="x.service").detail


# kernel

LOG = """\
4,10,100,-;Linux version 7.3.4
 SUBSYSTEM=cpu
12,11,200,-;BUG: says a program of user space
6,12,300,-;e1000: link is up\\x0awith an escape
"""


@pytest.fixture
def sources(tmp_path: Path) -> Sources:
    tainted, log = tmp_path / "tainted", tmp_path / "kmsg"
    tainted.write_text("0\n")
    log.write_text(LOG)
    return Sources(tainted, log)


def test_a_quiet_kernel_of_the_wanted_release_holds(run: Any, sources: Sources) -> None:
    release = os.uname().release

    assert run("kernel", Checker(sources=sources), release=release).detail == f"release {release}"


def test_the_nixos_system_that_is_booted_is_held_to_the_wanted_one(
    run: Any, sources: Sources, tmp_path: Path
) -> None:
    wanted, other, booted = tmp_path / "wanted", tmp_path / "other", tmp_path / "booted-system"
    wanted.mkdir()
    other.mkdir()
    checker = Checker(sources=replace(sources, system=booted))
    assert "No such file" in run("kernel", checker, system=str(wanted)).detail
    booted.symlink_to(other)
    result = run("kernel", checker, system=str(wanted))
    assert not result.ok
    assert result.detail == f'system "{other}", wanted "{wanted}"'
    booted.unlink()
    booted.symlink_to(wanted)
    assert run("kernel", checker, system=str(booted)).ok


def test_another_release_does_not_hold(run: Any, sources: Sources) -> None:
    result = run("kernel", Checker(sources=sources), release="0.0.1")

    assert result.detail == f'release "{os.uname().release}", wanted "0.0.1"'


def test_a_taint_that_was_there_before_is_forgiven(run: Any, sources: Sources) -> None:
    sources.tainted.write_text(f"{1 << 12 | 1 << 13}\n")

    result = run("kernel", Checker(sources=sources))
    assert result.detail == "newly tainted: OE (bits 0x3000)"

    result = run("kernel", Checker(Baseline(tainted=1 << 12), sources=sources))
    assert result.detail == "newly tainted: E (bits 0x2000)"

    assert run("kernel", Checker(Baseline(tainted=0x3000), sources=sources)).ok
    assert run("kernel", Checker(sources=sources), not_tainted=False).ok


def test_an_oops_in_the_log_does_not_hold(run: Any, sources: Sources) -> None:
    with sources.log.open("a") as log:
        log.write("1,20,400,-;Oops: 0000 [#1] SMP \\x1b[31m\n")

    result = run("kernel", Checker(sources=sources))

    assert result.detail.startswith("the kernel's log says \"Oops: 0000 [#1] SMP")
    assert result.detail.isprintable()
    assert run("kernel", Checker(sources=sources), log_excludes=[]).ok


def test_what_was_logged_before_the_baseline_is_forgiven(run: Any, sources: Sources) -> None:
    with sources.log.open("a") as log:
        log.write("1,20,400,-;Oops: an old one\n")

    assert run("kernel", Checker(Baseline(log_after=20), sources=sources)).ok
    assert not run("kernel", Checker(Baseline(log_after=19), sources=sources)).ok


def test_a_baseline_forgives_everything_until_now(run: Any, sources: Sources) -> None:
    sources.tainted.write_text("4096\n")
    with sources.log.open("a") as log:
        log.write("1,20,400,-;Oops: an old one\n")

    baseline = baseline_now(sources)

    assert baseline == Baseline(tainted=4096, log_after=20)
    assert run("kernel", Checker(baseline, sources=sources)).ok


def test_a_kernel_that_cannot_be_read_does_not_hold(run: Any, tmp_path: Path) -> None:
    result = run("kernel", Checker(sources=Sources(tmp_path / "a", tmp_path / "b")))

    assert not result.ok
    assert "taint cannot be read" in result.detail
    assert "log cannot be read" in result.detail


@pytest.mark.parametrize("junk", [b"", b"\xff\xfe;", b"no prefix", b"a,b,c;BUG: x", b"4;BUG: x"])
def test_junk_in_the_log_is_passed_over(run: Any, sources: Sources, junk: bytes) -> None:
    sources.log.write_bytes(junk)

    assert run("kernel", Checker(sources=sources)).ok


# file


def test_a_file_holds_by_being_there(run: Any, tmp_path: Path) -> None:
    assert run("file", path=str(tmp_path)).detail == "exists"
    assert run("file", path=str(tmp_path / "no")).detail == "no such file or directory"


def test_text_in_a_file_is_found_across_reads(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "long"
    path.write_bytes(b"x" * ((1 << 20) - 3) + b"needle" + b"y" * 100)

    assert run("file", path=str(path), contains="needle").detail == 'has "needle"'
    assert run("file", path=str(path), contains="noodle").detail == 'no "noodle" in it'


def test_pipes_and_devices_are_not_searched(run: Any, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    for path in (pipe, Path("/dev/zero")):
        assert run("file", path=str(path), contains="x").detail == "is not a regular file"


def test_a_file_without_end_is_searched_for_the_time_of_the_check(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "huge"
    with path.open("wb") as file:
        file.truncate(1 << 42)

    result = run("file", path=str(path), contains="x", timeout="100ms")

    assert result.detail == "too long to be searched in the check's time"
