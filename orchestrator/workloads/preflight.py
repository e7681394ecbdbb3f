"""What would go wrong once a workload stands still, looked for while nothing has happened."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from orchestrator.model.errors import MkupgradeError
from orchestrator.model.kinds import ChannelName
from orchestrator.model.quantities import format_size
from orchestrator.model.seams import Control
from orchestrator.model.spec.workloads import (
    CriuMigrate,
    HooksMigrate,
    RestartMigrate,
    Workload,
)
from orchestrator.system import files, open_files, proc, subprocesses, systemd
from orchestrator.workloads import criu, find, hold, journal, seal, sockets, unix_diag
from orchestrator.workloads.criu_method import Criu
from orchestrator.workloads.findings import Finding

_EARLY_SECONDS = 2.0
"""Until then a kernel has started the threads that are there before init is."""
_TRIAL_SHARE = 0.5
"""Part of the time limit that a trial may take."""
_ROOM = 2
"""Images and payload are both there for a while."""


@dataclass(frozen=True)
class Scene:
    """What the checks look at."""

    workload: Workload
    channel: ChannelName
    scratch: Path
    state_dir: Path
    processes: list[proc.Process]
    jumps: bool = True
    """Its kernel goes, and another one comes in its place."""

    @property
    def pids(self) -> list[int]:
        return [p.pid for p in self.processes]

    def error(self, text: str) -> Finding:
        return Finding("error", self.workload.name, text)

    def warning(self, text: str) -> Finding:
        return Finding("warning", self.workload.name, text)


def run(
    workload: Workload,
    channel: ChannelName,
    scratch: Path,
    control: Control,
    state_dir: Path,
    *,
    jumps: bool = True,
) -> list[Finding]:
    """Every check that fits the workload's method. It goes on running.

    Args:
        scratch: a directory for the trial dump; made, and emptied afterwards.
        jumps: False: it goes to a kernel that runs beside this one.
    """
    try:
        processes = find.processes(workload.find)
    except MkupgradeError as error:
        return [Finding("error", workload.name, str(error))]
    scene = Scene(workload, channel, scratch, state_dir, processes, jumps)
    migrate = workload.migrate
    if isinstance(migrate, CriuMigrate):
        return list(_criu(scene, migrate, control))
    return list(_programs(scene, migrate))


def _programs(scene: Scene, migrate: HooksMigrate | RestartMigrate) -> Iterator[Finding]:
    if isinstance(migrate, HooksMigrate):
        commands = [migrate.save, migrate.load, migrate.undo]
        yield from _room(scene, sum(p.resident_bytes for p in scene.processes), "at most about")
    else:
        commands = [migrate.stop, migrate.start]
        if migrate.start is None and not systemd.is_running():
            yield scene.error("systemd does not run here: migrate.start is required")
    for argv in commands:
        if argv is not None and subprocesses.available(argv[0]) is None:
            yield scene.error(f"program {argv[0]} is not there, or not executable")
        elif scene.jumps and argv is not None and open_files.is_volatile(argv[0]):
            yield scene.error(f"{argv[0]} is on a volatile file system: gone after the jump")


def _criu(scene: Scene, migrate: CriuMigrate, control: Control) -> Iterator[Finding]:
    checks: list[Callable[[Scene, CriuMigrate], Iterator[Finding]]] = [
        _tools,
        _process_ids,
        _volatile,
        _deleted,
        _clocks,
        _network,
        _unix,
        _cgroup,
    ]
    found = [finding for check in checks for finding in check(scene, migrate)]
    yield from found
    size = sum(p.resident_bytes for p in scene.processes)
    about = "about"
    if migrate.trial and not any(f.severity == "error" for f in found):
        began = time.monotonic()
        trial = _trial(scene, migrate, control)
        if isinstance(trial, Finding):
            yield trial
        else:
            size, about = trial, ""
            yield from _duration(scene, migrate, time.monotonic() - began)
    yield from _room(scene, size, about)


def _tools(scene: Scene, migrate: CriuMigrate) -> Iterator[Finding]:
    try:
        criu.extras(migrate)
        criu.version()
    except MkupgradeError as error:
        yield scene.error(error.what)


def _process_ids(scene: Scene, _migrate: CriuMigrate) -> Iterator[Finding]:
    """The next kernel boots like this one: what its own threads took at once, they take again.
    Everything that starts later gets higher ids (`load-kernel`)."""
    tasks = find.task_ids(scene.pids)
    kernel_threads = [
        p.pid for p in proc.processes() if p.is_of_kernel and p.started < _EARLY_SECONDS * _ticks()
    ]
    certain = [t for t in tasks if t <= max(kernel_threads, default=0)]
    if certain:
        yield scene.error(
            f"process ids {_some(certain)} will be taken by threads of the next kernel: start it "
            "later, or with a higher id (/proc/sys/kernel/ns_last_pid)"
        )


def _volatile(scene: Scene, migrate: CriuMigrate) -> Iterator[Finding]:
    carried = {str(path) for path in migrate.carry} | {str(scene.workload.find.pid_file)}
    programs = {path for pid in scene.pids for path in open_files.mapped_files(pid)}
    for path in open_files.volatile_files(scene.pids):
        if path in carried or _made_anew(Path(path)):
            continue
        what = "a program or library" if path in programs else "a file it has open"
        yield scene.error(
            f"{what} is on a volatile file system and would be gone: {path}; name it in "
            "migrate.carry, or move it"
        )
    for path in sorted(carried - {"None"}):
        if not Path(path).is_file():
            if path != str(scene.workload.find.pid_file):
                yield scene.error(f"migrate.carry names {path}, which is no regular file")
        elif path in {str(p) for p in migrate.carry} and not open_files.is_volatile(path):
            yield scene.error(f"migrate.carry names {path}, which is not on a volatile file system")


def _made_anew(path: Path) -> bool:
    """Directories are made again; devices are there in every kernel."""
    return path.is_dir() or path.is_char_device() or path.is_block_device()


def _deleted(scene: Scene, _migrate: CriuMigrate) -> Iterator[Finding]:
    deleted = {
        f.target
        for pid in scene.pids
        for f in open_files.open_files(pid)
        if f.deleted and f.is_path
    }
    if deleted:
        yield scene.warning(
            f"deleted files are still open and travel in the images: {_some(sorted(deleted))}"
        )


def _clocks(scene: Scene, _migrate: CriuMigrate) -> Iterator[Finding]:
    if (proc.PROC / "self/ns/time").exists():
        return
    timers = any(
        f.target == "anon_inode:[timerfd]" for pid in scene.pids for f in open_files.open_files(pid)
    )
    text = (
        "this kernel has no time namespaces (CONFIG_TIME_NS); if the next has none either, "
        "monotonic clocks jump back to zero, and what waits for a monotonic deadline waits for "
        "as long as this kernel has been up"
    )
    yield scene.error(f"it has timers open, and {text}") if timers else scene.warning(text)


def _network(scene: Scene, migrate: CriuMigrate) -> Iterator[Finding]:
    found = sockets.inet_sockets(scene.pids)
    connected = sockets.established(found)
    if connected and not migrate.tcp_established:
        yield scene.error(f"{len(connected)} connections are open; set migrate.tcp_established")
    if connected and scene.jumps and not hold.available():
        yield scene.error(
            f"{len(connected)} connections are open and nft is not installed: the next kernel "
            "would reset them before they are restored (apt install nftables)"
        )
    if sockets.bound_addresses(found) and subprocesses.available("ip") is None:
        yield scene.error("ip is not installed: addresses cannot be brought back (iproute2)")


def _unix(scene: Scene, _migrate: CriuMigrate) -> Iterator[Finding]:
    """Streams to the journal are made anew; any other connection that leads out has an end in a
    process that will not be there."""
    inodes = open_files.socket_inodes(scene.pids)
    for found in unix_diag.connected_outside(inodes, unix_diag.unix_sockets()):
        if not journal.is_stream(found.name):
            yield scene.error(
                f"a UNIX connection leads out of the workload, to {found.name or 'a socket pair'}: "
                "CRIU cannot carry it; close it before the upgrade"
            )


def _cgroup(scene: Scene, _migrate: CriuMigrate) -> Iterator[Finding]:
    cgroups = {c for pid in scene.pids if (c := proc.cgroup(pid)) is not None}
    if len(cgroups) > 1:
        yield scene.warning(
            f"its processes are in {len(cgroups)} cgroups; all will be restored into that of "
            f"the root: {_some(sorted(cgroups))}"
        )


def _trial(scene: Scene, migrate: CriuMigrate, control: Control) -> Finding | int:
    """Dump with the workload left running; the size of the images, or what CRIU refused."""
    try:
        files.make_private_directory(scene.scratch)
        images = scene.scratch / f"trial-{scene.workload.name}"
        seal.remove(images)
        images.mkdir(mode=0o700)
        try:
            meta = Criu(scene.workload, migrate).describe(scene.processes)
            control.progress(f"Trial dump of {scene.workload.name}")
            criu.trial(
                scene.pids[0], images, migrate, meta.shell_job, control, external=meta.journal
            )
            return sum(p.lstat().st_size for p in images.rglob("*"))
        finally:
            seal.remove(images)
    except MkupgradeError as error:
        return scene.error("\n  ".join([error.what, *error.details]))


def _duration(scene: Scene, migrate: CriuMigrate, seconds: float) -> Iterator[Finding]:
    """A dump that is killed at its time limit can leave a workload broken, so it must not be."""
    if seconds > migrate.timeout * _TRIAL_SHARE:
        yield scene.error(
            f"the trial dump took {seconds:.1f} s of the {migrate.timeout:.0f} s that "
            "migrate.timeout allows; a dump that is cut off may leave it broken: allow more"
        )


def _room(scene: Scene, size: int, about: str) -> Iterator[Finding]:
    needed = _ROOM * size
    words = " ".join(w for w in (about, format_size(size)) if w)
    if scene.channel == "kho":
        available = proc.memory().available
        if needed > available:
            yield scene.error(
                f"its state has {words}: {format_size(needed)} of memory are needed to hand it "
                f"over, {format_size(available)} are available; use channel disk"
            )
    if scene.channel == "disk" or scene.workload.spill:
        free = files.free_bytes(scene.state_dir)
        if needed > free:
            yield scene.error(
                f"its state has {words}: {format_size(needed)} are needed in {scene.state_dir}, "
                f"{format_size(free)} are free"
            )


def _some(items: list[int] | list[str]) -> str:
    shown = ", ".join(str(i) for i in items[:5])
    return shown + (f" and {len(items) - 5} more" if len(items) > 5 else "")


def _ticks() -> int:
    return os.sysconf("SC_CLK_TCK")
