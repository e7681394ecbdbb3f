"""The keeper as the driver uses it: below the runtime directory, which stays ours alone."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from orchestrator.drivers.live_update import real
from orchestrator.system import files


class Session:
    """A session as far as a keeper needs one."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def fileno(self) -> int:
        return self.fd


def test_a_session_is_kept_in_private_directories_and_comes_back_as_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = tmp_path / "run" / "mkupgrade"
    monkeypatch.setattr(real, "_KEPT", runtime / "sessions")
    guard: Any = object()
    keeper, name = real.RealKeeper(guard), "mkupgrade:t-20260901-ab12cd"
    fd = os.memfd_create("session")
    os.write(fd, b"state")
    session: Any = Session(fd)
    assert keeper.kept(name) is None
    keeper.keep(name, session)
    os.close(fd)
    try:
        files.require_private_directory(runtime)
        assert stat.S_IMODE((runtime / "sessions").stat().st_mode) == 0o700
        again = keeper.kept(name)
        assert again is not None
        assert os.pread(again.fileno(), 10, 0) == b"state"
        again.close()
    finally:
        keeper.release(name)
    assert keeper.kept(name) is None
