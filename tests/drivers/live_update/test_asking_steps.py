"""Hooks, checks and soak: what is believed of commands that are not ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.drivers.live_update import checking
from orchestrator.drivers.live_update.job import Job
from orchestrator.model.errors import CheckFailedError, ToolError
from orchestrator.model.kinds import Kind
from orchestrator.model.steps import Inspection, Section, Step


def hook(host: Any, run: list[str], undo: list[str] | None = None, **rest: Any) -> Step:
    document = {"name": "h", "run": run, "undo": undo, "timeout": "5s"}
    return host.step(Kind.RUN_HOOK, hook=document, **rest)


def check(name: str, *argv: str) -> dict[str, Any]:
    return {"kind": "command", "name": name, "run": list(argv), "within": "0s", "interval": "10ms"}


def soak(host: Any, argv: str, duration: float, max_failures: int = 0) -> Step:
    checks = [check("up", argv)]
    fields = {"duration": duration, "interval": 0.01, "max_failures": max_failures}
    return host.step(Kind.SOAK, **fields, checks=checks)


def test_a_hook_learns_which_transaction_it_serves(host: Any, tmp_path: Path) -> None:
    step = hook(host, ["sh", "-c", f'echo "$MKUPGRADE_TRANSACTION" > {tmp_path}/seen'])
    host.perform(step)
    assert (tmp_path / "seen").read_text() == "t-20260901-ab12cd\n"
    assert host.verdict(step) is Inspection.PRESENT


def test_a_failed_hook_is_undone_only_if_it_has_an_undo(host: Any, tmp_path: Path) -> None:
    without, with_undo = hook(host, ["false"]), hook(host, ["false"], ["touch", f"{tmp_path}/u"])
    assert host.verdict(with_undo) is Inspection.ABSENT
    with pytest.raises(ToolError):
        host.perform(without)
    assert host.verdict(without) is Inspection.ABSENT
    assert host.verdict(with_undo) is Inspection.PARTIAL
    host.revert(with_undo)
    assert (tmp_path / "u").exists()
    assert host.verdict(with_undo) is Inspection.ABSENT


def test_a_hook_is_ended_when_the_operator_stops_the_upgrade_but_its_undo_is_not(
    host: Any, tmp_path: Path
) -> None:
    step = hook(host, ["sleep", "60"], ["touch", f"{tmp_path}/u"])
    host.stop = True
    with pytest.raises(ToolError):
        host.perform(step)
    host.revert(step)
    assert (tmp_path / "u").exists()


def test_a_hook_that_never_ran_is_not_undone(host: Any, tmp_path: Path) -> None:
    host.revert(hook(host, ["true"], ["touch", f"{tmp_path}/u"]))
    step = hook(host, ["touch", f"{tmp_path}/u"], undoes="run-hook/other")
    assert "did not run" in host.perform(step)["skipped"]
    assert not (tmp_path / "u").exists()


def test_a_hook_that_had_begun_when_its_kernel_was_lost_is_undone(
    host: Any, tmp_path: Path
) -> None:
    with pytest.raises(ToolError):
        host.perform(hook(host, ["false"], ["true"]))
    undo = ["touch", f"{tmp_path}/u"]
    host.perform(hook(host, undo, section=Section.RECOVER, undoes="run-hook/x"))
    assert (tmp_path / "u").exists()


def test_a_hook_undone_by_return_is_not_undone_again_in_recover(host: Any, tmp_path: Path) -> None:
    host.results |= {"run-hook/x": {}, "return.run-hook/x": {}}
    step = hook(host, ["touch", f"{tmp_path}/u"], section=Section.RECOVER, undoes="run-hook/x")
    assert "was undone" in host.perform(step)["skipped"]
    assert not (tmp_path / "u").exists()


def test_checks_that_held_before_are_not_asked_again_when_nothing_runs_any_more(host: Any) -> None:
    before = host.step(Kind.CHECK, phase="before", checks=[check("a", "true")])
    after = host.step(Kind.CHECK, phase="after", checks=[check("a", "true")])
    host.perform(before)
    assert host.verdict(before) is Inspection.PRESENT
    host.revert(before)
    host.perform(after)
    assert host.verdict(after) is Inspection.ABSENT


@pytest.mark.parametrize("phase", ["before", "after"])
def test_a_check_that_fails_fails_the_step(host: Any, phase: str) -> None:
    good = host.step(Kind.CHECK, phase=phase, checks=[check("a", "true"), check("b", "true")])
    assert [c["name"] for c in host.perform(good)["checks"]] == ["a", "b"]
    bad = host.step(Kind.CHECK, phase=phase, checks=[check("a", "true"), check("b", "false")])
    with pytest.raises(CheckFailedError) as caught:
        host.perform(bad)
    assert caught.value.where == "b"
    assert host.verdict(bad) is Inspection.ABSENT


def test_a_soak_asks_until_its_time_is_over_and_bears_what_is_allowed(host: Any) -> None:
    assert host.perform(soak(host, "true", 0.3))["rounds"] >= 2
    assert len(host.perform(soak(host, "false", 0.0, max_failures=1))["failures"]) == 1
    with pytest.raises(CheckFailedError, match="soak failed"):
        host.perform(soak(host, "false", 0.0))


def test_a_taint_is_held_against_the_new_kernel_only_if_the_old_one_had_it_not(
    host: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    monkeypatch.setattr(checking.proc, "tainted", lambda: 512)
    monkeypatch.setattr(checking, "Checker", lambda baseline: seen.append(baseline.tainted))
    checking._checker(Job(host.step(Kind.CHECK), host.context(), None))  # type: ignore[arg-type]
    host.perform(
        host.step(Kind.PREFLIGHT, instance="h", workloads=[], channels={}, to_release="7.3.4")
    )
    monkeypatch.setattr(checking.proc, "tainted", lambda: 4096)
    checking._checker(Job(host.step(Kind.CHECK), host.context(), None))  # type: ignore[arg-type]
    assert seen == [512, 512]
