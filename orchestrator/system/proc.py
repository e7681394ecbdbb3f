"""/proc, read: the running kernel, processes and their trees. Read-only.

Whatever is read here may be gone or changed in the next moment, and processes choose their own
names: no function trusts a pid without its start time, nor splits a line at a space that a
process may have put there. Sources: proc(5), Documentation/filesystems/proc.rst.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from orchestrator.model.errors import WorkloadError

PROC = Path("/proc")
_KTHREADD = 2
_MACHINE_ID = Path("/etc/machine-id")


def boot_id(proc: Path = PROC) -> str:
    """A random id that changes with every boot, kexec included."""
    return _line(proc / "sys/kernel/random/boot_id")


def release(proc: Path = PROC) -> str:
    """What `uname -r` says."""
    return _line(proc / "sys/kernel/osrelease")


def version(proc: Path = PROC) -> str:
    """What `uname -v` says: build number and date, so two builds of one release differ."""
    return _line(proc / "sys/kernel/version")


def cmdline(proc: Path = PROC) -> str:
    """The running kernel's command line."""
    return _line(proc / "cmdline")


def machine_id(path: Path = _MACHINE_ID) -> str:
    """32 hexadecimal digits; empty where the machine has none (machine-id(5))."""
    return _line(path)


def hostname(proc: Path = PROC) -> str:
    return _line(proc / "sys/kernel/hostname")


def tainted(proc: Path = PROC) -> int:
    """Taint flags as a bit set (Documentation/admin-guide/tainted-kernels.rst)."""
    text = _line(proc / "sys/kernel/tainted")
    return int(text) if text.isdigit() else 0


@dataclass(frozen=True)
class Memory:
    """Sizes in bytes."""

    total: int
    available: int
    """What can be had without swapping."""


def memory(proc: Path = PROC) -> Memory:
    """Memory of the host; zeros where it cannot be read."""
    found = dict(
        re.findall(r"^(MemTotal|MemAvailable):\s+(\d+) kB$", _text(proc / "meminfo"), re.MULTILINE)
    )
    return Memory(*(int(found.get(key, 0)) * 1024 for key in ("MemTotal", "MemAvailable")))


def cpus() -> int:
    """CPUs that are online."""
    return os.cpu_count() or 1


@dataclass(frozen=True)
class Process:
    """One process, told from a later one of the same pid by its start time."""

    pid: int
    parent: int
    group: int
    session: int
    state: str
    """R, S, D, T (stopped), Z (zombie) ... as in proc_pid_stat(5)."""
    name: str
    """Up to 15 bytes, chosen by the process."""
    started: int
    """Clock ticks since boot."""
    resident_bytes: int

    @property
    def is_of_kernel(self) -> bool:
        """Is it a thread of the kernel: kthreadd, or what that one has started?"""
        return _KTHREADD in (self.pid, self.parent)


def process(pid: int, proc: Path = PROC) -> Process | None:
    """The process of this pid, or None when there is none."""
    return _parse_stat(_bytes(proc / str(pid) / "stat"))


def processes(proc: Path = PROC) -> list[Process]:
    """All processes of this pid namespace, by pid."""
    pids = sorted(int(entry.name) for entry in proc.iterdir() if entry.name.isdigit())
    return [found for pid in pids if (found := process(pid, proc)) is not None]


def task_ids(proc: Path = PROC) -> list[int]:
    """The ids of all threads of all processes but the kernel's own."""
    found: list[int] = []
    for process in processes(proc):
        if not process.is_of_kernel:
            found += thread_ids(process.pid, proc)
    return found


def thread_ids(pid: int, proc: Path = PROC) -> list[int]:
    """The ids of all threads of a process; empty: it is gone."""
    try:
        entries = list((proc / str(pid) / "task").iterdir())
    except OSError:
        return []
    return [int(entry.name) for entry in entries if entry.name.isdigit()]


def alive(known: Process, proc: Path = PROC) -> bool:
    """Does this very process still run (not ended, not a zombie, pid not used again)?"""
    now = process(known.pid, proc)
    return now is not None and now.started == known.started and now.state not in "ZX"


def tree(root: int, proc: Path = PROC) -> list[Process]:
    """A process and its descendants, parents before children, root first; empty: no root.

    A child that was started before its supposed parent belongs to an earlier process of the
    parent's pid, and is left out.
    """
    everybody = processes(proc)
    by_pid = {p.pid: p for p in everybody}
    if root not in by_pid:
        return []
    children: dict[int, list[Process]] = {}
    for candidate in everybody:
        parent = by_pid.get(candidate.parent)
        if parent is not None and candidate.started >= parent.started:
            children.setdefault(parent.pid, []).append(candidate)
    found = [by_pid[root]]
    for member in found:  # grows while it is walked
        found += children.get(member.pid, [])
    return found


