"""Old generations that are kept behind a commit: until when, whether they are still what a rollback
would start, and how their place is given back.

What is kept is written down at the commit, in the transaction's records. Only what is still as it
was then is touched: name, id and command line are the old generation's, and it does not run.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from pydantic import ValidationError

from orchestrator.drivers.multikernel import agents, changing, living
from orchestrator.drivers.multikernel.kernel import Kernel
from orchestrator.drivers.multikernel.living import Named, Patience
from orchestrator.drivers.multikernel.parts import next_tag
from orchestrator.drivers.multikernel.seeing import SeenInstance, Snapshot, Status, look
from orchestrator.drivers.multikernel.trees.changes import RemoveInstance
from orchestrator.drivers.records import RecordError, Records
from orchestrator.model.base import Record
from orchestrator.model.errors import MkupgradeError
from orchestrator.model.host import KeptGeneration
from orchestrator.model.outcomes import Outcome
from orchestrator.model.params.side_by_side import CommitInstances, Generation
from orchestrator.model.steps import Section

RECORD = "commit-instances"
_PATIENCE = 30.0
"""Seconds for one generation."""


class _Kept(Record):
    name: str
    id: int
    cmdline: str | None


class _Commit(Record):
    """The record of a commit."""

    new: list[Generation]
    """What was committed to."""
    kept: list[_Kept]
    until: float
    """Unix seconds."""
    begun: list[str] = []
    """Names of those that were begun to be given back: behind an unload nothing says whose an
    instance was."""
    gone: list[str] = []
    """Names of those that were found gone, or given back."""

    def left(self) -> list[_Kept]:
        """What has not been given back."""
        return [it for it in self.kept if it.name not in self.gone]


def remember(records: Records, now: Snapshot, params: CommitInstances) -> None:
    """Write down what is committed to and what is kept from here on, durably.

    Raises:
        SystemCallError
    """
    kept = [
        _Kept(name=it.name, id=it.id, cmdline=now.instances[it.name].cmdline)
        for it in params.kept
        if it.name in now.instances
    ]
    until = time.time() + params.keep_old_kernel
    _write(records, _Commit(new=params.generations, kept=kept, until=until))


def kept(state_dir: Path, transactions: Iterable[str]) -> list[KeptGeneration]:
    """What these transactions keep, whether their time is over or not.

    Raises:
        RecordError, SystemCallError
    """
    return [
        KeptGeneration(transaction=transaction, until=record.until, **it.model_dump())
        for transaction in transactions
        if (record := _read(Records(state_dir, transaction, Section.FORWARD))) is not None
        for it in record.left()
    ]


def needed(state_dir: Path, transaction: str) -> bool:
    """May a transaction still be rolled back, or has it something to give back? A record that
    cannot be read says nothing against it."""
    try:
        record = _read(Records(state_dir, transaction, Section.FORWARD))
    except MkupgradeError:
        return True
    return record is not None and (record.until > time.time() or bool(record.left()))


def why_no_way_back(kernel: Kernel, state_dir: Path, transaction: str) -> str | None:
    """Why the old generations of a committed transaction cannot run again; None: they can, as far
    as it depends on what there is.

    Raises:
        RecordError, NotSupportedError, MkupgradeError: it cannot be told.
    """
    record = _read(Records(state_dir, transaction, Section.FORWARD))
    if record is None:
        return "nothing is written down about its commit"
    now = look(kernel)
    for new in record.new:
        if not _is_there(now, new.name, new.id):
            return f"{new.name} is gone, and a later upgrade may have its place"
    for it in record.kept:
        if not _is_there(now, it.name, it.id):
            when = time.strftime("%Y-%m-%d %H:%M", time.localtime(record.until))
            return (
                f"{it.name} is gone: it was kept until {when}, or the next upgrade of it has taken "
                "it away"
            )
        cmdline = now.instances[it.name].cmdline
        if cmdline != it.cmdline:
            return f"{it.name} has another image than the one that was kept: {cmdline!r}"
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
        records = Records(state_dir, transaction, Section.FORWARD)
        record = _read(records)
        if record is not None and record.until <= moment:
            given += _give_back(kernel, state_dir, records, record)
    return given


def committed(over: Iterable[tuple[str, Outcome]]) -> Iterator[str]:
    """Those whose old generations may be kept."""
    return (transaction for transaction, outcome in over if outcome is Outcome.COMMITTED)


def _give_back(kernel: Kernel, state_dir: Path, records: Records, record: _Commit) -> list[str]:
    given = []
    for it in record.left():
        now = look(kernel)
        if _is_there(now, it.name, it.id):
            if not _is_as_kept(now.instances[it.name], it, begun=it.name in record.begun):
                continue
            record = record.model_copy(update={"begun": sorted({*record.begun, it.name})})
            _write(records, record)
            living.unload(kernel, Named(it.name, it.id), _patience())
            tag = next_tag(kernel, records.transaction_dir.name, f"give-back/{it.name}")
            changing.apply(kernel, RemoveInstance(it.name), tag)
            agents.forget_key(state_dir, Generation(name=it.name, id=it.id))
            given.append(it.name)
        record = record.model_copy(update={"gone": sorted({*record.gone, it.name})})
        _write(records, record)
    return given


def _is_there(now: Snapshot, name: str, number: int) -> bool:
    return name in now.instances and now.instances[name].tree.id == number


def _is_as_kept(seen: SeenInstance, it: _Kept, *, begun: bool) -> bool:
    if seen.status is Status.LOADED:
        return seen.cmdline == it.cmdline
    return seen.status is Status.READY and begun


def _write(records: Records, record: _Commit) -> None:
    records.write(RECORD, record.model_dump(mode="json"))


def _read(records: Records) -> _Commit | None:
    """None: no instances were committed to."""
    found = records.read(RECORD)
    if found is None:
        return None
    try:
        return _Commit.model_validate(found)
    except ValidationError as error:
        raise RecordError(
            f"the record of the commit cannot be used: {error.errors()[0]['msg']}",
            where=str(records.dir / f"{RECORD}.json"),
            state="nothing was changed",
        ) from None


def _patience() -> Patience:
    began = time.monotonic()
    return Patience(lambda: _PATIENCE - (time.monotonic() - began), time.sleep)
