"""cgroups (v2): made again, and the restored processes moved into theirs."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from orchestrator.model.errors import ErrorClass, WorkloadError

CGROUPS = Path("/sys/fs/cgroup")


def join(cgroup: str, pids: list[int], root: Path = CGROUPS) -> str | None:
    """Make the cgroup and move processes into it.

    A restored tree begins in the cgroup of whoever ran CRIU, and would die with that service.

    Returns:
        Why it could not be done, for the report; None: done.

    Raises:
        WorkloadError: the path leads out of the hierarchy.
    """
    path = root / cgroup.lstrip("/")
    if ".." in path.parts:
        raise WorkloadError(f"not a cgroup: {cgroup}", error_class=ErrorClass.INVALID)
    if not (root / "cgroup.procs").exists():
        return "no unified cgroup hierarchy is mounted"
    try:
        path.mkdir(parents=True, exist_ok=True)
        for pid in pids:
            with suppress(ProcessLookupError):
                (path / "cgroup.procs").write_text(str(pid), encoding="ascii")
    except OSError as error:
        return f"cgroup {cgroup}: {error.strerror}"
    return None
