"""The guard: calls that change the host's kernel are refused anywhere but on the allowed host.

Every wrapper of such a call takes a `HostGuard` and asks it first. The guard refuses unless all
of these hold, looked at anew for every call:

1. `/etc/mkupgrade/host.permit` is there: a regular file, no link, owned by root and writable by
   nobody else, in directories of which the same is true; it holds this machine's id.
2. The machine is the one the plan was made for, if the caller said which.
3. This process sees the machine itself: it is in PID 1's namespaces, these are the initial ones
   where the kernel fixes their numbers, and nothing says container.
4. The machine has not restarted since the guard was opened.

A guard has no paths to inject: what tests may bend is `objections`, which permits nothing.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

from orchestrator.model.errors import GuardError
from orchestrator.system import files

PERMIT_COMMAND = "mkupgrade host permit"

# include/uapi/linux/nsfs.h, enum init_ns_ino: fixed since Linux 3.8. The network and mount
# namespaces have no such number before 6.18, so those are only compared with PID 1's.
_INITIAL_NAMESPACES = {"cgroup": 0xEFFFFFFB, "pid": 0xEFFFFFFC, "user": 0xEFFFFFFD}
_SAME_AS_PID_1 = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")
_KINDS = {"directory": stat.S_ISDIR, "regular file": stat.S_ISREG}
_MACHINE_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class GuardPaths:
    """What the guard looks at; anything but `REAL` is for tests of `objections`."""

    permit: Path = Path("/etc/mkupgrade/host.permit")
    machine_id: Path = Path("/etc/machine-id")
    proc: Path = Path("/proc")
    container_marks: tuple[Path, ...] = (
        Path("/run/systemd/container"),
        Path("/.dockerenv"),
        Path("/run/.containerenv"),
    )
    owner: int = 0
    """User id that must own the permit and its directories."""


REAL: Final = GuardPaths()


@final
class HostGuard:
    """Leave to change this machine's kernel. Opened by a driver, handed to every such call."""

    def __init__(self, boot_id: str, machine_id: str | None) -> None:
        self._boot_id = boot_id
        self._machine_id = machine_id

    @classmethod
    def open(cls, machine_id: str | None = None) -> HostGuard:
        """A guard for the machine as it is booted now. Never refuses: `require` does.

        Args:
            machine_id: id of the machine that the plan was made for, if there is a plan.
        """
        return cls(_read(REAL.proc / "sys/kernel/random/boot_id"), machine_id)

    def objections(self) -> list[str]:
        """Why calls would be refused now, one sentence each; empty: they would go through."""
        return objections(REAL, boot_id=self._boot_id, machine_id=self._machine_id)

    def require(self, what: str) -> None:
        """Return only if this process may change the host's kernel.

        Args:
            what: the call that is about to be made, for the message: "load a kernel".

        Raises:
            GuardError: with every reason in `details`, if there are several.
        """
        found = self.objections()
        if found:
            raise _refusal(what, found)


def require(guard: HostGuard, what: str) -> None:
    """What each wrapper calls first. A stand-in for the guard is refused like no guard at all."""
    if type(guard) is not HostGuard:
        raise _refusal(what, [f"no host guard was given, but a {type(guard).__name__}"])
    guard.require(what)


def objections(
    paths: GuardPaths, *, boot_id: str | None = None, machine_id: str | None = None
) -> list[str]:
    """Every reason to refuse, for these paths. Reads only; see the module's text for the rules."""
    here = _read(paths.machine_id)
    found = _permit_objections(paths, here)
    if machine_id is not None and machine_id != here:
        found.append(f"the plan was made for machine {machine_id}, this is {here or 'unknown'}")
    found += _container_objections(paths)
    now = _read(paths.proc / "sys/kernel/random/boot_id")
    if boot_id is not None and (not now or boot_id != now):
        found.append("the machine has restarted since the driver was opened")
    return found


