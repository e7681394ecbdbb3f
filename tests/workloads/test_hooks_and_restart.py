"""Workloads that save themselves, and workloads that are only stopped and started."""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.model.errors import ErrorClass, NotSupportedError, WorkloadError
from orchestrator.model.spec.workloads import Workload
from orchestrator.model.steps import Inspection
from orchestrator.system import proc
from orchestrator.workloads import find, running
from orchestrator.workloads.facade import Workloads
from tests.support.control import Control

Start = Callable[..., int]
Make = Callable[..., Workload]
Until = Callable[[Callable[[], bool]], bool]

SLEEP = "import time\ntime.sleep(600)"
SAVE = (
    "import os, pathlib, signal, sys\n"
    "state = pathlib.Path(os.environ['MKUPGRADE_STATE_DIR'])\n"
    "assert os.environ['MKUPGRADE_PHASE'] == 'save'\n"
    "(state / 'number').write_text('42')\n"
    "os.kill(int(sys.argv[1]), signal.SIGKILL)\n"
)
NOTE = (
    "import os, pathlib, sys\n"
    "state = pathlib.Path(os.environ['MKUPGRADE_STATE_DIR'])\n"
    "line = os.environ['MKUPGRADE_PHASE'] + ' ' + (state / 'number').read_text()\n"
    "pathlib.Path(sys.argv[1]).write_text(line)\n"
)


def python(code: str, *words: str) -> list[str]:
    return [sys.executable, "-S", "-c", code, *words]


@pytest.fixture
def workdir(tmp_path: Path) -> Path:
    return tmp_path / "work" / "app"


def test_hooks_get_the_same_directory_back(
    start: Start, workload: Make, workdir: Path, tmp_path: Path, control: Control
) -> None:
    mark, heard = uuid.uuid4().hex, tmp_path / "heard"
    pid = start(SLEEP, mark)
    app = workload(
        {"cmdline": mark},
        {"method": "hooks", "save": python(SAVE, str(pid)), "load": python(NOTE, str(heard))},
    )
    all_of_them = Workloads()
    assert all_of_them.inspect_checkpoint(app, workdir).verdict is Inspection.ABSENT
    meta = all_of_them.checkpoint(app, workdir, control)
    assert meta["pids"] == [pid]
    found = all_of_them.inspect_checkpoint(app, workdir)
    assert (found.verdict, found.result) == (Inspection.PRESENT, meta)
    all_of_them.restore(app, workdir, meta, control)
    assert heard.read_text() == "load 42"
    assert all_of_them.undo_checkpoint(app, workdir, control) == {"undone": "load"}
    assert all_of_them.undo_checkpoint(app, workdir, control)["undone"].startswith("nothing")


def test_undo_has_a_command_of_its_own(
    start: Start, workload: Make, workdir: Path, tmp_path: Path, control: Control
) -> None:
    mark, heard = uuid.uuid4().hex, tmp_path / "heard"
    pid = start(SLEEP, mark)
    commands = {
        "save": python(SAVE, str(pid)),
        "load": ["false"],
        "undo": python(NOTE, str(heard)),
    }
    app = workload({"cmdline": mark}, {"method": "hooks", **commands})
    Workloads().checkpoint(app, workdir, control)
    Workloads().undo_checkpoint(app, workdir, control)
    assert heard.read_text() == "undo 42"


def test_a_save_that_fails_is_partial_and_says_why(
    workload: Make, workdir: Path, control: Control
) -> None:
    fails = python("import sys\nsys.exit('the database is locked')")
    app = workload({"cmdline": "nobody-1f6e"}, {"method": "hooks", "save": fails, "load": ["true"]})
    with pytest.raises(WorkloadError, match="save of app failed") as caught:
        Workloads().checkpoint(app, workdir, control)
    assert "the database is locked" in " ".join(caught.value.details)
    assert Workloads().inspect_checkpoint(app, workdir).verdict is Inspection.PARTIAL


def test_a_hook_is_killed_at_the_deadline(workload: Make, workdir: Path) -> None:
    app = workload(
        {"cmdline": "nobody-1f6e"}, {"method": "hooks", "save": ["sleep", "60"], "load": ["true"]}
    )
    with pytest.raises(WorkloadError) as caught:
        Workloads().checkpoint(app, workdir, Control(seconds=0.3))
    assert caught.value.error_class is ErrorClass.TIMEOUT


def test_nothing_is_loaded_where_nothing_arrived(
    workload: Make, tmp_path: Path, control: Control
) -> None:
    app = workload({"cmdline": "x"}, {"method": "hooks", "save": ["true"], "load": ["true"]})
    for nothing in (None, tmp_path / "none"):
        with pytest.raises(WorkloadError, match="no state"):
            Workloads().restore(app, nothing, {"method": "hooks"}, control)


def test_a_restart_stops_and_starts_a_process_in_a_session_of_its_own(
    start: Start, workload: Make, workdir: Path, control: Control, until: Until
) -> None:
    mark = uuid.uuid4().hex
    pid = start(SLEEP, mark)
    app = workload({"cmdline": mark}, {"method": "restart", "start": python(SLEEP, mark)})
    all_of_them = Workloads()
    assert until(lambda: all_of_them.find(app).pids == [pid])
    meta = all_of_them.checkpoint(app, workdir, control)
    assert all_of_them.find(app).pids == []
    assert all_of_them.inspect_checkpoint(app, workdir).verdict is Inspection.PRESENT
    assert all_of_them.inspect_restore(app, meta).verdict is Inspection.ABSENT
    try:
        [new] = all_of_them.restore(app, None, meta, control)["pids"]
        assert [p.session for p in proc.tree(new)] == [new]
        assert all_of_them.restore(app, None, meta, control)["started"] == "nothing: it runs"
        assert all_of_them.inspect_checkpoint(app, workdir).verdict is Inspection.ABSENT
    finally:
        all_of_them.stop(app, meta, control)
    assert all_of_them.inspect_restore(app, meta).verdict is Inspection.ABSENT


