"""A workload: a small process tree whose members talk through a pipe and a UNIX socket.

The root sends a number to its first child through a pipe; that one hands it to a second
child through a socket pair, which answers the root through a named UNIX socket. The root
appends a number to the file only after it came all the way round.

    tree.py FILE SOCKET [INTERVAL]
"""

from __future__ import annotations

import os
import socket
import sys
import time
from pathlib import Path


def relay(source: int, sink: socket.socket) -> None:
    """First child: lines of a pipe go into a socket."""
    with os.fdopen(source, "rb") as lines:
        for line in lines:
            sink.sendall(line)


def answer(source: socket.socket, address: str) -> None:
    """Second child: what comes in goes back to the root's named socket."""
    back = socket.socket(socket.AF_UNIX)
    back.connect(address)
    while data := source.recv(4096):
        back.sendall(data)


def go_round(write_end: int, back: socket.socket, path: Path, interval: float) -> None:
    """The root: one number after the other, each confirmed before the next."""
    number = 0
    with path.open("w", encoding="ascii") as log, back.makefile("rb") as answers:
        while True:
            number += 1
            os.write(write_end, f"{number}\n".encode())
            came_back = int(answers.readline())
            log.write(f"{number} {came_back} {os.getpid()} {os.uname().release}\n")
            log.flush()
            time.sleep(interval)


def main() -> int:
    path, address = Path(sys.argv[1]), sys.argv[2]
    interval = float(sys.argv[3]) if len(sys.argv) > 3 else 0.05
    path.parent.mkdir(parents=True, exist_ok=True)
    Path(address).unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen(1)
    read_end, write_end = os.pipe()
    near, far = socket.socketpair()
    if os.fork() == 0:
        os.close(write_end)
        relay(read_end, near)
        return 0
    if os.fork() == 0:
        os.close(write_end)
        answer(far, address)
        return 0
    os.close(read_end)
    back, _ = listener.accept()
    go_round(write_end, back, path, interval)
    return 0


if __name__ == "__main__":
    sys.exit(main())
