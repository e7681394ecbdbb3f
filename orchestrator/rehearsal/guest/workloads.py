"""Start the workloads that are not running: what a host's init system does at boot.

Reads `/etc/mkupgrade/rehearsal.json`: `{"workloads": [{"argv": […], "pid_file": …}, …]}`.
A workload that a transaction brought back before has its process id in its pid file.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

CONFIG = Path("/etc/mkupgrade/rehearsal.json")


def running(pid_file: Path, argv: list[str]) -> bool:
    """Does the pid file name a living process with these arguments?"""
    try:
        pid = int(pid_file.read_text())
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[:-1]
    except (OSError, ValueError):
        return False
    return arguments == [os.fsencode(a) for a in argv]


def start(argv: list[str], pid_file: Path) -> None:
    """In a session of its own, with nothing of ours open, as a daemon would be."""
    pid_file.parent.mkdir(parents=True, exist_ok=True)
    process = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        start_new_session=True,
    )
    pid_file.write_text(f"{process.pid}\n")


def main() -> int:
    if CONFIG.exists():
        for workload in json.loads(CONFIG.read_text())["workloads"]:
            pid_file = Path(workload["pid_file"])
            if not running(pid_file, workload["argv"]):
                start(workload["argv"], pid_file)
    return 0


if __name__ == "__main__":
    sys.exit(main())
