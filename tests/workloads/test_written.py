"""Memory that is older than its files is not brought back over them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from orchestrator.model.errors import WorkloadError
from orchestrator.system import open_files, proc
from orchestrator.workloads import criu, written
from orchestrator.workloads.facade import Workloads
from tests.support.control import Control
from tests.workloads.conftest import Make, Start

APPENDS = "import os,sys,time; f=open(sys.argv[1],'a'); g=open(sys.argv[2]); time.sleep(600)"


@pytest.fixture(autouse=True)
def durable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever pytest keeps its files: that is taken for a disk."""
    monkeypatch.setattr(open_files, "is_volatile", lambda *_: False)


def test_files_that_are_open_for_writing_are_found_and_others_are_not(
    tmp_path: Path, start: Start
) -> None:
    log, config = tmp_path / "log", tmp_path / "config"
    log.write_text("1\n")
    config.write_text("x")
    pid = start(APPENDS, str(log), str(config))
    while str(log) not in (found := written.paths([pid])):
        assert proc.process(pid) is not None
    assert str(config) not in found


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda p: p.write_text("1\n2\n"), id="grown"),
        pytest.param(lambda p: os.utime(p, ns=(5, 5)), id="same-size"),
        pytest.param(lambda p: p.unlink(), id="gone"),
    ],
)
def test_a_change_is_seen_whatever_the_size(tmp_path: Path, change: Any) -> None:
    log = tmp_path / "log"
    log.write_text("1\n")
    known = written.as_they_are([str(log)])
    assert written.changed(known) == []
    change(log)
    assert written.changed(known) == [str(log)]


@pytest.mark.parametrize("outrun", [True, False])
def test_state_that_was_outrun_is_refused_over_changed_files(
    outrun: bool,
    workload: Make,
    tmp_path: Path,
    control: Control,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log = tmp_path / "log"
    log.write_text("1\n")
    pid = proc.pid_max() - 7
    meta = {"pids": [pid], "tasks": [pid], "argv": ["x"], "outrun": outrun}
    meta["written"] = [f.model_dump() for f in written.as_they_are([str(log)])]
    log.write_text("1\n2\n")
    asked: list[int] = []
    monkeypatch.setattr(criu, "restore", lambda *_, **__: asked.append(1))
    monkeypatch.setattr(criu, "is_complete", lambda images: True)
    workdir = tmp_path / "state"
    (workdir / "carry").mkdir(parents=True)
    message = "has written to" if outrun else "is not there"
    with pytest.raises(WorkloadError, match=message):
        Workloads().restore(workload({"cmdline": "x"}), workdir, meta, control)
    assert bool(asked) != outrun
