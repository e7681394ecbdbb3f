"""Hooks, checks and soak: what is believed of commands that are not ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.model.errors import CheckFailedError, ToolError
from orchestrator.model.kinds import Kind
from orchestrator.model.steps import Inspection, Step


def hook(host: Any, run: list[str], undo: list[str] | None = None, **rest: Any) -> Step:
    document = {"name": "h", "run": run, "undo": undo, "timeout": "5s"}
    return host.step(Kind.RUN_HOOK, hook=document, **rest)


def check(name: str = "up") -> dict[str, Any]:
    return {"kind": "tcp", "name": name, "port": 80}


def soak(host: Any, duration: float, max_failures: int = 0) -> Step:
    return host.step(
        Kind.SOAK, duration=duration, interval=0.01, max_failures=max_failures, checks=[check()]
    )


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


def test_a_hook_that_never_ran_is_not_undone(host: Any, tmp_path: Path) -> None:
    host.revert(hook(host, ["true"], ["touch", f"{tmp_path}/u"]))
    step = hook(host, ["touch", f"{tmp_path}/u"], if_performed="run-hook/other")
    assert "did not run" in host.perform(step)["skipped"]
    assert not (tmp_path / "u").exists()


def test_a_check_that_fails_fails_the_step(host: Any) -> None:
    step = host.step(Kind.CHECK, phase="after", checks=[check("a"), check("b")])
    assert host.perform(step) == {"checks": [{"name": "a"}, {"name": "b"}]}
    host.checks.bad = {"b"}
    with pytest.raises(CheckFailedError):
        host.perform(step)
    assert host.verdict(step) is Inspection.ABSENT


def test_a_soak_asks_until_its_time_is_over(host: Any) -> None:
    assert host.perform(soak(host, 0.05))["rounds"] >= 2
    assert host.perform(soak(host, 0.0))["rounds"] == 1


def test_a_soak_bears_as_many_failures_as_allowed(host: Any) -> None:
    host.checks.bad = {"up"}
    assert len(host.perform(soak(host, 0.0, max_failures=1))["failures"]) == 1
    with pytest.raises(CheckFailedError, match="soak failed"):
        host.perform(soak(host, 0.0))
