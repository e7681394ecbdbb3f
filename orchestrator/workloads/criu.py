"""CRIU's command line: dump, restore, and what its log says went wrong.

Facts (CRIU 4.2's criu/*.c and criu(8)):

- Clocks: a dump always records CLOCK_MONOTONIC and CLOCK_BOOTTIME (`timens-0.img`, or the time
  namespace's own image), and a restore by root puts the tree into a new time namespace with the
  difference as its offset wherever the kernel has CONFIG_TIME_NS (timens.c, prepare_timens). A
  workload that sleeps until a monotonic deadline goes on at once, though the new kernel's own
  clock began at zero. No option is needed; `--unprivileged` would lose it, so it is refused.
- `inventory.img` is written near the end of a dump, the processes are killed after it.
- Network lock: nftables, since the default wants the iptables program. A dump that ends by
  killing the tree leaves its table "inet CRIU-…" in place: the peer's segments are dropped, not
  reset, until the jump. A restore removes it.
- A restore with `--tcp-close` shuts the connections' sockets down instead of giving them their
  state back (sk-inet.c, open_inet_sk); what was dumped with `--tcp-established` will do.
- cgroups are ours to restore (`cgroups`): the target kernel's tree need not be as it was.
- A pre-dump copies memory while the tree runs on, and has the kernel note what is written from
  then on (CONFIG_MEM_SOFT_DIRTY). A dump upon it holds the pages that were written since, and finds
  the others by a link `parent` in its images. It starts the notes anew, also if it fails behind
  that (mem.c): a pre-dump is good for one dump.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from orchestrator.model.errors import ErrorClass, MkupgradeError, ToolError, WorkloadError
from orchestrator.model.seams import Control
from orchestrator.model.spec.workloads import CriuMigrate
from orchestrator.system import files, proc, subprocesses

DUMP_LOG = "dump.log"
RESTORE_LOG = "restore.log"
AHEAD_LOG = "pre-dump.log"
PARENT = "parent"
INVENTORY = "inventory.img"
STATS = "stats-dump"
_DUMPED = "Dumping finished successfully"
_GHOST_LIMIT = "256M"
"""Deleted files that are still open travel in the images up to this size."""
_LOG_LIMIT = 32 << 20
_LOG_LINES = 8
_REFUSED_EXTRAS = (
    "--unprivileged",
    "--images-dir",
    "-D",
    "--tree",
    "-t",
    "--leave-running",
    "-R",
    "--prev-images-dir",
)
_POLL = 0.05
_NOISE = re.compile(r"(Dumping|Restoring) FAILED|rlimit: Can't setup RLIMIT_NOFILE for self")

HINTS: Mapping[str, str] = {
    r"half of (a )?stream unix|external (stream )?socket": (
        "a UNIX connection leads out of the workload (to journald, D-Bus, …): close it, log to a "
        "file, or set migrate.ext_unix_sockets for datagram sockets"
    ),
    r"Connected TCP socket": "set migrate.tcp_established: true",
    r"In-flight connection": "connections wait to be accepted: try again",
    r"file locks? .*found|--file-locks": "set migrate.file_locks: true",
    r"not a session leader|shell-job": "set migrate.shell_job: true",
    r"ghost file .*too (big|large)|Can't dump ghost file": "it keeps a deleted file open",
    r"link-remap": "it has a file open whose name was deleted; add --link-remap to migrate.extra",
    r"Can't get 1:34 opt": "the kernel lacks CONFIG_SECURITY_NETWORK (SO_PASSSEC)",
    r"Can't get 1:\d+ opt": "this CRIU is too old for this kernel: 4.2 or later",
    r"Pid \d+ do(es)? not match|pid mismatch|Can't fork.*File exists": "a process id is taken",
    r"Can't bind inet socket.*(in use|EADDRINUSE)": "another process has taken the port",
    r"Can't bind inet socket.*(assign|EADDRNOTAVAIL)": "the address is not on an interface",
    r"Can't open file .* on restore|Unable to open.*No such file": (
        "a file is missing in this kernel; on a volatile file system? name it in migrate.carry"
    ),
    r"has bad (build-id|size)|build-?id": "a program or library was replaced",
    r"cpu.*(not supported|mismatch|capabilit)": "this kernel offers other CPU features",
    r"nftables": "the kernel lacks NF_TABLES, or CRIU was built without nftables",
    r"permission denied|operation not permitted": "run as root, outside of a container",
    r"No space left": "no room for the images",
}
"""What CRIU writes -> what to do about it."""


def dump_argv(
    pid: int,
    images: Path,
    migrate: CriuMigrate,
    shell_job: bool,
    *,
    external: Sequence[int] = (),
    ahead: Path | None = None,
) -> list[str]:
    """`criu dump` of a tree; it does not run afterwards.

    Args:
        external: inodes of connected UNIX sockets whose other end stays behind.
        ahead: images of a pre-dump; only what was written to since is dumped.
    """
    upon = [] if ahead is None else ["--track-mem", "--prev-images-dir", _link(images, ahead)]
    return [
        *("criu", "dump", "--tree", str(pid), "--images-dir", str(images)),
        *("--log-file", DUMP_LOG, "-v3", "--ghost-limit", _GHOST_LIMIT),
        *_options(migrate, shell_job),
        *(["--skip-in-flight"] if migrate.tcp_established else []),
        *(word for inode in external for word in ("--external", f"unix[{inode}]")),
        *upon,
        *extras(migrate),
    ]


def ahead_argv(pid: int, images: Path, migrate: CriuMigrate, shell_job: bool) -> list[str]:
    """`criu pre-dump` of a tree; it runs on."""
    return [
        *("criu", "pre-dump", "--tree", str(pid), "--images-dir", str(images)),
        *("--log-file", AHEAD_LOG, "-v3", "--track-mem"),
        *_options(migrate, shell_job),
        *extras(migrate),
    ]


def restore_argv(
    images: Path,
    logs: Path,
    migrate: CriuMigrate,
    shell_job: bool,
    inherit: Mapping[int, int] = MappingProxyType({}),
    *,
    close: bool = False,
) -> list[str]:
    """`criu restore` of what `dump_argv` left; the tree ends up as a child of PID 1.

    Args:
        inherit: inode of an `external` socket -> descriptor that takes its place.
        close: established connections come back closed.
    """
    return [
        *("criu", "restore", "--restore-detached", "--images-dir", str(images)),
        *("--work-dir", str(logs), "--log-file", RESTORE_LOG, "-v3"),
        *_options(migrate, shell_job, close),
        *(
            word
            for inode, fd in inherit.items()
            for word in ("--inherit-fd", f"fd[{fd}]:socket:[{inode}]")
        ),
        *extras(migrate),
    ]


def extras(migrate: CriuMigrate) -> list[str]:
    """The spec's own arguments.

    Raises:
        WorkloadError: one of them would break what this module relies on.
    """
    for word in migrate.extra:
        if word.split("=")[0] in _REFUSED_EXTRAS:
            raise WorkloadError(
                f"migrate.extra may not hold {word}", error_class=ErrorClass.INVALID
            )
    return list(migrate.extra)


def _options(migrate: CriuMigrate, shell_job: bool, close: bool = False) -> list[str]:
    options = ["--manage-cgroups=ignore"]
    if migrate.tcp_established:
        how = "--tcp-close" if close else "--tcp-established"
        options += [how, "--network-lock", "nftables"]
    if migrate.file_locks:
        options.append("--file-locks")
    if migrate.ext_unix_sockets:
        options.append("--ext-unix-sk")
    if shell_job:
        options.append("--shell-job")
    return options


def dump(
    pid: int,
    images: Path,
    migrate: CriuMigrate,
    shell_job: bool,
    control: Control,
    *,
    external: Sequence[int] = (),
    ahead: Path | None = None,
) -> None:
    """Dump a tree into `images`, an existing private directory. Afterwards it does not run.

    Args:
        ahead: see `dump_argv`; `rest_on` must be called before a restore.

    Raises:
        WorkloadError: CRIU refused; it says why, and the tree runs on.
    """
    argv = dump_argv(pid, images, migrate, shell_job, external=external, ahead=ahead)
    _run(argv, images / DUMP_LOG, f"process {pid} cannot be dumped", migrate, control)
    if not is_complete(images):
        raise WorkloadError("criu dump ended well, but left no inventory", where=str(images))
    rest_on(images, None)


def copy_ahead(
    pid: int, images: Path, migrate: CriuMigrate, shell_job: bool, control: Control
) -> None:
    """Copy the memory of a tree into `images`; it stands still only while that is prepared.

    Raises:
        WorkloadError: CRIU refused; it says why.
    """
    argv = ahead_argv(pid, images, migrate, shell_job)
    what = f"the memory of process {pid} cannot be copied while it runs"
    _run(argv, images / AHEAD_LOG, what, migrate, control)


def rest_on(images: Path, ahead: Path | None) -> None:
    """Lay the link by which a dump finds the images of the pre-dump that it rests on; None: take
    it away, as what is packed holds no links. Again is fine."""
    link = images / PARENT
    link.unlink(missing_ok=True)
    if ahead is not None and images.is_dir():
        link.symlink_to(_link(images, ahead))


def _link(images: Path, ahead: Path) -> str:
    """CRIU reads it from the directory of the images."""
    return os.path.relpath(ahead, images)


def trial(
    pid: int,
    images: Path,
    migrate: CriuMigrate,
    shell_job: bool,
    control: Control,
    *,
    external: Sequence[int] = (),
) -> None:
    """Dump a tree and let it run on (it stands still for that long).

    Raises:
        WorkloadError: CRIU refused; it says why.
    """
    argv = [*dump_argv(pid, images, migrate, shell_job, external=external), "--leave-running"]
    _run(argv, images / DUMP_LOG, f"a trial dump of process {pid} failed", migrate, control)


def restore(
    images: Path,
    logs: Path,
    migrate: CriuMigrate,
    shell_job: bool,
    control: Control,
    *,
    inherit: Mapping[int, int] = MappingProxyType({}),
    close: bool = False,
) -> None:
    """Restore what `dump` left; returns once the tree runs, as a child of PID 1.

    Args:
        logs: an existing private directory for restore.log.
        inherit, close: see `restore_argv`.

    Raises:
        WorkloadError: CRIU refused; it says why, and nothing of the tree is left.
    """
    argv = restore_argv(images, logs, migrate, shell_job, inherit, close=close)
    what = "the processes cannot be restored"
    _run(argv, logs / RESTORE_LOG, what, migrate, control, pass_fds=list(inherit.values()))


def is_complete(images: Path) -> bool:
    """Did a dump into `images` reach its end? CRIU writes `stats-dump`, and a line into its log
    (level 3), only then."""
    ended = (images / STATS).is_file() or _DUMPED in log_text(images / DUMP_LOG)
    return ended and (images / INVENTORY).is_file()


def running_on(images: Path) -> int | None:
    """The process id of a CRIU that works on these images now (left by an engine that was
    killed), or None."""
    for process in proc.processes():
        if process.name == "criu" and process.state not in "ZX":
            words = proc.arguments(process.pid)
            if str(images) in words:
                return process.pid
    return None


def wait_until_idle(images: Path, control: Control) -> None:
    """Wait for a CRIU that works on these images: killing it would break the workload.

    Raises:
        WorkloadError: it still runs at the deadline.
    """
    while (pid := running_on(images)) is not None:
        if control.remaining() <= 0:
            raise WorkloadError(
                f"an earlier criu (pid {pid}) still works on the images",
                where=str(images),
                error_class=ErrorClass.TIMEOUT,
            )
        control.progress(f"Waiting for an earlier criu (pid {pid})")
        time.sleep(_POLL)


def version(timeout: float = 10.0) -> tuple[int, ...]:
    """e.g. (4, 2, 1).

    Raises:
        NotSupportedError: not installed. ToolError: it does not say.
    """
    done = subprocesses.run(["criu", "--version"], timeout=timeout)
    match = re.search(r"Version:\s*(\d+(?:\.\d+)*)", done.text)
    if match is None:
        raise ToolError("criu --version does not say its version", details=(done.text[:200],))
    return tuple(int(part) for part in match[1].split("."))


def has_feature(name: str, timeout: float = 10.0) -> bool:
    """`criu check --feature NAME`: does this kernel have what that needs?

    Raises:
        NotSupportedError: not installed.
    """
    done = subprocesses.run(["criu", "check", "--feature", name], timeout=timeout, check=False)
    return done.returncode == 0


def log_text(path: Path) -> str:
    """A log of CRIU's; empty where there is none."""
    try:
        return files.read_regular(path, _LOG_LIMIT).decode("utf-8", "replace")
    except MkupgradeError:
        return ""


