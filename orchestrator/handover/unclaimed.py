"""State that arrived for a transaction that nobody knows: reported, never dropped.

On disk it is found by listing. In memory LUO lists nothing, and a session that is retrieved is
given up by its close; so no session is touched. The one that the kernel's command line speaks of
is named, and stays where it is for a `resume` with that transaction's journal.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from orchestrator.model.errors import MkupgradeError
from orchestrator.model.landing import marks
from orchestrator.system import files


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

    def advice(self, state_dir: Path) -> str:
        """For the operator: what this is, and what to do.

        Args:
            state_dir: whose journal does not know the transaction.
        """
        if self.medium == "disk":
            return f"{self}; bring its journal back, or remove the directory if nobody needs it"
        return (
            f"this kernel was entered by transaction {self.transaction}, which the journal in "
            f"{state_dir} does not know. State of its workloads may be waiting in {self.where} "
            "until the next restart: do not restart, bring that transaction's state directory "
            "back and run `mkupgrade resume`"
        )


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
            from orchestrator.handover.kho import session_name

            name = session_name(transaction)
            found.append(Unclaimed(transaction, "memory", f"session {name}", (), None))
    root = state_dir / "handover"
    if root.is_dir() and not root.is_symlink():
        for transaction_dir in sorted(root.iterdir()):
            if transaction_dir.name not in known:
                found += _on_disk(transaction_dir)
    return found


def _on_disk(transaction_dir: Path) -> list[Unclaimed]:
    try:
        sections = sorted(p for p in transaction_dir.iterdir() if p.is_dir())
    except OSError as error:
        where = str(transaction_dir)
        return [Unclaimed(transaction_dir.name, "disk", where, (), str(error.strerror))]
    return [_described(section, transaction_dir.name) for section in sections]


def _described(directory: Path, transaction: str) -> Unclaimed:
    # Usually nothing is found, and `status` need not pay for what reads it.
    from orchestrator.handover.frame import SIZE
    from orchestrator.handover.manifest import MAX_BYTES, Manifest

    path = directory / "manifest"
    if directory.suffix == ".incoming" and not path.exists():
        problem = "not complete: it comes over a stream, or the stream was cut; its source has it"
        return Unclaimed(transaction, "disk", str(directory), (), problem)
    try:
        manifest = Manifest.decode(files.read_regular(path, SIZE + MAX_BYTES), str(path))
    except MkupgradeError as error:
        return Unclaimed(transaction, "disk", str(directory), (), error.what)
    names = tuple(w.name for w in manifest.workloads)
    return Unclaimed(transaction, "disk", str(directory), names, None)