def permit_host(paths: GuardPaths = REAL) -> Path:
    """Allow mkupgrade to change this machine's kernel; the path of the permit written.

    Raises:
        GuardError: not root, inside a container, no machine id, or a directory that is not safe.
    """
    what = "permit this host"
    if os.geteuid() != paths.owner:
        reasons = ["only root may permit this"]
        raise _refusal(what, reasons, next_command=f"sudo {PERMIT_COMMAND}")
    found = _container_objections(paths)
    if found:
        raise _refusal(what, found, next_command="systemd-detect-virt --container")
    here = _read(paths.machine_id)
    if not _MACHINE_ID.fullmatch(here):
        reasons = [f"{paths.machine_id} holds no machine id"]
        raise _refusal(what, reasons, next_command="systemd-machine-id-setup")
    above = paths.permit.parent.parent
    found = _directory_objections(above, paths.owner)
    if found:
        raise _refusal(what, found, next_command=f"ls -ld {above} {above.parent}")
    _write_permit(paths.permit, here)
    return paths.permit


def forbid_host(paths: GuardPaths = REAL) -> bool:
    """Take the permission back; False: there was none.

    Raises:
        OSError: the permit is there and cannot be removed.
    """
    try:
        paths.permit.unlink()
    except FileNotFoundError:
        return False
    return True


def _refusal(what: str, reasons: list[str], next_command: str = PERMIT_COMMAND) -> GuardError:
    return GuardError(
        f"refused to {what}: {reasons[0]}",
        state="nothing was changed by this call",
        next_command=next_command,
        details=tuple(reasons) if len(reasons) > 1 else (),
    )


def _permit_objections(paths: GuardPaths, machine_id: str) -> list[str]:
    directory = paths.permit.parent
    found = _directory_objections(directory, paths.owner)
    if found:
        return found
    try:
        fd = os.open(paths.permit, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return [f"this machine was not permitted: no {paths.permit}"]
    except OSError as error:
        return [f"{paths.permit} cannot be read: {error.strerror}"]
    try:
        found = _mode_objections(paths.permit, os.fstat(fd), paths.owner, "regular file")
        text = os.read(fd, 256).decode("ascii", "replace").strip() if not found else ""
    finally:
        os.close(fd)
    if not found and (not _MACHINE_ID.fullmatch(machine_id) or text != machine_id):
        found.append(f"{paths.permit} is for another machine than {machine_id or 'this'}")
    return found


def _directory_objections(directory: Path, owner: int) -> list[str]:
    """`directory` and the one above it: who can rename them can replace the permit."""
    for path in (directory.parent, directory):
        try:
            status = path.lstat()
        except FileNotFoundError:
            return [f"this machine was not permitted: no {path}"]
        except OSError as error:
            return [f"{path} cannot be looked at: {error.strerror}"]
        found = _mode_objections(path, status, owner, "directory")
        if found:
            return found
    return []


def _mode_objections(path: Path, status: os.stat_result, owner: int, kind: str) -> list[str]:
    if not _KINDS[kind](status.st_mode):
        return [f"{path} is not a {kind} (links are not followed)"]
    if status.st_uid != owner:
        return [f"{path} belongs to user {status.st_uid}, not to root"]
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return [f"{path} can be written by others (mode {stat.S_IMODE(status.st_mode):04o})"]
    return []


def _container_objections(paths: GuardPaths) -> list[str]:
    found = [
        f"inside a container: {mark} is there"
        for mark in paths.container_marks
        if os.path.lexists(mark)
    ]
    try:
        environment = (paths.proc / "1/environ").read_bytes()[:65536]
    except OSError as error:
        return [*found, f"PID 1's environment cannot be read ({error.strerror}): not root?"]
    if any(item.startswith(b"container=") for item in environment.split(b"\0")):
        found.append("inside a container: PID 1 has container= in its environment")
    for name in _SAME_AS_PID_1:
        reason = _namespace_objection(paths.proc, name)
        if reason:
            found.append(reason)
    return found


def _namespace_objection(proc: Path, name: str) -> str | None:
    try:
        ours = str((proc / "self/ns" / name).readlink())
        first = str((proc / "1/ns" / name).readlink())
    except OSError as error:
        return f"the {name} namespace cannot be compared with PID 1's: {error.strerror}"
    if ours != first:
        return f"not in PID 1's {name} namespace"
    initial = _INITIAL_NAMESPACES.get(name)
    if initial is not None and ours != f"{name}:[{initial}]":
        return f"inside a container: {ours} is not the machine's first {name} namespace"
    return None


def _write_permit(permit: Path, machine_id: str) -> None:
    permit.parent.mkdir(mode=0o755, exist_ok=True)
    files.write_durably(permit, f"{machine_id}\n".encode())


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""
