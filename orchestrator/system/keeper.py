"""Descriptors that must outlive the process that opened them: handed to a keeper, asked back.

    DIRECTORY/<name>        a UNIX socket in a directory of mode 0700

A keeper is a small process of its own (`keeper_program`), in a session of its own. It has the
descriptor from its first instant on, since it is started with it, so that nothing depends on how
long it takes to come up. SIGKILL of the one who started it does not touch it; a restart ends it.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from orchestrator.model.errors import ErrorClass, ToolError
from orchestrator.system import files, keeper_program

_PATIENCE = 10.0
"""Seconds that an answer may take: the keeper may still be starting."""
_END = 2.0
_QUEUE = 8

_started: dict[Path, subprocess.Popen[bytes]] = {}
"""Keepers that this process has started, by their sockets: it is their parent, and reaps them."""


def keep(directory: Path, name: str, fd: int) -> None:
    """Have a descriptor held open under `name`, in the place of what was kept under it.

    Args:
        directory: 0700; made if it is missing.
        name: a file name.

    Raises:
        ToolError: no keeper can be started: the caller alone holds it.
        MkupgradeError: the directory is not ours alone.
    """
    release(directory, name)
    files.make_private_directory(directory)
    try:
        with _stream() as server, _address(directory, name) as address:
            server.bind(address)
            server.listen(_QUEUE)
            fds = (server.fileno(), fd)
            _started[directory / name] = subprocess.Popen(
                [sys.executable, "-IS", keeper_program.__file__, *map(str, fds)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=fds,
                start_new_session=True,
                cwd="/",
            )
    except OSError as error:
        raise _failed(f"no keeper can be started: {error.strerror}", directory / name) from error


def kept(directory: Path, name: str) -> int | None:
    """A descriptor of what is kept under `name`, which the caller closes; None: nothing is.

    Raises:
        ToolError: a keeper is there and does not answer.
    """
    with _answers(directory, name):
        connection = _connected(directory, name)
        if connection is None:
            return None
        with connection:
            connection.send(keeper_program.ASK)
            answer, fds, _, _ = socket.recv_fds(connection, 1, 1)
    if answer != keeper_program.GIVE or len(fds) != 1:
        raise _failed("the keeper sent no descriptor", directory / name)
    os.set_inheritable(fds[0], False)
    return fds[0]


def release(directory: Path, name: str) -> None:
    """End the keeper: what nobody else holds is closed. None there is fine.

    Raises:
        ToolError: it is there and does not answer.
    """
    with _answers(directory, name):
        connection = _connected(directory, name)
        if connection is not None:
            with connection:
                connection.send(keeper_program.END)
                connection.recv(1)
        (directory / name).unlink(missing_ok=True)
    process = _started.pop(directory / name, None)
    if process is not None:
        with suppress(subprocess.TimeoutExpired):
            process.wait(_END)


def _connected(directory: Path, name: str) -> socket.socket | None:
    """Connected to the keeper of this name; None: there is none."""
    connection = _stream()
    connection.settimeout(_PATIENCE)
    try:
        with _address(directory, name) as address:
            connection.connect(address)
    except (FileNotFoundError, ConnectionRefusedError):
        connection.close()
        return None
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def _address(directory: Path, name: str) -> Iterator[str]:
    """The socket's address, by way of the open directory: a path may be longer than the 107
    bytes that an address takes (unix(7))."""
    flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    handle = os.open(directory, flags)
    try:
        yield f"/proc/self/fd/{handle}/{name}"
    finally:
        os.close(handle)


@contextmanager
def _answers(directory: Path, name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or "no answer in time"
        raise _failed(f"the keeper does not answer: {reason}", directory / name) from error


def _stream() -> socket.socket:
    return socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)


def _failed(what: str, where: Path) -> ToolError:
    return ToolError(what, where=str(where), error_class=ErrorClass.IO)