def error_lines(text: str) -> list[str]:
    """The lines of a log that name an error, without time stamps, each once, the cause first;
    those that only say that it failed, or come with every success too, are left out."""
    lines = [
        re.sub(r"^\(\d+\.\d+\)\s*", "", line).strip()
        for line in text.splitlines()
        if "Error (" in line and not _NOISE.search(line)
    ]
    return list(dict.fromkeys(lines))[:_LOG_LINES]


def hint(lines: list[str]) -> str | None:
    """What to do about these error lines; the first that is known, since later ones follow
    from it."""
    for line in lines:
        for pattern, advice in HINTS.items():
            if re.search(pattern, line, re.IGNORECASE):
                return advice
    return None


def _run(
    argv: list[str],
    log: Path,
    what: str,
    migrate: CriuMigrate,
    control: Control,
    *,
    pass_fds: Sequence[int] = (),
) -> None:
    timeout = min(migrate.timeout, control.remaining())
    try:
        subprocesses.run(argv, timeout=max(0.1, timeout), pass_fds=pass_fds)
    except ToolError as error:
        raise _failure(what, log, error) from error


def _failure(what: str, log: Path, error: ToolError) -> WorkloadError:
    lines = error_lines(log_text(log))
    advice = hint(lines)
    cause = _message(lines[0]) if lines else error.what
    return WorkloadError(
        f"{what}: {cause}" + (f" ({advice})" if advice else ""),
        where=str(log),
        next_command=f"less {log}",
        details=tuple(lines) or error.details,
        error_class=error.error_class,
    )


def _message(line: str) -> str:
    """ "Error (criu/sk-unix.c:815): unix: Can't dump …" -> "unix: Can't dump …"."""
    return re.sub(r"^.*?Error \([^)]*\):\s*", "", line)
