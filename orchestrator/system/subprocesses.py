"""Running other programs: argument lists, time limits, bounded output, no orphans."""

from __future__ import annotations

import os
import select
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from orchestrator.model.errors import ErrorClass, NotSupportedError, ToolError

OUTPUT_LIMIT = 4 << 20
"""Bytes kept of each stream; a program may write more, the beginning is dropped."""
TAIL_LINES = 15

_ENDLESS = 64 << 20
"""Bytes of output after which a program is taken for one that writes without end."""
_GLANCE = 0.2
"""Seconds between looks at the limits; the program's end is seen at once."""

PACKAGES = {
    "bootctl": "systemd-boot-tools",
    "criu": "criu",
    "grub-editenv": "grub-common",
    "grub-reboot": "grub2-common",
    "grub-set-default": "grub2-common",
    "ip": "iproute2",
    "lz4": "lz4",
    "lzop": "lzop",
    "nix": "nix-bin",
    "nix-env": "nix-bin",
    "nft": "nftables",
    "ss": "iproute2",
    "ssh-keygen": "openssh-client",
    "systemctl": "systemd",
    "systemd-analyze": "systemd",
    "xz": "xz-utils",
    "zstd": "zstd",
}
"""Program -> Debian package, for the message when it is missing."""


@dataclass(frozen=True)
class Completed:
    """A program that ended."""

    argv: tuple[str, ...]
    returncode: int
    """Exit status; -N: killed by signal N."""
    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        """stdout, decoded, without white space around it."""
        return self.stdout.decode("utf-8", "replace").strip()

    @property
    def error_text(self) -> str:
        return self.stderr.decode("utf-8", "replace").strip()


def available(program: str) -> str | None:
    """Path of a program on PATH, or None."""
    return shutil.which(program)


def missing(program: str) -> NotSupportedError:
    """The error that names the package to install."""
    package = PACKAGES.get(Path(program).name)
    return NotSupportedError(
        f"program {program} is not installed",
        next_command=f"apt install {package}" if package else None,
    )


def run(
    argv: Sequence[str],
    *,
    timeout: float,
    input: bytes | None = None,  # noqa: A002 -- subprocess.run's word
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    pass_fds: Sequence[int] = (),
    check: bool = True,
    stopped: Callable[[], bool] | None = None,
    show: Callable[[str], None] | None = None,
) -> Completed:
    """Run a program to its end, in a session of its own, with LC_ALL=C.

    What it starts in the background may live on, with the output it inherited: that is memory,
    not a pipe, so neither does this wait for it nor does it die of SIGPIPE.

    Args:
        timeout: seconds; then its whole process group is killed.
        env: added to the environment.
        check: raise when the exit status is not 0.
        stopped: asked several times a second; once true, the process group is killed.
        show: called with each line that it writes to stderr, several times a second.

    Raises:
        NotSupportedError: not installed; names the Debian package.
        ToolError: exit status not 0 (class FAILED), out of time or stopped (class TIMEOUT), or
            writing without end; with the last lines it wrote.
    """
    with ExitStack() as stack:
        stdin = memory_file(stack, "stdin", input or b"")
        stdout = memory_file(stack, "stdout")
        stderr = memory_file(stack, "stderr")
        source = stdin if input is not None else subprocess.DEVNULL
        process = _start(argv, source, stdout, stderr, env=env, cwd=cwd, pass_fds=pass_fds)
        lines = _Lines(stderr, show) if show is not None else None
        problem = _wait(process, timeout, stopped, (stdout, stderr), lines)
        if lines is not None:
            lines.tell(to_the_end=True)
        done = Completed(tuple(argv), process.returncode, _content(stdout), _content(stderr))
    if problem is not None:
        raise _tool_error(done, problem, ErrorClass.TIMEOUT)
    if check and done.returncode != 0:
        raise _tool_error(done, _how_it_ended(done.returncode), ErrorClass.FAILED)
    return done


def run_filter(argv: Sequence[str], data: bytes, *, limit: int, timeout: float) -> Completed:
    """Pass data through a program; it is killed once it has written more than `limit` bytes.

    For programs whose output may be large and hostile (decompressors). The exit status is the
    caller's to judge; stdout holds up to `limit` + 1 bytes from the beginning.

    Raises:
        NotSupportedError: not installed. ToolError: out of time.
    """
    with ExitStack() as stack:
        stdin = memory_file(stack, "stdin", data)
        stderr = memory_file(stack, "stderr")
        process = _start(argv, stdin, subprocess.PIPE, stderr)
        end = time.monotonic() + timeout
        out = bytearray()
        with cast("IO[bytes]", process.stdout) as pipe:
            poll = select.poll()
            poll.register(pipe, select.POLLIN)
            while len(out) <= limit:
                left = end - time.monotonic()
                if left <= 0:
                    _end(process)
                    done = Completed(tuple(argv), process.returncode, b"", _content(stderr))
                    raise _tool_error(done, _too_slow(timeout), ErrorClass.TIMEOUT)
                if not poll.poll(left * 1000):
                    continue
                chunk = os.read(pipe.fileno(), 1 << 20)
                if not chunk:
                    break
                out += chunk
        if len(out) > limit:
            _end(process)
        process.wait()
        return Completed(tuple(argv), process.returncode, bytes(out[: limit + 1]), _content(stderr))


