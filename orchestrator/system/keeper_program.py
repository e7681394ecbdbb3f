"""The keeper: a process that holds one descriptor open until it is told that it need not.

    keeper_program.py LISTENING_FD KEPT_FD

Started by its path with `python -IS`, so it uses the standard library alone. Whoever connects and
is root (or the same user) asks with one byte: "?" is answered by "!" and a descriptor of the kept
file; "." by ".", when it is closed, and the end of this process. Requests that come before it is
up wait in the socket's queue.
"""

from __future__ import annotations

import os
import signal
import socket
import struct
import sys
from contextlib import suppress
from pathlib import Path
from types import FrameType

ASK, GIVE = b"?", b"!"
END = b"."
_PATIENCE = 5.0
"""Seconds that a client may take to say what it wants."""


def main() -> None:
    listening, kept = int(sys.argv[1]), int(sys.argv[2])
    os.chdir("/")
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _end_with_the_system)
    with suppress(OSError):  # the state is in the kernel: nothing is won by killing this
        Path("/proc/self/oom_score_adj").write_text("-1000", encoding="ascii")
    with socket.socket(fileno=listening) as server:
        while True:
            client, _ = server.accept()
            with client, suppress(OSError):
                if _answer(client, kept) == END:
                    os._exit(0)  # at once: its process id may be what a workload needs back


def _answer(client: socket.socket, kept: int) -> bytes:
    """What the client asked for; empty: it may not ask, or asked nothing."""
    client.settimeout(_PATIENCE)
    if _user(client) not in {0, os.geteuid()}:
        return b""
    request = client.recv(1)
    if request == ASK:
        socket.send_fds(client, [GIVE], [kept])
    elif request == END:
        os.close(kept)
        client.send(END)
    return request


def _user(client: socket.socket) -> int:
    """Effective user of the peer when it connected (unix(7), SO_PEERCRED)."""
    size = struct.calcsize("3i")
    credentials = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    uid: int = struct.unpack("3i", credentials)[1]
    return uid


def _end_with_the_system(_number: int, _frame: FrameType | None) -> None:
    """Nobody else's SIGTERM; but systemd-shutdown(8) waits 90 s for those who do not go."""
    with suppress(OSError):
        if Path("/proc/1/comm").read_text(encoding="utf-8").startswith("systemd-shut"):
            sys.exit(0)


if __name__ == "__main__":
    main()