def arguments(pid: int, proc: Path = PROC) -> list[str]:
    """argv; empty for kernel threads and zombies. The process can change what is shown."""
    raw = _bytes(proc / str(pid) / "cmdline")
    return [os.fsdecode(a) for a in raw.removesuffix(b"\0").split(b"\0")] if raw else []


def find_by_arguments(pattern: str, proc: Path = PROC) -> Process | None:
    """The topmost process whose arguments, joined by spaces, match a regular expression.

    Never this very process nor one of its ancestors (`mkupgrade apply` names the pattern too).

    Raises:
        WorkloadError: two unrelated processes match.
    """
    wanted = re.compile(pattern)
    everybody = {p.pid: p for p in processes(proc)}
    ours = set(_ancestors(os.getpid(), everybody)) if proc == PROC else set()
    hits = {
        pid
        for pid in everybody
        if pid not in ours and wanted.search(" ".join(arguments(pid, proc)))
    }
    tops = [pid for pid in hits if not hits.intersection(_ancestors(pid, everybody)[1:])]
    if len(tops) > 1:
        raise WorkloadError(
            f"{len(tops)} unrelated processes match {pattern!r}: pids "
            + ", ".join(str(pid) for pid in sorted(tops)),
            next_command=f"pgrep -af -- '{pattern}'",
        )
    return everybody[tops[0]] if tops else None


def _ancestors(pid: int, everybody: dict[int, Process]) -> list[int]:
    """`pid` and its parents, upwards; a parent younger than its child is none."""
    line: list[int] = []
    child: Process | None = None
    while (here := everybody.get(pid)) is not None and pid not in line:
        if child is not None and child.started < here.started:
            break
        line.append(pid)
        child, pid = here, here.parent
    return line


def start_ticks_per_second() -> int:
    """Unit of `Process.started`."""
    return os.sysconf("SC_CLK_TCK")


def ns_last_pid(proc: Path = PROC) -> int:
    """The pid given out last; the next process gets a higher free one."""
    text = _line(proc / "sys/kernel/ns_last_pid")
    return int(text) if text.isdigit() else 0


def pid_max(proc: Path = PROC) -> int:
    text = _line(proc / "sys/kernel/pid_max")
    return int(text) if text.isdigit() else 32768


def taken_pids(pids: Iterable[int], proc: Path = PROC) -> list[Process]:
    """Which of these pids are in use now. A thread's id counts, as it does for CRIU."""
    found = []
    for pid in pids:
        # /proc/TID is there for threads too, though a listing of /proc does not show it.
        now = process(pid, proc)
        if now is not None:
            found.append(now)
    return found


def environment(pid: int, proc: Path = PROC) -> dict[str, str]:
    """The environment that the process was started with; empty where it may not be read."""
    pairs = (item.partition(b"=") for item in _bytes(proc / str(pid) / "environ").split(b"\0"))
    return {os.fsdecode(key): os.fsdecode(value) for key, sep, value in pairs if sep}


def cgroup(pid: int, proc: Path = PROC) -> str | None:
    """Path of the process's cgroup below /sys/fs/cgroup (v2), e.g. /system.slice/x.service."""
    for line in _text(proc / str(pid) / "cgroup").splitlines():
        if line.startswith("0::"):
            return line[3:]
    return None


def _parse_stat(raw: bytes) -> Process | None:
    """proc_pid_stat(5). The name may hold blanks and parentheses: the last ")" ends it."""
    head, sep, tail = raw.rpartition(b")")
    pid, opened, name = head.partition(b" (")
    rest = tail.split()
    if not sep or not opened or len(rest) < 22 or not pid.isdigit():
        return None
    try:
        numbers = [int(rest[index]) for index in (1, 2, 3, 19, 21)]
    except ValueError:
        return None
    parent, group, session, started, pages = numbers
    return Process(
        pid=int(pid),
        parent=parent,
        group=group,
        session=session,
        state=rest[0].decode("ascii", "replace"),
        name=name.decode("utf-8", "replace"),
        started=started,
        resident_bytes=max(0, pages) * os.sysconf("SC_PAGE_SIZE"),
    )


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _text(path: Path) -> str:
    return _bytes(path).decode("utf-8", "replace")


def _line(path: Path) -> str:
    return _text(path).strip()
