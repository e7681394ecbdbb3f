"""`Workloads`: the same calls for every method of migration. All that drivers use."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from orchestrator.model.errors import NotSupportedError, ToolError
from orchestrator.model.host import WorkloadState
from orchestrator.model.kinds import ChannelName
from orchestrator.model.seams import Control, Result
from orchestrator.model.spec.workloads import CriuMigrate, HooksMigrate, Workload
from orchestrator.model.steps import Inspected
from orchestrator.workloads import find, hold, seal
from orchestrator.workloads.criu_method import Criu
from orchestrator.workloads.hooks import Hooks
from orchestrator.workloads.meta import network_of
from orchestrator.workloads.restart import Restart

if TYPE_CHECKING:
    from orchestrator.workloads.elsewhere import Needs
    from orchestrator.workloads.findings import Finding


class Method(Protocol):
    """One method of migration, for one workload. See `Workloads` for each call."""

    def checkpoint(self, workdir: Path, control: Control) -> Result: ...
    def inspect_checkpoint(self, workdir: Path) -> Inspected: ...
    def undo_checkpoint(self, workdir: Path, control: Control) -> Result: ...
    def restore(
        self, workdir: Path | None, meta: Mapping[str, Any], control: Control
    ) -> Result: ...
    def inspect_restore(self, meta: Mapping[str, Any]) -> Inspected: ...
    def stop(self, meta: Mapping[str, Any], control: Control) -> Result: ...
    def start_anew(self, meta: Mapping[str, Any], control: Control) -> Result: ...


class Workloads:
    """Checkpoint and restore, by each workload's own method.

    Calls block, and keep to the lesser of the workload's own time limit and
    `control.remaining()`. They raise `WorkloadError` (and `ToolError`, `NotSupportedError`,
    `SystemCallError` where a tool or the host is the cause).
    """

    def find(self, workload: Workload) -> WorkloadState:
        """Its processes, memory and files on volatile file systems. Never raises: what went
        wrong is in `error`."""
        return find.state(workload)

    def preflight(
        self,
        workload: Workload,
        channel: ChannelName,
        scratch: Path,
        control: Control,
        state_dir: Path,
        *,
        jumps: bool = True,
    ) -> list[Finding]:
        """Everything that would go wrong later, trial dump (in `scratch`) included. The workload
        goes on running.

        Args:
            jumps: False: it goes to a kernel that runs beside this one.
        """
        from orchestrator.workloads import preflight

        return preflight.run(workload, channel, scratch, control, state_dir, jumps=jumps)

    def needs(self, workload: Workload) -> Needs:
        """What another kernel must have, so that this one can be restored in it."""
        from orchestrator.workloads import elsewhere

        return elsewhere.needs(workload)

    def lacks(self, workload: Workload, needed: Needs, directory: Path) -> list[Finding]:
        """What this kernel lacks of it. Nothing is changed.

        Args:
            directory: where its state will come to.
        """
        from orchestrator.workloads import elsewhere

        return elsewhere.lacks(workload, needed, directory)

    def copy_ahead(self, workload: Workload, place: Path, control: Control) -> None:
        """Copy what it has in memory into `place`, an empty private directory, while it runs on,
        for one later `checkpoint`.

        Raises:
            NotSupportedError: its method cannot.
        """
        _criu(workload).copy_ahead(place, control)

    def rest_on(self, workload: Workload, workdir: Path, place: Path | None) -> None:
        """Before `restore` or `undo_checkpoint` of what was taken upon a copy: lay there where that
        is now. None: take that away again, before what is in `workdir` travels. Again is fine."""
        _criu(workload).rest_on(workdir, place)

    def checkpoint(
        self, workload: Workload, workdir: Path, control: Control, ahead: Path | None = None
    ) -> Result:
        """Take its state into `workdir` (made anew, 0700, sealed with a marker when complete);
        afterwards it does not run. After an error it either runs still, or `undo_checkpoint`
        brings it back from what is in `workdir`.

        Args:
            ahead: a copy that no checkpoint was tried upon; what has not changed since is left
                to it, and `rest_on` has to be called before `workdir` is used.

        Returns:
            meta: JSON, to be put into the manifest and given to `restore`.
        """
        if ahead is not None:
            return _criu(workload).checkpoint(workdir, control, ahead)
        return _method(workload).checkpoint(workdir, control)

    def inspect_checkpoint(self, workload: Workload, workdir: Path) -> Inspected:
        """PRESENT: state complete and the workload not running (result: meta). ABSENT: running.
        PARTIAL: neither. UNKNOWN: it cannot be told."""
        return _method(workload).inspect_checkpoint(workdir)

    def undo_checkpoint(self, workload: Workload, workdir: Path, control: Control) -> Result:
        """Make it run again in the same kernel, from whatever `checkpoint` left; again is fine.
        `workdir` is removed afterwards."""
        return _method(workload).undo_checkpoint(workdir, control)

    def restore(
        self, workload: Workload, workdir: Path | None, meta: Mapping[str, Any], control: Control
    ) -> Result:
        """Bring it back from `workdir` and `meta` (hostile: both are checked); again is fine.

        Returns:
            {"pids": […], "notes": [what else was done]}
        """
        return _method(workload).restore(workdir, meta, control)

    def inspect_restore(self, workload: Workload, meta: Mapping[str, Any]) -> Inspected:
        """PRESENT: it runs. ABSENT: it does not. PARTIAL: only processes without their root."""
        return _method(workload).inspect_restore(meta)

    def stop(self, workload: Workload, meta: Mapping[str, Any], control: Control) -> Result:
        """Undo `restore`: end what was restored; its state is still in `workdir`. Again is
        fine. An empty `meta`: what is found is ended."""
        return _method(workload).stop(meta, control)

    def begun(self, workdir: Path) -> Result | None:
        """What was known of a workload when its checkpoint into `workdir` began; None: nothing
        is left there. For `start_anew` only: the state itself may not be whole."""
        return seal.read(workdir) or seal.read_plan(workdir)

    def start_anew(
        self, workload: Workload, control: Control, meta: Mapping[str, Any] | None = None
    ) -> Result:
        """Where no state is left: start it as if for the first time.

        Args:
            meta: of an earlier checkpoint, if there is one: a process that is no unit can be
                started again only by its recorded arguments.

        Raises:
            NotSupportedError: nobody knows how it is started.
        """
        return _method(workload).start_anew(meta or {}, control)

    def hold(self, metas: Mapping[str, Mapping[str, Any]], control: Control) -> Result:
        """Drop incoming TCP to the ports of these workloads, so that the new kernel does not
        reset their connections before they are restored. Call it before the network is up. In
        the place of an earlier hold.

        Args:
            metas: workload name -> meta.

        Returns:
            {"ports": […], "held": bool}, and "reason" where there are ports and nft cannot hold
            them: the restore goes on, connections may be lost.
        """
        networks = [network_of(meta, name) for name, meta in metas.items()]
        ports = sorted({port for network in networks for port in network.ports})
        try:
            hold.hold(ports, _limit(control))
        except (NotSupportedError, ToolError) as error:
            control.progress(f"Connections are not held: {error}")
            return {"ports": ports, "held": False, "reason": str(error)}
        return {"ports": ports, "held": bool(ports)}

    def release(self, control: Control) -> Result:
        """End `hold`; again is fine."""
        hold.release(_limit(control))
        return {}


def _limit(control: Control) -> float:
    return max(0.1, min(10.0, control.remaining()))


def _criu(workload: Workload) -> Criu:
    migrate = workload.migrate
    if isinstance(migrate, CriuMigrate):
        return Criu(workload, migrate)
    raise NotSupportedError(
        f"state of method {migrate.method} is not copied ahead", where=workload.name
    )


def _method(workload: Workload) -> Method:
    migrate = workload.migrate
    if isinstance(migrate, CriuMigrate):
        return _criu(workload)
    if isinstance(migrate, HooksMigrate):
        return Hooks(workload, migrate)
    return Restart(workload, migrate)
