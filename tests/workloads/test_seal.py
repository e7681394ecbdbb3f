"""The marker of a checkpoint: it says that everything else is there, after a cut of power too."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.system import files
from orchestrator.workloads import seal


def test_the_marker_is_written_behind_a_sync_of_everything(
    tmp_path: Path, synced: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """CRIU syncs nothing, nor has the workload synced its own files when it is stopped."""
    seen: list[int] = []

    def write(path: Path, data: bytes, mode: int = 0o600) -> None:
        seen.append(len(synced))
        path.write_bytes(data)

    workdir = tmp_path / "state"
    seal.begin(workdir, {"pids": [7]})
    assert seal.read(workdir) is None
    monkeypatch.setattr(files, "write_durably", write)
    seal.complete(workdir, {"pids": [7]})
    assert seen == [1]
    assert seal.read(workdir) == {"pids": [7]}
