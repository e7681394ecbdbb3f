"""Runs in the guest: an apply whose state is damaged on its way, after its digest was taken.

damage.py PLAN
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

from orchestrator.cli.main import main
from orchestrator.handover import kho
from orchestrator.handover.frame import SIZE, Header

write_payload = kho.write_payload


def write_and_damage(directory: Path, fd: int, token: int, tick: Callable[[int], None]) -> Header:
    """One byte in the middle of the body is another."""
    header = write_payload(directory, fd, token, tick)
    at = SIZE + header.length // 2
    (byte,) = os.pread(fd, 1, at)
    os.pwrite(fd, bytes([byte ^ 0xFF]), at)
    return header


if __name__ == "__main__":
    kho.write_payload = write_and_damage
    sys.argv = ["mkupgrade", "apply", sys.argv[1], "--yes"]
    sys.exit(main())
