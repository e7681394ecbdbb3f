"""Processes that were restored are told from those that merely have their pids."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.model.spec.workloads import CriuMigrate, Workload
from orchestrator.model.steps import Inspection
from orchestrator.system import proc
from orchestrator.workloads import claims, criu
from orchestrator.workloads.facade import Workloads
from orchestrator.workloads.meta import CriuMeta
from tests.support.control import Control

Start = Callable[..., int]
Make = Callable[..., Workload]
SLEEP = "import time\ntime.sleep(600)"
FORKS = f"import os\nos.fork()\n{SLEEP}"


def meta_of(*pids: int, code: str = SLEEP, **fields: Any) -> CriuMeta:
    argv = [sys.executable, "-S", "-c", code]
    known = {"pids": list(pids), "tasks": list(pids), "argv": argv, "taken_monotonic": 42.0}
    return CriuMeta.model_validate({**known, **fields})


@pytest.fixture
def app(workload: Make) -> Workload:
    return workload({"cmdline": "nobody-1f6e"})


def test_a_process_with_the_same_pid_and_arguments_is_not_taken_for_a_restored_one(
    start: Start, app: Workload, control: Control
) -> None:
    """A boot hands out the same pids as the one before: its init may have started it anew."""
    pid = start(SLEEP)
    meta = meta_of(pid).model_dump(mode="json")
    assert Workloads().inspect_restore(app, meta).verdict is Inspection.ABSENT
    assert Workloads().stop(app, meta, control) == {"stopped": []}
    assert proc.process(pid) is not None


def test_what_was_restored_is_seen_and_stopped_with_all_its_children(
    start: Start, app: Workload, control: Control, until: Callable[[Callable[[], bool]], bool]
) -> None:
    claims.write(meta_of(4000))  # room for the time at which it was written
    claim = claims._now()
    pid = start(FORKS)
    assert until(lambda: len(proc.tree(pid)) == 2)
    child = proc.tree(pid)[1].pid
    meta = meta_of(pid, child, code=FORKS, sessions=[pid, pid])
    claims._write(claims.write(meta).model_copy(update={"since": claim}))
    document = meta.model_dump(mode="json")
    found = Workloads().inspect_restore(app, document)
    assert (found.verdict, found.result) == (Inspection.PRESENT, {"pids": [pid, child]})
    assert Workloads().stop(app, document, control) == {"stopped": [pid, child]}
    assert Workloads().inspect_restore(app, document).verdict is Inspection.ABSENT


def test_a_stranger_with_the_pid_of_a_child_is_left_alone(
    start: Start, app: Workload, control: Control
) -> None:
    """The restore failed because the pid was taken; what is taken back is not what took it."""
    before = claims._now()
    stranger = start(SLEEP)
    meta = meta_of(4000, stranger, sessions=[4000, 4000])
    claims._write(claims.write(meta).model_copy(update={"since": before}))
    assert Workloads().stop(app, meta.model_dump(mode="json"), control) == {"stopped": []}
    assert proc.process(stranger) is not None


def test_once_it_runs_it_may_call_itself_what_it_likes(start: Start, app: Workload) -> None:
    pid = start(SLEEP)
    claim = claims.write(meta_of(pid, code="what it was called before"))
    claims._write(claim.model_copy(update={"since": 0}))
    document = claim.meta.model_dump(mode="json")
    assert Workloads().inspect_restore(app, document).verdict is Inspection.ABSENT
    claims.settle(claim.model_copy(update={"since": 0}))
    assert Workloads().inspect_restore(app, document).verdict is Inspection.PRESENT


def test_only_the_very_state_that_ran_is_known_to_have_run() -> None:
    first, later = meta_of(4000), meta_of(4000, taken_monotonic=43.0)
    claim = claims.write(first)
    assert claims.has_run(first)
    assert not claims.has_run(later)
    claims.mark_failed(claim)
    assert not claims.has_run(first)


@pytest.mark.parametrize("why", ["outrun", "restored before", "neither"])
def test_connections_are_closed_where_the_state_is_older_than_what_their_peers_saw(
    why: str,
    workload: Make,
    tmp_path: Path,
    control: Control,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[bool] = []

    def restore(
        images: Path, logs: Path, migrate: CriuMigrate, shell_job: bool, *_: Any, **rest: Any
    ) -> None:
        asked.append(rest["close"])

    pid = proc.pid_max() - 7
    network = {"ports": [], "established": 3}
    meta = meta_of(pid, network=network, outrun=why == "outrun")
    if why == "restored before":
        claims.write(meta)
    alive = proc.process(os.getpid())
    monkeypatch.setattr(criu, "restore", restore)
    monkeypatch.setattr(criu, "is_complete", lambda images: True)
    monkeypatch.setattr("orchestrator.workloads.criu_method._one", lambda _: [alive])
    workdir = tmp_path / "work" / "state"
    (workdir / "carry").mkdir(parents=True)
    result = Workloads().restore(
        workload({"cmdline": "x"}), workdir, meta.model_dump(mode="json"), control
    )
    assert asked == [why != "neither"]
    assert result["closed"] == (0 if why == "neither" else 3)
