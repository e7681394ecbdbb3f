"""Running the programs that make images and kernels: argument lists, time limits, errors."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from orchestrator.model.errors import ErrorClass, RehearsalError

Progress = Callable[[str], None]
"""Told one line for people about what is going on."""

_TAIL = 25
"""Lines of a tool's output that an error carries."""


def quiet(_text: str) -> None:
    """A `Progress` that says nothing."""


def find_tool(name: str) -> str:
    """Path of a program, /sbin included (mke2fs is not on an ordinary user's PATH).

    Raises:
        RehearsalError: it is not installed; names the Debian package.
    """
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
    found = shutil.which(name, path=path)
    if found is None:
        package = DEBIAN_PACKAGES.get(name, name)
        raise RehearsalError(
            f"the program {name} is not installed",
            next_command=f"apt-get install {package}",
            error_class=ErrorClass.REFUSED,
        )
    return found


DEBIAN_PACKAGES = {
    "qemu-system-x86_64": "qemu-system-x86",
    "mke2fs": "e2fsprogs",
    "debugfs": "e2fsprogs",
    "setpriv": "util-linux",
    "sgdisk": "gdisk",
    "mformat": "mtools",
    "mmd": "mtools",
    "mcopy": "mtools",
}
"""Debian's package for a program, where the names differ."""


def run_tool(
    argv: Sequence[str | Path],
    *,
    timeout: float,
    what: str,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> str:
    """Run a program to its end and return what it printed (both streams).

    Args:
        argv: program and arguments; the program is looked up by `find_tool`.
        timeout: seconds; the program's whole process group is killed after that.
        what: what it is for, e.g. "make the guest image"; starts the error's text.

    Raises:
        RehearsalError: it could not be started, failed or took too long; `details` holds
            the end of its output.
    """
    command = [find_tool(str(argv[0])), *map(str, argv[1:])]
    environment = {**os.environ, "LC_ALL": "C.UTF-8", **(env or {})}
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=environment,
        cwd=cwd,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        kill_group(process)
        raise RehearsalError(
            f"{what}: {argv[0]} took longer than {timeout:g} s", error_class=ErrorClass.TIMEOUT
        ) from None
    except BaseException:
        kill_group(process)
        raise
    if process.returncode != 0:
        raise RehearsalError(
            f"{what}: {argv[0]} ended with code {process.returncode}",
            details=tuple(output.splitlines()[-_TAIL:]),
        )
    return output


def kill_group(process: subprocess.Popen[str] | subprocess.Popen[bytes]) -> None:
    """Kill a process that leads its own process group, and all in it; then reap it."""
    if process.poll() is None:  # else its number may be somebody else's by now
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()
