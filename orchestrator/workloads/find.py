"""From `Find` to processes: the tree of a workload, root first."""

from __future__ import annotations

import errno
import os
import stat
import time
from pathlib import Path

from orchestrator.model.errors import ErrorClass, MkupgradeError, SystemCallError, WorkloadError
from orchestrator.model.host import WorkloadState
from orchestrator.model.spec.workloads import Find, Workload
from orchestrator.system import files, open_files, proc, systemd
from orchestrator.workloads import claims

_PID_FILE_LIMIT = 64
_GRAIN_SECONDS = 1.0
"""How much older than its writing a file may look: some file systems keep whole seconds."""


class NotRunningError(WorkloadError):
    """No process of the workload runs."""

    code = "workload-not-running"


def processes(find: Find) -> list[proc.Process]:
    """The workload's processes, root first, parents before children.

    Raises:
        NotRunningError: there are none.
        WorkloadError: two unrelated processes match, a process of the cgroup or unit is no
            descendant of its root, or a pid file that cannot be trusted.
    """
    root = _root(find)
    found = [p for p in proc.tree(root) if p.state not in "ZX"]
    if not found or found[0].pid != root:
        raise NotRunningError(f"process {root} does not run", where=label(find))
    if not proc.arguments(root):
        raise WorkloadError(
            f"process {root} is a kernel thread or shows no arguments",
            where=label(find),
            error_class=ErrorClass.INVALID,
        )
    _refuse_strays(find, found)
    return found


def state(workload: Workload) -> WorkloadState:
    """What `processes` finds, with memory and files on volatile file systems. Never raises."""
    try:
        found = processes(workload.find)
    except NotRunningError as error:
        return WorkloadState(name=workload.name, error=f"not running: {error}")
    except MkupgradeError as error:
        return WorkloadState(name=workload.name, error=str(error))
    pids = [p.pid for p in found]
    return WorkloadState(
        name=workload.name,
        pids=pids,
        memory_bytes=sum(p.resident_bytes for p in found),
        volatile_files=open_files.volatile_files(pids),
    )


def label(find: Find) -> str:
    """For people: "unit web.service"."""
    for key in type(find).model_fields:
        value = getattr(find, key)
        if value is not None:
            return f"{key.replace('_', ' ')} {value}"
    return "find"


def task_ids(pids: list[int], root: Path = proc.PROC) -> list[int]:
    """The ids of all threads of these processes, sorted: what must be free for a restore."""
    return sorted({*pids, *(thread for pid in pids for thread in proc.thread_ids(pid, root))})


def _root(find: Find) -> int:
    if find.pid_file is not None:
        return read_pid_file(Path(find.pid_file))
    if find.unit is not None:
        return _main_pid(find.unit)
    if find.cmdline is not None:
        hit = proc.find_by_arguments(find.cmdline)
        if hit is None:
            raise NotRunningError("no process matches", where=label(find))
        return hit.pid
    return _root_of_cgroup(find)


def _main_pid(unit: str) -> int:
    found = systemd.show(unit)
    if found.load == "not-found":
        raise WorkloadError(
            f"no unit {unit}", next_command="systemctl list-units", error_class=ErrorClass.INVALID
        )
    if found.main_pid:
        return found.main_pid
    pids = systemd.cgroup_pids(found.cgroup) if found.cgroup else []
    if not pids:
        raise NotRunningError(
            f"unit {unit} is {found.active} ({found.sub}): no process",
            next_command=f"systemctl status {unit}",
        )
    return _topmost(pids, f"unit {unit}")


def _root_of_cgroup(find: Find) -> int:
    pids = systemd.cgroup_pids(str(find.cgroup))
    if not pids:
        raise NotRunningError("no process in the cgroup", where=label(find))
    return _topmost(pids, label(find))


def _topmost(pids: list[int], where: str) -> int:
    members = set(pids)
    parents = {p.pid: p.parent for pid in pids if (p := proc.process(pid)) is not None}
    tops = sorted(pid for pid, parent in parents.items() if parent not in members)
    if not tops:
        raise NotRunningError("its processes have ended", where=where)
    if len(tops) > 1:
        raise WorkloadError(
            f"{len(tops)} unrelated processes: pids {', '.join(map(str, tops))}",
            where=where,
            next_command=f"ps -o pid,ppid,args -p {','.join(map(str, tops))}",
            error_class=ErrorClass.INVALID,
        )
    return tops[0]


