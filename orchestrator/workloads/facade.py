"""`Workloads`: the same five calls for every method of migration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from orchestrator.model.errors import NotSupportedError
from orchestrator.model.host import WorkloadState
from orchestrator.model.kinds import ChannelName
from orchestrator.model.seams import Control, Result
from orchestrator.model.spec.workloads import Workload
from orchestrator.model.steps import Inspected


@dataclass(frozen=True)
class Finding:
    """One thing that preflight found."""

    severity: Literal["error", "warning"]
    """An error would make the transaction fail behind the pivot."""
    workload: str
    text: str
    """What it is and what to do about it."""


class Workloads:
    """Checkpoint and restore, by each workload's own method."""

    def find(self, workload: Workload) -> WorkloadState:
        """Its processes, memory and files on volatile file systems. Never raises: what went
        wrong is in `error`."""
        raise NotSupportedError("not built yet")

    def preflight(
        self,
        workload: Workload,
        channel: ChannelName,
        scratch: Path,
        control: Control,
        state_dir: Path,
    ) -> list[Finding]:
        """Everything that would go wrong later, trial dump (in `scratch`) included. The workload
        goes on running."""
        raise NotSupportedError("not built yet")

    def checkpoint(self, workload: Workload, workdir: Path, control: Control) -> Result:
        """Take its state into `workdir` (made anew, 0700, sealed with a marker when complete);
        afterwards it does not run.

        Returns:
            meta: JSON, to be put into the manifest and given to `restore`.
        """
        raise NotSupportedError("not built yet")

    def inspect_checkpoint(self, workload: Workload, workdir: Path) -> Inspected:
        """PRESENT: state complete and the workload not running (result: meta). ABSENT: running.
        PARTIAL: neither. UNKNOWN: it cannot be told."""
        raise NotSupportedError("not built yet")

    def undo_checkpoint(self, workload: Workload, workdir: Path, control: Control) -> Result:
        """Make it run again in the same kernel, from whatever `checkpoint` left; again is fine."""
        raise NotSupportedError("not built yet")

    def restore(
        self, workload: Workload, workdir: Path | None, meta: Mapping[str, Any], control: Control
    ) -> Result:
        """Bring it back from `workdir` and `meta` (hostile: both are checked)."""
        raise NotSupportedError("not built yet")

    def inspect_restore(self, workload: Workload, meta: Mapping[str, Any]) -> Inspected:
        """PRESENT: it runs. ABSENT: it does not. PARTIAL: some of its processes are there."""
        raise NotSupportedError("not built yet")

    def stop(self, workload: Workload, meta: Mapping[str, Any], control: Control) -> Result:
        """Undo `restore`: kill what was restored (its state is still in `workdir`)."""
        raise NotSupportedError("not built yet")

    def start_anew(self, workload: Workload, control: Control) -> Result:
        """Where no state is left: start it as if for the first time, and say so in the result."""
        raise NotSupportedError("not built yet")

    def hold(self, metas: Mapping[str, Mapping[str, Any]], control: Control) -> Result:
        """Drop incoming TCP to the ports of these workloads, so that the new kernel does not
        reset their connections before they are restored. Call it before the network is up."""
        raise NotSupportedError("not built yet")

    def release(self, control: Control) -> Result:
        """End `hold`; again is fine."""
        raise NotSupportedError("not built yet")
