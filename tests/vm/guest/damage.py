"""Runs in the guest: an apply whose state does not arrive as it was sent.

damage.py PLAN DAMAGED MISSING    the one workload's is changed on its way, after its digest was
                                  taken; the other's is not among what the kernel preserves,
                                  though the manifest says so
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
from orchestrator.system.luo import LuoSession

PLAN, DAMAGED, MISSING = sys.argv[1:]
preserve = LuoSession.preserve
left_behind: list[int] = []


def write_and_damage(directory: Path, fd: int, token: int, tick: Callable[[int], None]) -> Header:
    """One byte in the middle of the body is another."""
    header = write_payload(directory, fd, token, tick)
    if MISSING in directory.parts:
        left_behind.append(token)
    if DAMAGED in directory.parts:
        at = SIZE + header.length // 2
        (byte,) = os.pread(fd, 1, at)
        os.pwrite(fd, bytes([byte ^ 0xFF]), at)
    return header


def preserve_most(session: LuoSession, fd: int, token: int) -> None:
    """One payload is left behind."""
    if token not in left_behind:
        preserve(session, fd, token)


if __name__ == "__main__":
    sys.argv = ["mkupgrade", "apply", PLAN, "--yes", "--again"]
    with (
        mock.patch("orchestrator.handover.kho.write_payload", write_and_damage),
        mock.patch.object(LuoSession, "preserve", preserve_most),
    ):
        sys.exit(main())
