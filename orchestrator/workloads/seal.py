"""The working directory of a checkpoint, and the marker that says it is whole.

    WORKDIR/plan.json      meta as far as it is known, before the workload is touched
    WORKDIR/images/…       what CRIU wrote, or WORKDIR/state/… what a hook wrote
    WORKDIR/carry/000000   contents of carried files
    WORKDIR/meta.json      the marker: complete meta, written last and durably

The directory is 0700 and travels whole as the payload. On a tmpfs (state that stays in memory) it
survives the death of the engine, but no reset; below the state directory it survives both.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from orchestrator.model.base import canonical_json, read_json
from orchestrator.model.errors import MkupgradeError, WorkloadError
from orchestrator.model.seams import Result
from orchestrator.system import files

_LIMIT = 4 << 20


def begin(workdir: Path, meta: Result) -> None:
    """Make the directory anew, with `plan.json` in it."""
    remove(workdir)
    files.make_private_directory(workdir)
    files.write_durably(workdir / "plan.json", canonical_json(meta).encode())


def complete(workdir: Path, meta: Result) -> None:
    """Write the marker: everything else is there, and on the disk.

    That takes a sync of everything: CRIU does not sync its images, nor did the workload sync all
    that it had written until it stopped. After a cut of power, images without those writes would
    bring back a process that remembers what its files do not.
    """
    os.sync()
    files.write_durably(workdir / "meta.json", canonical_json(meta).encode())


def read(workdir: Path) -> Result | None:
    """The complete meta, or None where the marker is missing.

    Raises:
        WorkloadError: it is there and cannot be read.
    """
    return _read(workdir / "meta.json")


def read_plan(workdir: Path) -> Result | None:
    """The meta of a checkpoint that began; None where none did."""
    return _read(workdir / "plan.json")


def remove(workdir: Path) -> None:
    """Remove a working directory; none there is fine. The markers go first."""
    try:
        if workdir.is_symlink():
            workdir.unlink()
            return
        for marker in ("meta.json", "plan.json"):
            (workdir / marker).unlink(missing_ok=True)
        if workdir.exists():
            shutil.rmtree(workdir)
    except NotADirectoryError:
        workdir.unlink()
    except OSError as error:
        raise WorkloadError(
            f"earlier state cannot be removed: {error.strerror}", where=str(workdir)
        ) from error


def _read(path: Path) -> Result | None:
    if not path.exists():
        return None
    try:
        value: Any = read_json(files.read_regular(path, _LIMIT))
    except (ValueError, MkupgradeError) as error:
        raise WorkloadError(f"cannot be read: {error}", where=str(path)) from error
    if not isinstance(value, dict):
        raise WorkloadError("not a JSON object", where=str(path))
    return value
