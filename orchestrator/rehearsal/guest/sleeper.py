"""A workload: an asyncio server that sleeps by absolute deadlines of the monotonic clock.

A new kernel starts that clock at zero. Unless the process is restored in a time namespace,
the deadlines lie far in the future and the server stands still.

    sleeper.py PORT FILE [INTERVAL]
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path
from typing import TextIO


class Ticker:
    """Counts at `start + n * interval` of the monotonic clock, and tells who is connected."""

    def __init__(self, log: TextIO, interval: float) -> None:
        self._log = log
        self._interval = interval
        self._writers: set[asyncio.StreamWriter] = set()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        number, deadline, last = 0, loop.time(), loop.time()
        while True:
            number += 1
            deadline += self._interval
            await asyncio.sleep(deadline - loop.time())
            now = time.monotonic()
            backwards = "back" if now < last else "on"
            last = now
            line = f"{number} {os.uname().release} {now:.3f} {backwards}\n"
            self._log.write(line)
            self._log.flush()
            self._tell(line.encode())

    def _tell(self, line: bytes) -> None:
        for writer in list(self._writers):
            if writer.is_closing():
                self._writers.discard(writer)
            else:
                writer.write(line)

    async def connected(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)


async def serve(port: int, log: TextIO, interval: float) -> None:
    ticker = Ticker(log, interval)
    # 0.0.0.0: the guest is reached by port forwarding only.
    await asyncio.start_server(ticker.connected, "0.0.0.0", port)  # noqa: S104
    await ticker.run()


def main() -> int:
    port, path = int(sys.argv[1]), Path(sys.argv[2])
    interval = float(sys.argv[3]) if len(sys.argv) > 3 else 0.1
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="ascii") as log:
        asyncio.run(serve(port, log, interval))
    return 0


if __name__ == "__main__":
    sys.exit(main())