class _Lines:
    """What a program has written to a file so far, line by line."""

    def __init__(self, fd: int, show: Callable[[str], None]) -> None:
        self._fd, self._show, self._told = fd, show, 0

    def tell(self, *, to_the_end: bool = False) -> None:
        """Lines that are whole; at the end also the rest."""
        while data := os.pread(self._fd, OUTPUT_LIMIT, self._told):
            whole = len(data) if to_the_end else data.rfind(b"\n") + 1
            if whole == 0:
                return
            for line in data[:whole].decode("utf-8", "replace").splitlines():
                self._show(line)
            self._told += whole


def _start(
    argv: Sequence[str],
    stdin: int,
    stdout: int,
    stderr: int,
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    pass_fds: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            list(argv),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            env={**os.environ, **(env or {}), "LC_ALL": "C"},
            cwd=cwd,
            pass_fds=pass_fds,
            start_new_session=True,
        )
    except FileNotFoundError as error:
        if cwd is not None and not cwd.is_dir():
            raise ToolError("no such directory", where=str(cwd)) from error
        raise missing(argv[0]) from error
    except OSError as error:
        raise ToolError(f"{argv[0]} cannot be run: {error.strerror}") from error


def _wait(
    process: subprocess.Popen[bytes],
    timeout: float,
    stopped: Callable[[], bool] | None,
    outputs: tuple[int, int],
    lines: _Lines | None,
) -> str | None:
    """Wait until it has ended, or end it; why it was ended, or None."""
    end = time.monotonic() + timeout
    problem: str | None = None
    try:
        # Popen.wait(timeout) sleeps up to 50 ms past the end: that would be blackout.
        pidfd = os.pidfd_open(process.pid)
        try:
            poll = select.poll()
            poll.register(pidfd, select.POLLIN)
            while problem is None:
                left = end - time.monotonic()
                if poll.poll(max(0.0, min(left, _GLANCE)) * 1000):
                    break
                if lines is not None:
                    lines.tell()
                problem = _why_end_it(left, timeout, stopped, outputs)
        finally:
            os.close(pidfd)
    except BaseException:
        _end(process)
        raise
    if problem is not None:
        _end(process)
    process.wait()
    return problem


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill the group, which is there as long as the process is not waited for."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _why_end_it(
    left: float, timeout: float, stopped: Callable[[], bool] | None, outputs: tuple[int, int]
) -> str | None:
    if left <= 0:
        return _too_slow(timeout)
    if stopped is not None and stopped():
        return "was stopped on request"
    if any(os.fstat(fd).st_size > _ENDLESS for fd in outputs):
        return f"wrote more than {_ENDLESS >> 20} MiB and was killed"
    return None


def _too_slow(timeout: float) -> str:
    return f"did not end within {timeout:.1f} s and was killed"


def memory_file(stack: ExitStack, name: str, content: bytes = b"") -> int:
    """A file in memory, at its beginning; closed with the stack. /proc/self/fd/N is its path, for
    a program that gets it by `pass_fds`."""
    fd = os.memfd_create(f"mkupgrade-{name}", os.MFD_CLOEXEC)
    stack.callback(os.close, fd)
    view = memoryview(content)
    while view:
        view = view[os.write(fd, view) :]
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _content(fd: int) -> bytes:
    """The end of it, where programs say what went wrong."""
    size = os.fstat(fd).st_size
    return os.pread(fd, OUTPUT_LIMIT, max(0, size - OUTPUT_LIMIT))


def _how_it_ended(returncode: int) -> str:
    if returncode < 0:
        return f"was killed by {signal.Signals(-returncode).name}"
    return f"ended with exit status {returncode}"


def _tool_error(done: Completed, problem: str, error_class: ErrorClass) -> ToolError:
    said = (done.error_text or done.text).splitlines()[-TAIL_LINES:]
    command = shlex.join(done.argv)
    return ToolError(
        f"{done.argv[0]} {problem}" + (f": {said[-1].strip()}" if said else ""),
        details=(f"command: {command}", *said),
        error_class=error_class,
    )
