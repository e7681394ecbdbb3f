"""State that arrived for a transaction that nobody knows: reported, never dropped.

On disk it is found by listing. In memory LUO lists nothing, and a session that is retrieved is
given up by its close; so `find_unclaimed` touches no session. It names the one that the kernel's
command line speaks of, and `rescue` copies that one to disk, where the rest of mkupgrade finds it.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from orchestrator.handover.disk import DiskChannel
from orchestrator.handover.frame import SIZE
from orchestrator.handover.kho import OpenDevice, Session, read_manifest, session_name
from orchestrator.handover.manifest import MAX_BYTES, Manifest
from orchestrator.handover.payload import verify_payload
from orchestrator.handover.transfer import header_of
from orchestrator.model.errors import HandoverError, MkupgradeError
from orchestrator.model.landing import marks
from orchestrator.model.seams import Control
from orchestrator.system import files
from orchestrator.system.call_errors import NotPreservedError


@dataclass(frozen=True)
class Unclaimed:
    """State that no transaction of the journal has claimed."""

    transaction: str
    medium: Literal["memory", "disk"]
    where: str
    """A directory, or the name of a session."""
    workloads: tuple[str, ...]
    """Empty where it cannot be told without touching it."""
    problem: str | None
    """Why it could not be read; None: its manifest is whole."""

    def __str__(self) -> str:
        what = ", ".join(self.workloads) or "workloads unknown"
        text = f"state of unknown transaction {self.transaction} in {self.where} ({what})"
        return f"{text}: {self.problem}" if self.problem else text


def find_unclaimed(state_dir: Path, known: Collection[str], cmdline: str = "") -> list[Unclaimed]:
    """Everything that is on disk, or announced on the kernel's command line, for transactions
    that are not in `known`. Changes nothing, and never raises for what it finds.

    Args:
        known: transaction ids of the journal.
        cmdline: of the running kernel.
    """
    found = []
    for mark in marks(cmdline):
        transaction = mark.partition("/")[0]
        if transaction and transaction not in known:
            name = session_name(transaction)
            found.append(Unclaimed(transaction, "memory", f"session {name}", (), None))
    root = state_dir / "handover"
    if root.is_dir() and not root.is_symlink():
        for transaction_dir in sorted(root.iterdir()):
            if transaction_dir.name not in known:
                found += _on_disk(transaction_dir)
    return found


def rescue(
    open_device: OpenDevice, state_dir: Path, transaction: str, control: Control
) -> Unclaimed | None:
    """Copy a session that nobody claims to disk, durably, and only then finish it.

    Returns:
        What is on disk now; None: no such session came from the previous kernel.

    Raises:
        HandoverError: it cannot be copied whole. The session stays open, in this process, and
            its state with it: nothing is given up before it ends.
    """
    with open_device() as device:
        try:
            session = device.retrieve_session(session_name(transaction))
        except NotPreservedError:
            return None
    try:
        disk = _copied(session, state_dir, transaction, control)
    except MkupgradeError as error:
        _KEPT.append(session)
        raise HandoverError(
            f"unclaimed state could not be copied to disk: {error}",
            where=f"session {session_name(transaction)}",
            state=f"it is still in memory, held by process {os.getpid()}: do not end that process",
            next_command=f"df -h {state_dir}",
            error_class=error.error_class,
        ) from error
    session.finish()
    session.close()
    return _described(disk.dir, transaction)


_KEPT: list[Session] = []
"""Sessions that could not be rescued: their close would be their end."""


def _copied(session: Session, state_dir: Path, transaction: str, control: Control) -> DiskChannel:
    name = session_name(transaction)
    manifest = read_manifest(session, name)
    if manifest.transaction != transaction:
        raise HandoverError(f"the session holds transaction {manifest.transaction}", where=name)
    frames: dict[int, int] = {}
    with ExitStack() as stack:
        for workload in manifest.workloads:
            if workload.payload:
                token = workload.payload.token
                frames[token] = session.retrieve(token)
                stack.callback(os.close, frames[token])
                where = f"session {name}, token {token}"
                verify_payload(frames[token], header_of(workload.payload), where)
        disk = DiskChannel(state_dir, transaction, manifest.section, "received")
        disk.copy_in(manifest, frames, control)
    return disk


def _on_disk(transaction_dir: Path) -> list[Unclaimed]:
    try:
        sections = sorted(p for p in transaction_dir.iterdir() if p.is_dir())
    except OSError as error:
        where = str(transaction_dir)
        return [Unclaimed(transaction_dir.name, "disk", where, (), str(error.strerror))]
    return [_described(section, transaction_dir.name) for section in sections]


def _described(directory: Path, transaction: str) -> Unclaimed:
    path = directory / "manifest"
    try:
        manifest = Manifest.decode(files.read_regular(path, SIZE + MAX_BYTES), str(path))
    except MkupgradeError as error:
        return Unclaimed(transaction, "disk", str(directory), (), error.what)
    names = tuple(w.name for w in manifest.workloads)
    return Unclaimed(transaction, "disk", str(directory), names, None)
