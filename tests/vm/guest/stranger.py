"""Runs in the guest: a jump with the state of a transaction that no journal here knows.

stranger.py leave IMAGE    holds session mkupgrade:<TRANSACTION> and jumps
stranger.py take           prints what is in that session, in the next kernel
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from orchestrator.system import calls, guard, luo

TRANSACTION = "20260101-000000-gone"
CONTENT = b"state of a workload"


def leave(image: str) -> None:
    host = guard.HostGuard.open()
    with luo.open_device(host) as device:
        session = device.create_session(f"mkupgrade:{TRANSACTION}")
    fd = calls.memfd("state")
    os.write(fd, CONTENT)
    session.preserve(fd, 0)
    cmdline = Path("/proc/cmdline").read_text().strip()
    kernel = os.open(image, os.O_RDONLY | os.O_CLOEXEC)
    mark = f"mkupgrade.transaction={TRANSACTION}/forward"
    calls.kexec_file_load(host, kernel, None, f"{cmdline} {mark}")
    os.sync()
    calls.reboot_kexec(host)


def take() -> None:
    with luo.open_device(guard.HostGuard.open()) as device:
        session = device.retrieve_session(f"mkupgrade:{TRANSACTION}")
    print(os.pread(session.retrieve(0), 1000, 0).decode())


if __name__ == "__main__":
    if sys.argv[1] == "leave":
        leave(sys.argv[2])
    take()
