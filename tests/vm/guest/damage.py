"""Runs in the guest: an apply whose state is damaged on its way, after its digest was taken.

damage.py PLAN
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from unittest import mock

from orchestrator.cli.main import main
from orchestrator.handover.frame import SIZE, Header
from orchestrator.handover.payload import write_payload


def write_and_damage(directory: Path, fd: int, token: int, tick: Callable[[int], None]) -> Header:
    """One byte in the middle of the body is another."""
    header = write_payload(directory, fd, token, tick)
    at = SIZE + header.length // 2
    (byte,) = os.pread(fd, 1, at)
    os.pwrite(fd, bytes([byte ^ 0xFF]), at)
    return header


if __name__ == "__main__":
    sys.argv = ["mkupgrade", "apply", sys.argv[1], "--yes"]
    with mock.patch("orchestrator.handover.kho.write_payload", write_and_damage):
        sys.exit(main())
