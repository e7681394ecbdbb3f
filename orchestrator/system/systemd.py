"""systemd, thinly: units by `systemctl`, readiness by sd_notify(3), the fd store.

Works, and says "no", on hosts that run another init.
"""

from __future__ import annotations

import array
import os
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.model.errors import ErrorClass, NotSupportedError, ToolError, WorkloadError
from orchestrator.system import subprocesses

_RUNNING = Path("/run/systemd/system")
CGROUPS = Path("/sys/fs/cgroup")
_ASK = 30.0
"""Seconds that a question to PID 1 may take; on a busy host it has other things to do, too."""
_CHANGE = 60.0
"""Seconds that reading all unit files anew may take."""
_FIRST_FD = 3


@dataclass(frozen=True)
class Unit:
    """A unit as `systemctl show` has it."""

    name: str
    load: str
    """loaded, not-found, masked, error ..."""
    active: str
    """active, inactive, failed, activating ..."""
    sub: str
    """running, dead, exited ..."""
    main_pid: int
    """0: none."""
    cgroup: str
    """Path below /sys/fs/cgroup; empty: none."""
    fragment: str
    """Path of its unit file."""


def is_running() -> bool:
    """Is systemd PID 1 here? (sd_booted(3))"""
    return _RUNNING.is_dir()


def version() -> int | None:
    """Its major version, or None without systemd."""
    if subprocesses.available("systemctl") is None:
        return None
    done = subprocesses.run(["systemctl", "--version"], timeout=_ASK, check=False)
    match = re.match(r"systemd (\d+)", done.text)
    return int(match[1]) if match else None


def show(unit: str) -> Unit:
    """A unit's state; one that is not there has load "not-found".

    Raises:
        NotSupportedError: no systemd here. ToolError: systemctl failed.
    """
    found = properties(
        unit,
        "Id",
        "LoadState",
        "ActiveState",
        "SubState",
        "MainPID",
        "ControlGroup",
        "FragmentPath",
    )
    main_pid = found.get("MainPID", "0")
    return Unit(
        name=found.get("Id", unit),
        load=found.get("LoadState", ""),
        active=found.get("ActiveState", ""),
        sub=found.get("SubState", ""),
        main_pid=int(main_pid) if main_pid.isdigit() else 0,
        cgroup=found.get("ControlGroup", ""),
        fragment=found.get("FragmentPath", ""),
    )


def properties(unit: str, *names: str) -> dict[str, str]:
    """Properties of a unit by their names in `systemctl show`; errors as `show`."""
    done = _systemctl("show", f"--property={','.join(names)}", "--", unit)
    return dict(line.split("=", 1) for line in done.text.splitlines() if "=" in line)


def reload() -> None:
    """Read the unit files again. Errors as `start`."""
    _systemctl("daemon-reload", timeout=_CHANGE)


def enable(unit: str) -> None:
    """Have a unit started as its [Install] section says. Errors as `start`."""
    _systemctl("enable", "--", unit, timeout=_CHANGE)


def start(unit: str, timeout: float) -> None:
    """Start a unit and wait until it is up.

    Args:
        timeout: seconds.

    Raises:
        NotSupportedError, ToolError: with systemd's reason.
    """
    _systemctl("start", "--", unit, timeout=timeout)


def begin(unit: str) -> None:
    """Have a unit started, anew if it is there still; does not wait. Errors as `start`."""
    _systemctl("restart", "--no-block", "--", unit)


def stop(unit: str, timeout: float) -> None:
    """Stop a unit and wait until it is down. Errors as `start`."""
    _systemctl("stop", "--", unit, timeout=timeout)


def main_pid(unit: str) -> int:
    """Main process of a unit.

    Raises:
        WorkloadError: it is not there or does not run.
    """
    found = show(unit)
    if found.load == "not-found":
        raise WorkloadError(f"no unit {unit}", next_command="systemctl list-units")
    if found.main_pid:
        return found.main_pid
    pids = cgroup_pids(found.cgroup) if found.cgroup else []
    if pids:
        return pids[0]
    raise WorkloadError(
        f"unit {unit} is {found.active} ({found.sub}): no process",
        next_command=f"systemctl status {unit}",
    )


def cgroup_pids(cgroup: str, root: Path = CGROUPS) -> list[int]:
    """Processes in a cgroup and those below it, by number; empty: none, or no such cgroup.

    Args:
        cgroup: path below /sys/fs/cgroup, e.g. /system.slice/x.service.

    Raises:
        WorkloadError: the path leads out of /sys/fs/cgroup.
    """
    top = root / cgroup.lstrip("/")
    if ".." in top.parts:
        raise WorkloadError(f"not a cgroup: {cgroup}", error_class=ErrorClass.INVALID)
    pids: set[int] = set()
    for directory in [top, *(p for p in top.rglob("*") if p.is_dir())]:
        try:
            text = (directory / "cgroup.procs").read_text(encoding="ascii")
        except OSError:
            continue
        pids.update(int(line) for line in text.split())
    return sorted(pids)


def notify(state: str, fds: Sequence[int] = ()) -> bool:
    """Tell systemd about this service, e.g. "READY=1" or "FDSTORE=1\\nFDNAME=x" with `fds`.

    Returns:
        False: not started by systemd with a notify socket; nothing was sent.

    Raises:
        ToolError: the socket is there and takes nothing.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    target = "\0" + address[1:] if address.startswith("@") else address
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.connect(target)
            sender.sendmsg([state.encode()], rights)
    except OSError as error:
        raise ToolError(f"systemd cannot be notified: {error.strerror}", where=address) from error
    return True


def received_fds() -> dict[str, list[int]]:
    """Descriptors that systemd handed to this process, by name (sd_listen_fds_with_names(3))."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return {}
    count = os.environ.get("LISTEN_FDS", "")
    if not count.isdigit():
        return {}
    names = os.environ.get("LISTEN_FDNAMES", "").split(":")
    found: dict[str, list[int]] = {}
    for index in range(int(count)):
        name = names[index] if index < len(names) and names[index] else "unknown"
        fd = _FIRST_FD + index
        os.set_inheritable(fd, False)
        found.setdefault(name, []).append(fd)
    return found


def _systemctl(*args: str, timeout: float = _ASK) -> subprocesses.Completed:
    if not is_running():
        raise NotSupportedError("systemd does not run on this host", next_command="ps -p 1")
    return subprocesses.run(["systemctl", "--no-pager", *args], timeout=timeout)
