"""A workload: counts, appends each number to a file it keeps open, and serves the numbers.

Every connection gets each number from its first on, one line per number: "<n> <kernel>".
All state is in memory, so that a number missing or coming twice shows that state was lost.

    counter.py PORT FILE [INTERVAL]
"""

from __future__ import annotations

import os
import select
import socket
import sys
import time
from pathlib import Path
from typing import TextIO


def listen(port: int) -> socket.socket:
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind(("0.0.0.0", port))  # noqa: S104 - the guest is reached by port forwarding only
    server.listen(16)
    server.setblocking(False)
    return server


def serve(server: socket.socket, log: TextIO, interval: float) -> None:
    """Tick for ever."""
    clients: list[socket.socket] = []
    number = 0
    while True:
        number += 1
        line = f"{number} {os.uname().release}\n"
        log.write(line)
        log.flush()
        for client in list(clients):
            try:
                client.sendall(line.encode())
            except OSError:
                clients.remove(client)
                client.close()
        # Waits by a length, not by a deadline: this one does not mind a clock that jumps.
        ready, _, _ = select.select([server], [], [], interval)
        if ready:
            client, _ = server.accept()
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            client.settimeout(120.0)
            clients.append(client)
            time.sleep(interval)


def main() -> int:
    port, path = int(sys.argv[1]), Path(sys.argv[2])
    interval = float(sys.argv[3]) if len(sys.argv) > 3 else 0.05
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="ascii") as log:
        serve(listen(port), log, interval)
    return 0


if __name__ == "__main__":
    sys.exit(main())
