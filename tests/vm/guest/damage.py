"""Runs in the guest: an apply whose state does not arrive as it was sent.

damage.py damaged PLAN    changed on its way, after its digest was taken
damage.py missing PLAN    not among what the kernel preserves, though the manifest says so
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


def write_and_damage(directory: Path, fd: int, token: int, tick: Callable[[int], None]) -> Header:
    """One byte in the middle of the body is another."""
    header = write_payload(directory, fd, token, tick)
    at = SIZE + header.length // 2
    (byte,) = os.pread(fd, 1, at)
    os.pwrite(fd, bytes([byte ^ 0xFF]), at)
    return header


def preserve_manifest_only(session: LuoSession, fd: int, token: int) -> None:
    """Payloads are left behind."""
    if token == 0:
        preserve(session, fd, token)


preserve = LuoSession.preserve

if __name__ == "__main__":
    how, plan = sys.argv[1:]
    sys.argv = ["mkupgrade", "apply", plan, "--yes", "--again"]
    with (
        mock.patch("orchestrator.handover.kho.write_payload", write_and_damage)
        if how == "damaged"
        else mock.patch.object(LuoSession, "preserve", preserve_manifest_only)
    ):
        sys.exit(main())
