"""What this kernel's processes were restored from, written down before CRIU makes them.

    /run/mkupgrade/restored/<root pid>.json

A restored process is younger than its own pid file and has the pid of a process of another
kernel, so neither says that it is the workload. A claim does: it holds for this boot, for
processes that were started after it was written and look as they were dumped. Written first, it
is right also where mkupgrade is killed and CRIU comes to its end alone.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field, ValidationError

from orchestrator.model.base import Deferred
from orchestrator.model.errors import MkupgradeError
from orchestrator.system import files, proc
from orchestrator.workloads.meta import CriuMeta

DIRECTORY = Path("/run/mkupgrade/restored")
_LIMIT = 32 << 20


class Claim(Deferred):
    """Processes that CRIU was told to make in this boot, or is about to."""

    model_config = ConfigDict(frozen=True, strict=True)

    boot_id: str
    since: Annotated[int, Field(ge=0)]
    """Clock ticks since boot: none of them is older."""
    meta: CriuMeta
    failed: bool = False
    """CRIU gave up. What is left of them, if anything, never ran."""
    root_started: int | None = None
    """Clock ticks since boot, once CRIU came to its end: whatever the root calls itself since."""

    def holds(self, process: proc.Process) -> bool:
        """Is this one of them?"""
        if process.state in "ZX" or process.started < self.since:
            return False
        if process.pid not in self.meta.pids:
            return False
        place = self.meta.pids.index(process.pid)
        if place == 0 and self.root_started is not None:
            return process.started == self.root_started
        if place == 0 and proc.arguments(process.pid) != self.meta.argv:
            return False
        sessions = self.meta.sessions
        return self.meta.shell_job or not sessions or sessions[place] == process.session


def write(meta: CriuMeta) -> Claim:
    """Claim the processes of a dump, before they are made.

    Raises:
        MkupgradeError: it cannot be written; nothing may be restored then.
    """
    claim = Claim(boot_id=proc.boot_id(), since=_now(), meta=meta)
    _write(claim)
    return claim


def settle(claim: Claim) -> None:
    """They run: from now on the root is told by its start; or, where that cannot be written, by
    its arguments."""
    root = proc.process(claim.meta.pids[0])
    if root is None:
        return
    with suppress(MkupgradeError):
        _write(claim.model_copy(update={"root_started": root.started}))


def mark_failed(claim: Claim) -> None:
    """CRIU said no: what was claimed has not run."""
    _write(claim.model_copy(update={"failed": True}))


def read(pid: int) -> Claim | None:
    """The claim on a tree by its root's pid; None: there is none of this boot."""
    try:
        text = files.read_regular(DIRECTORY / f"{pid}.json", _LIMIT)
        claim = Claim.model_validate(json.loads(text), strict=False)
    except (MkupgradeError, ValidationError, ValueError):
        return None
    return claim if claim.boot_id == proc.boot_id() and claim.meta.pids[0] == pid else None


def of(meta: CriuMeta) -> Claim | None:
    """The claim of this boot on exactly this dump; None: it was not restored here."""
    claim = read(meta.pids[0])
    same = claim is not None and (claim.meta.pids, claim.meta.taken_monotonic) == (
        meta.pids,
        meta.taken_monotonic,
    )
    return claim if same else None


def has_run(meta: CriuMeta) -> bool:
    """Has this very state run on in this kernel already?"""
    claim = of(meta)
    return claim is not None and not claim.failed


def _write(claim: Claim) -> None:
    for directory in (DIRECTORY.parent, DIRECTORY):
        files.make_private_directory(directory)
    path = DIRECTORY / f"{claim.meta.pids[0]}.json"
    files.write_durably(path, claim.model_dump_json().encode())


def _now() -> int:
    seconds = time.clock_gettime(time.CLOCK_BOOTTIME)
    return int(seconds * os.sysconf("SC_CLK_TCK"))