def test_a_process_that_ignores_sigterm_is_killed(
    start: Start, workload: Make, workdir: Path, until: Until
) -> None:
    mark = uuid.uuid4().hex
    stubborn = "import signal, time\nsignal.signal(15, signal.SIG_IGN)\ntime.sleep(600)"
    pid = start(stubborn, mark)
    status = Path(f"/proc/{pid}/status")

    def ignored() -> bool:
        return int(status.read_text().split("SigIgn:")[1].split()[0], 16) & (1 << 14) != 0

    assert until(ignored)
    app = workload({"cmdline": mark}, {"method": "restart", "start": ["true"], "timeout": "600ms"})
    before = proc.process(pid)
    assert before is not None
    Workloads().checkpoint(app, workdir, Control())
    assert not proc.alive(before)


def test_what_does_not_come_up_is_a_time_out(workload: Make, workdir: Path) -> None:
    app = workload({"cmdline": "nobody-1f6e"}, {"method": "restart", "start": ["true"]})
    with pytest.raises(WorkloadError, match="does not run") as caught:
        Workloads().restore(app, None, {"method": "restart"}, Control(seconds=0.3))
    assert caught.value.error_class is ErrorClass.TIMEOUT


def test_a_start_command_that_is_not_there_is_named(workload: Make, control: Control) -> None:
    app = workload({"cmdline": "nobody-1f6e"}, {"method": "restart", "start": ["no-such-1f6e"]})
    with pytest.raises(NotSupportedError, match="no-such-1f6e"):
        Workloads().start_anew(app, control)


def test_what_is_no_unit_and_left_no_trace_is_not_started_anew(
    workload: Make, control: Control
) -> None:
    for migrate in ({"method": "criu"}, {"method": "hooks", "save": ["x"], "load": ["x"]}):
        with pytest.raises(NotSupportedError, match="how it is started is not known"):
            Workloads().start_anew(workload({"cmdline": "nobody-1f6e"}, migrate), control)


def test_a_dead_criu_workload_is_started_by_its_recorded_arguments(
    workload: Make, control: Control
) -> None:
    mark = uuid.uuid4().hex
    app = workload({"cmdline": mark})
    meta = {"pids": [4000], "tasks": [4000], "argv": python(SLEEP, mark), "cwd": "/tmp"}
    result = Workloads().start_anew(app, control, meta)
    try:
        [pid] = result["pids"]
        assert result["notes"] == ["started without the environment it had"]
        assert Path(f"/proc/{pid}/cwd").readlink() == Path("/tmp")
    finally:
        Workloads().stop(app, {}, control)
    assert Workloads().find(app).pids == []


@pytest.mark.slow
@pytest.mark.parametrize("method", ["criu", "restart"])
@pytest.mark.parametrize("before", ["none", "stale"])
def test_a_pid_file_that_the_program_does_not_write_is_written_for_it(
    workload: Make, tmp_path: Path, method: str, before: str
) -> None:
    """Whoever started it wrote the file, and that was not the program."""
    path = tmp_path / "run" / "app.pid"
    if before == "stale":
        path.parent.mkdir()
        path.write_text(f"{os.getpid()}\n")
        os.utime(path, (0, 0))
    start = python(SLEEP, uuid.uuid4().hex)
    migrate = {"method": method, **({"start": start} if method == "restart" else {})}
    app = workload({"pid_file": str(path)}, migrate)
    meta = {"pids": [4000], "tasks": [4000], "argv": start} if method == "criu" else {}
    result = Workloads().start_anew(app, Control(seconds=1.0), meta)
    try:
        assert result["notes"][0] == f"wrote {path}, which the program itself does not write"
        assert Workloads().find(app).pids == result["pids"] == [int(path.read_text())]
    finally:
        running.end(find.processes(app.find), 5.0)


def test_a_program_that_writes_its_own_pid_file_is_left_to_it(
    workload: Make, tmp_path: Path, control: Control
) -> None:
    path = tmp_path / "app.pid"
    code = f"import os, pathlib\nif os.fork(): os._exit(0)\npathlib.Path({str(path)!r}).write_text("
    start = python(f"{code}str(os.getpid()))\n{SLEEP}")
    app = workload({"pid_file": str(path)}, {"method": "restart", "start": start})
    result = Workloads().start_anew(app, control)
    try:
        assert result["notes"] == []
        assert Workloads().find(app).pids == result["pids"]
    finally:
        running.end(find.processes(app.find), 5.0)


def test_a_program_that_ended_gets_no_pid_file(workload: Make, tmp_path: Path) -> None:
    path = tmp_path / "app.pid"
    app = workload({"pid_file": str(path)}, {"method": "restart", "start": ["true"]})
    with pytest.raises(WorkloadError, match="it was started and does not run"):
        Workloads().start_anew(app, Control(seconds=0.4))
    assert not path.exists()


def test_no_pid_file_is_written_where_everybody_may_write(tmp_path: Path) -> None:
    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    open_to_all.chmod(0o1777)
    with pytest.raises(WorkloadError, match="others may write to that directory"):
        running.write_pid_file(open_to_all / "app.pid", os.getpid())
    (tmp_path / "link").symlink_to(open_to_all)
    with pytest.raises(WorkloadError, match="others may write to that directory"):
        running.write_pid_file(tmp_path / "link" / "app.pid", os.getpid())
    assert list(open_to_all.iterdir()) == []
