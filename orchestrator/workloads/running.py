"""Starting and ending processes that are not ours: detached, by pidfd, without zombies."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from orchestrator.model.errors import ErrorClass, ToolError, WorkloadError
from orchestrator.model.seams import Control
from orchestrator.model.spec.workloads import Find
from orchestrator.system import files, proc, subprocesses, systemd
from orchestrator.workloads import find as finding

_PAUSE = 0.05
_PATIENCE = 10.0
"""Longest time that a program gets to write its own pid file, seconds."""
_TERM_SHARE = 0.7
"""Part of the time limit that SIGTERM gets before SIGKILL."""


def start_detached(
    name: str,
    argv: Sequence[str],
    *,
    timeout: float,
    cwd: str | None = None,
    uid: int | None = None,
    gid: int | None = None,
    groups: Sequence[int] = (),
) -> int | None:
    """Start a program that is to outlive us, in a session of its own, with /dev/null for its
    input and output. Whether it came up is the caller's to see.

    With systemd it gets a transient unit, so that it does not die with our own service.

    Returns:
        Its process id; None: it has ended already.

    Raises:
        NotSupportedError: it is not installed. ToolError: it cannot be started.
    """
    if subprocesses.available(argv[0]) is None:
        raise subprocesses.missing(argv[0])
    if systemd.is_running() and subprocesses.available("systemd-run"):
        unit = f"mkupgrade-{name}"
        words = ["systemd-run", "--quiet", "--collect", f"--unit={unit}"]
        words += ["--property=KillMode=process", "--property=Type=exec"]
        words += [f"--working-directory={cwd}"] if cwd else []
        words += [f"--uid={uid}"] if uid else []
        words += [f"--gid={gid}"] if gid else []
        subprocesses.run([*words, "--", *argv], timeout=timeout)
        return systemd.show(f"{unit}.service").main_pid or None
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd=cwd,
            user=uid or None,
            group=gid or None,
            extra_groups=list(groups) if uid else None,
        )
    except OSError as error:
        raise ToolError(f"{argv[0]} cannot be run: {error.strerror}") from error
    # Our child until we end: reaped, so that it is never seen as a zombie.
    threading.Thread(target=process.wait, daemon=True).start()
    return process.pid


def wait_until_found(
    find: Find, timeout: float, control: Control, started: int | None = None
) -> tuple[list[int], list[str]]:
    """The workload's pids, once it runs, and what else was done for it.

    A program need not write its own pid file: then somebody else did when it was started, and
    nobody does now. So it is written here when half of the time has passed, if what was started
    still runs.

    Args:
        started: the process of `start_detached`.

    Raises:
        WorkloadError: it does not run within `timeout` seconds.
    """
    limit = min(timeout, max(0.0, control.remaining()))
    until, patience = time.monotonic() + limit, time.monotonic() + min(limit / 2, _PATIENCE)
    notes: list[str] = []
    while True:
        try:
            return [p.pid for p in finding.processes(find)], notes
        except WorkloadError as error:
            stale = find.pid_file is not None or isinstance(error, finding.NotRunningError)
            if not stale or time.monotonic() >= until:
                raise WorkloadError(
                    f"it was started and does not run: {error.what}",
                    where=finding.label(find),
                    error_class=ErrorClass.TIMEOUT,
                ) from error
        if find.pid_file is not None and started is not None and time.monotonic() >= patience:
            if write_pid_file(Path(find.pid_file), started):
                notes.append(f"wrote {find.pid_file}, which the program itself does not write")
            started = None
        time.sleep(_PAUSE)


def write_pid_file(path: Path, pid: int) -> bool:
    """Write a pid file for a process that runs; False: it has ended.

    Raises:
        WorkloadError: others than root and the process's user may write where it is to be.
        SystemCallError: it cannot be written.
    """
    process = proc.process(pid)
    if process is None or process.state in "ZX":
        return False
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    place = path.parent.lstat()
    ours = place.st_uid in {os.geteuid(), finding.owner(pid)} and stat.S_ISDIR(place.st_mode)
    if not ours or place.st_mode & stat.S_IWOTH:
        raise WorkloadError(
            "its pid file is not written for it: others may write to that directory",
            where=str(path),
            error_class=ErrorClass.REFUSED,
        )
    files.write_durably(path, f"{pid}\n".encode(), 0o644)
    return True


def end(processes: Sequence[proc.Process], timeout: float, gently: bool = True) -> None:
    """End these very processes (not later ones of the same pid): SIGTERM, then SIGKILL.

    Args:
        timeout: seconds for all of it.

    Raises:
        WorkloadError: one is still there.
    """
    began = time.monotonic()
    if gently:
        _signal(processes, signal.SIGTERM)
        if _gone(processes, began + timeout * _TERM_SHARE):
            return
    _signal(processes, signal.SIGKILL)
    if not _gone(processes, began + timeout):
        left = [str(p.pid) for p in processes if proc.alive(p)]
        raise WorkloadError(
            f"processes {', '.join(left)} do not end",
            next_command=f"ps -o pid,state,wchan,args -p {','.join(left)}",
            error_class=ErrorClass.TIMEOUT,
        )


def start_again(pid: int) -> dict[str, object]:
    """How a process was started, for `start_detached`: argv, cwd, uid, gid, groups."""
    status = _status(pid)
    return {
        "argv": proc.arguments(pid),
        "cwd": _cwd(pid),
        "uid": _first(status, "Uid"),
        "gid": _first(status, "Gid"),
        "groups": [int(word) for word in status.get("Groups", "").split() if word.isdigit()],
    }


def _signal(processes: Sequence[proc.Process], number: signal.Signals) -> None:
    for process in processes:
        try:
            pidfd = os.pidfd_open(process.pid)
        except ProcessLookupError:
            continue
        try:
            # Looked at after the pidfd is open: the pid cannot be used again in between.
            if proc.alive(process):
                signal.pidfd_send_signal(pidfd, number)
        except ProcessLookupError:
            pass
        finally:
            os.close(pidfd)


def _gone(processes: Sequence[proc.Process], until: float) -> bool:
    while any(proc.alive(p) for p in processes):
        if time.monotonic() >= until:
            return False
        time.sleep(_PAUSE)
    return True


def _status(pid: int) -> dict[str, str]:
    try:
        text = (proc.PROC / str(pid) / "status").read_text("utf-8", "replace")
    except OSError:
        return {}
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)


def _first(status: dict[str, str], key: str) -> int:
    words = status.get(key, "0").split()
    return int(words[0]) if words and words[0].isdigit() else 0


def _cwd(pid: int) -> str:
    try:
        return str((proc.PROC / str(pid) / "cwd").readlink())
    except OSError:
        return str(Path("/"))