def read_pid_file(path: Path) -> int:
    """The pid in a pid file that only its service or root can have written, for that process.

    The pid may have been given to another process since, above all after a restart of the
    machine. So the process must have been started before the file was last written, or have been
    restored by us in this boot (`claims`).

    Raises:
        NotRunningError: the file is not there, no such process runs, or the file is of an
            earlier boot and the process is not the one that it was written for, or it holds none:
            a power cut leaves what was not synced empty.
        WorkloadError: a link, writable by everybody, not a number, pid 0 or 1, or the process is
            younger than the file.
    """
    try:
        with files.open_regular(path) as file:
            status = os.fstat(file.fileno())
            data = file.read(_PID_FILE_LIMIT + 1)
    except SystemCallError as error:
        if error.errno == errno.ENOENT:
            raise NotRunningError("no pid file", where=str(path)) from None
        raise WorkloadError(
            f"the pid file cannot be used: {error.what}", where=str(path)
        ) from error
    text = data.decode("ascii", "replace").strip()
    if len(data) > _PID_FILE_LIMIT or not text.isascii() or not text.isdigit() or int(text) <= 1:
        if status.st_mtime < _boot_time():
            raise NotRunningError(
                "the pid file is of an earlier boot and holds no process id", where=str(path)
            )
        raise _bad_pid_file(path, f"it does not hold a process id: {text[:20]!r}")
    if status.st_mode & stat.S_IWOTH:
        raise _bad_pid_file(path, "everybody may write it")
    pid = int(text)
    if status.st_uid not in (0, owner(pid)):
        raise _bad_pid_file(path, f"user {status.st_uid} wrote it, not root nor the process's user")
    _require_older(path, pid, status.st_mtime)
    return pid


def _require_older(path: Path, pid: int, written: float) -> None:
    """Hold the process to the time of its pid file.

    Args:
        written: unix seconds.
    """
    process = proc.process(pid)
    if process is None:
        raise NotRunningError(f"process {pid} of the pid file does not run", where=str(path))
    booted = _boot_time()
    late = booted + process.started / proc.start_ticks_per_second() - written
    if late <= _GRAIN_SECONDS:
        return
    claim = claims.read(pid)
    if claim is not None and claim.holds(process):
        return
    if written < booted:
        raise NotRunningError(
            f"the pid file is of an earlier boot, and process {pid} ({process.name}) is not the "
            "one that it was written for",
            where=str(path),
        )
    raise _bad_pid_file(
        path,
        f"process {pid} ({process.name}) was started {late:.0f} s after it was written: its pid "
        "was used again, or the clock was set; if it is the workload all the same, touch the file",
    )


def _boot_time() -> float:
    """Unix seconds."""
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)


def owner(pid: int) -> int:
    """User of a process.

    Raises:
        NotRunningError
    """
    try:
        return (proc.PROC / str(pid)).stat().st_uid
    except FileNotFoundError:
        raise NotRunningError(f"process {pid} of the pid file does not run") from None


def _bad_pid_file(path: Path, problem: str) -> WorkloadError:
    return WorkloadError(
        f"the pid file cannot be trusted: {problem}",
        where=str(path),
        next_command=f"ls -l {path}",
        error_class=ErrorClass.INVALID,
    )


def _refuse_strays(find: Find, found: list[proc.Process]) -> None:
    """A service's process that left the tree (a daemonised helper) would be left behind."""
    if find.unit is not None:
        members = systemd.cgroup_pids(systemd.show(find.unit).cgroup or "/nowhere")
    elif find.cgroup is not None:
        members = systemd.cgroup_pids(str(find.cgroup))
    else:
        return
    strays = sorted(set(members) - {p.pid for p in found})
    strays = [pid for pid in strays if (p := proc.process(pid)) and p.state not in "ZX"]
    if strays:
        raise WorkloadError(
            f"processes {', '.join(map(str, strays))} are no descendants of its root,"
            f" process {found[0].pid}",
            where=label(find),
            next_command=f"ps -o pid,ppid,args -p {','.join(map(str, strays))}",
            error_class=ErrorClass.INVALID,
        )
