"""A workload that keeps its word, as a database does: a number is told only when it is durable.

Each number is appended to the file and synced, then told to whoever is connected, one line per
number: "<n> <kernel>". Started anew it drops a line that was cut off, and goes on behind the last
whole one. A number missing or coming twice shows that memory and disk do not fit each other.

    ledger.py PORT FILE [INTERVAL] [--no-sync]

--no-sync: it lies: a number is told before it is durable. To see whether that is noticed.
"""

from __future__ import annotations

import os
import select
import socket
import sys
from pathlib import Path


def listen(port: int) -> socket.socket:
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind(("0.0.0.0", port))  # noqa: S104 - the guest is reached by port forwarding only
    server.listen(16)
    server.setblocking(False)
    return server


def take_up(path: Path) -> tuple[int, int]:
    """The open file, and the last number in it; half a line at its end is cut off.

    Opened for appending only: of such a file CRIU does not ask whether it is as it was.
    """
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    whole = path.read_bytes().rpartition(b"\n")[0]
    os.ftruncate(fd, len(whole) + 1 if whole else 0)
    os.fsync(fd)
    for directory in (path.parent, path.parent.parent):  # its name must not be lost either
        handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        os.fsync(handle)
        os.close(handle)
    return fd, int(whole.rpartition(b"\n")[2].split()[0]) if whole else 0


def serve(server: socket.socket, path: Path, interval: float, sync: bool) -> None:
    """Count for ever."""
    fd, number = take_up(path)
    clients: list[socket.socket] = []
    while True:
        number += 1
        line = f"{number} {os.uname().release}\n".encode()
        os.write(fd, line)
        if sync:
            os.fsync(fd)
        for client in list(clients):
            try:
                client.sendall(line)
            except OSError:
                clients.remove(client)
                client.close()
        ready, _, _ = select.select([server], [], [], interval)
        if ready:
            client, _ = server.accept()
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            client.settimeout(120.0)
            clients.append(client)


def main() -> int:
    arguments = [a for a in sys.argv[1:] if a != "--no-sync"]
    port, path = int(arguments[0]), Path(arguments[1])
    interval = float(arguments[2]) if len(arguments) > 2 else 0.1
    path.parent.mkdir(parents=True, exist_ok=True)
    serve(listen(port), path, interval, "--no-sync" not in sys.argv)
    return 0


if __name__ == "__main__":
    sys.exit(main())
