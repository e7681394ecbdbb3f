"""What another kernel must have for a workload, by the kernel that it runs in, held to this one."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from orchestrator.model.errors import NotSupportedError
from orchestrator.model.spec.workloads import Workload
from orchestrator.system import proc
from orchestrator.workloads import criu, elsewhere
from orchestrator.workloads.elsewhere import Needs
from orchestrator.workloads.facade import Workloads

Start = Callable[..., int]
Make = Callable[..., Workload]
CRIU = {"method": "criu"}
HIGH = 1 << 22


@pytest.fixture(autouse=True)
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Ids end where they may end at most: CI's kernel.pid_max says nothing here."""
    monkeypatch.setattr(proc, "pid_max", lambda: HIGH + 1)
    return tmp_path


def lacks(made: Workload, needed: Needs, place: Path) -> list[tuple[str, str]]:
    return [(it.severity, it.text) for it in Workloads().lacks(made, needed, place)]


def test_a_workload_that_runs_here_cannot_be_restored_here(
    workload: Make, start: Start, fake_criu: Path, tmp_path: Path
) -> None:
    """By its own ids, which are taken; elsewhere they are all that it needs."""
    mark = uuid.uuid4().hex
    pid = start("import time; time.sleep(600)", mark)
    made = workload({"cmdline": mark}, CRIU)
    needed = Workloads().needs(made)
    assert (pid, pid) in needed.tasks
    assert needed.all_tasks
    assert needed.size > 1 << 20
    assert needed.machine == os.uname().machine
    assert needed.criu == list(criu.version())
    found = [text for kind, text in lacks(made, needed, tmp_path) if kind == "error"]
    assert any(f"taken here: {pid} by " in text for text in found)
    free = needed.model_copy(update={"tasks": [(HIGH - 1, HIGH)]})
    assert not any("taken" in text for _, text in lacks(made, free, tmp_path))


def test_where_criu_is_not_installed_nothing_else_is_said(
    workload: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none() -> tuple[int, ...]:
        raise NotSupportedError("criu is not installed")

    monkeypatch.setattr(criu, "version", none)
    said = lacks(workload({"cmdline": "x"}, CRIU), Needs(), tmp_path)
    assert said == [("error", "criu is not installed")]


@pytest.mark.parametrize(
    ("needed", "words"),
    [
        ({"criu": [99, 1]}, "warning: CRIU 4.2.1 is older than the 99.1"),
        ({"machine": "sparc"}, "error: it runs on sparc"),
        ({"tasks": [(1, 1)]}, "error: process ids of it are taken here: 1 by "),
        ({"all_tasks": False}, "warning: it has so many threads"),
        ({"size": 1 << 60}, "error: it has about "),
    ],
)
def test_what_is_lacking_is_named(
    workload: Make, fake_criu: Path, tmp_path: Path, needed: dict[str, Any], words: str
) -> None:
    said = lacks(workload({"cmdline": "x"}, CRIU), Needs(**needed), tmp_path)
    assert any(f"{kind}: {text}".startswith(words) for kind, text in said), said


def test_ids_beyond_the_highest_here_are_named(
    workload: Make, fake_criu: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proc, "pid_max", lambda: 32768)
    said = lacks(workload({"cmdline": "x"}, CRIU), Needs(tasks=[(32768, 32770)]), tmp_path)
    assert ("error", "process ids here end at 32767 (kernel.pid_max), and it has 32770") in said


def test_a_kernel_that_restores_nothing_is_told_by_what_it_was_built_with(
    workload: Make, fake_criu: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proc, "PROC", tmp_path)
    said = lacks(workload({"cmdline": "x"}, CRIU), Needs(time_namespaces=True), tmp_path)
    assert any("CONFIG_CHECKPOINT_RESTORE" in text for kind, text in said if kind == "error")
    assert any("CONFIG_TIME_NS" in text for kind, text in said if kind == "warning")


def test_the_program_that_loads_must_be_there(workload: Make, tmp_path: Path) -> None:
    def made(load: str) -> Workload:
        migrate = {"method": "hooks", "save": ["false"], "load": [load]}
        return workload({"cmdline": "x"}, migrate)

    assert lacks(made(shutil.which("true") or "true"), Needs(), tmp_path) == []
    (said,) = lacks(made("/no/such-6d1e"), Needs(), tmp_path)
    assert said == ("error", "program /no/such-6d1e is not here, or not executable")


def test_ids_that_follow_each_other_are_said_as_one_range() -> None:
    assert list(elsewhere._ranges([])) == []
    assert list(elsewhere._ranges([7])) == [(7, 7)]
    assert list(elsewhere._ranges([1, 2, 3, 9, 11, 12])) == [(1, 3), (9, 9), (11, 12)]


@pytest.mark.parametrize(
    "wrong",
    [
        {"size": -1}, {"tasks": [(0, 5)]}, {"tasks": [(1, 1)] * 101}, {"machine": "x" * 65},
        {"criu": list(range(9))},
    ],
)  # fmt: skip
def test_needs_that_mean_ill_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Needs.model_validate(wrong)
