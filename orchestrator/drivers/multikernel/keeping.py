"""Old generations that are kept behind a commit: until when, whether they are still what a rollback
would start, and how their place is given back.

What is kept is written down at the commit, in the transaction's records. Only what is still as it
was then is touched: name, id and command line are the old generation's, and it does not run.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from orchestrator.drivers.multikernel import changing, living
from orchestrator.drivers.multikernel.kernel import Kernel
from orchestrator.drivers.multikernel.living import Named, Patience
from orchestrator.drivers.multikernel.parts import next_tag
from orchestrator.drivers.multikernel.seeing import SeenInstance, Snapshot, Status, look
from orchestrator.drivers.multikernel.trees.changes import RemoveInstance
from orchestrator.drivers.records import Records
from orchestrator.model.host import KeptGeneration
from orchestrator.model.outcomes import Outcome
from orchestrator.model.params.side_by_side import Generation
from orchestrator.model.steps import Section

RECORD = "commit"
_PATIENCE = 30.0
"""Seconds for one generation."""


def remember(records: Records, now: Snapshot, kept: Iterable[Generation], seconds: float) -> None:
    """Write down what is kept from here on, durably.

    Raises:
        SystemCallError
    """
    found = [
        {"name": it.name, "id": it.id, "cmdline": now.instances[it.name].cmdline}
        for it in kept
        if it.name in now.instances
    ]
    records.write(RECORD, {"kept": found, "until": time.time() + seconds})


def kept(state_dir: Path, transactions: Iterable[str]) -> list[KeptGeneration]:
    """What these transactions keep, whether their time is over or not.

    Raises:
        RecordError, SystemCallError
    """
    return [
        KeptGeneration(transaction=transaction, until=float(record["until"]), **it)
        for transaction in transactions
        if (record := _record(state_dir, transaction)) is not None
        for it in _left(record)
    ]


def why_no_way_back(kernel: Kernel, state_dir: Path, transaction: str) -> str | None:
    """Why the old generations of a committed transaction cannot run again; None: they can, as far
    as it depends on them.

    Raises:
        NotSupportedError, MkupgradeError: it cannot be told.
    """
    record = Records(state_dir, transaction, Section.FORWARD).read(RECORD)
    if record is None:
        return None
    now = look(kernel)
    for it in record.get("kept", []):
        seen = now.instances.get(it["name"])
        if seen is None or seen.tree.id != it["id"]:
            when = time.strftime("%Y-%m-%d %H:%M", time.localtime(float(record["until"])))
            return (
                f"{it['name']} is gone: it was kept until {when}, or the next upgrade of it has "
                "taken it away"
            )
        if seen.cmdline != it["cmdline"]:
            return f"{it['name']} has another image than the one that was kept: {seen.cmdline!r}"
    return None


def give_back(
    kernel: Kernel, state_dir: Path, over: Sequence[tuple[str, Outcome]], now: float | None = None
) -> list[str]:
    """Take away the old generations whose time is over. Call it with the host lock held; again, as
    often as you like.

    Args:
        over: id and outcome of every transaction that has ended, oldest first.
        now: unix seconds; default: this moment.

    Returns:
        Their names. What runs again, or has another image by now, is left alone.

    Raises:
        MkupgradeError: the kernel refuses; what was given back before it stays so.
    """
    moment = time.time() if now is None else now
    given: list[str] = []
    for transaction in committed(over):
        record = _record(state_dir, transaction)
        if record is None or float(record["until"]) > moment:
            continue
        given += _give_back(kernel, Records(state_dir, transaction, Section.FORWARD), record)
    return given


def committed(over: Iterable[tuple[str, Outcome]]) -> Iterator[str]:
    """Those whose old generations may be kept."""
    return (transaction for transaction, outcome in over if outcome is Outcome.COMMITTED)


def _give_back(kernel: Kernel, records: Records, record: dict[str, Any]) -> list[str]:
    given, gone = [], set(record.get("gone", []))
    begun = set(record.get("begun", []))
    for it in _left(record):
        named = Named(it["name"], it["id"])
        seen = look(kernel).instances.get(named.name)
        if seen is not None and seen.tree.id == named.id:
            if not _is_as_kept(seen, it, begun=named.name in begun):
                continue
            # Behind an unload nothing says any more whose it was.
            begun.add(named.name)
            records.write(RECORD, record | {"begun": sorted(begun)})
            living.unload(kernel, named, _patience())
            tag = next_tag(kernel, records.transaction_dir.name, f"give-back/{named.name}")
            changing.apply(kernel, RemoveInstance(named.name), tag)
            given.append(named.name)
        gone.add(named.name)
        records.write(RECORD, record | {"begun": sorted(begun), "gone": sorted(gone)})
    return given


def _left(record: dict[str, Any]) -> list[dict[str, Any]]:
    """What has not been given back."""
    gone = record.get("gone", [])
    return [it for it in record["kept"] if it["name"] not in gone]


def _is_as_kept(seen: SeenInstance, it: dict[str, Any], *, begun: bool) -> bool:
    if seen.status is Status.LOADED:
        return bool(seen.cmdline == it["cmdline"])
    return seen.status is Status.READY and begun


def _record(state_dir: Path, transaction: str) -> dict[str, Any] | None:
    """None: nothing is kept."""
    record = Records(state_dir, transaction, Section.FORWARD).read(RECORD)
    return record if record is not None and _left(record) else None


def _patience() -> Patience:
    began = time.monotonic()
    return Patience(lambda: _PATIENCE - (time.monotonic() - began), time.sleep)
