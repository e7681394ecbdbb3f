"""A service's output to the systemd journal, across a restore.

It is a stream to /run/systemd/journal/stdout whose other end CRIU cannot dump. The stream has no
state worth carrying: the dump is told to leave it out (`--external unix[inode]`), the restore is
given a new one in its place (`--inherit-fd`). Protocol: systemd, src/journal/journald-stream.c.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

STDOUT = "/run/systemd/journal/stdout"
_NAMESPACED = "/run/systemd/journal."
_INFO = 6
_SECONDS = 2.0


def is_stream(peer_name: str) -> bool:
    """Does a connection to this name go to a journal?"""
    return peer_name == STDOUT or (
        peer_name.startswith(_NAMESPACED) and peer_name.endswith("/stdout")
    )


@contextmanager
def streams(
    inodes: list[int], identifier: str, unit: str | None, path: str = STDOUT
) -> Iterator[tuple[dict[int, int], list[str]]]:
    """New streams in the place of those that had these inodes in the source kernel.

    Yields:
        inode -> open descriptor (closed afterwards), and notes: where no journal answers, output
        goes to /dev/null from now on.
    """
    opened: dict[int, int] = {}
    notes: list[str] = []
    try:
        for inode in inodes:
            try:
                opened[inode] = _connect(path, identifier, unit)
            except OSError as error:
                opened[inode] = os.open("/dev/null", os.O_WRONLY | os.O_CLOEXEC)
                notes.append(f"its output goes to /dev/null: no journal ({error.strerror})")
        yield opened, notes
    finally:
        for fd in opened.values():
            os.close(fd)


def _connect(path: str, identifier: str, unit: str | None) -> int:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as stream:
        stream.settimeout(_SECONDS)
        stream.connect(path)
        words = [_one_line(identifier), _one_line(unit or ""), str(_INFO), "0", "0", "0", "0", ""]
        stream.sendall("\n".join(words).encode("utf-8", "replace"))
        stream.shutdown(socket.SHUT_RD)
        stream.setblocking(True)
        return os.dup(stream.fileno())


def _one_line(text: str) -> str:
    return "".join(c for c in text if c.isprintable())[:256]
