"""The anchor: what the end of the journal was, kept beside it.

    <state directory>/journal.anchor      {"hash": …, "seq": …}, mode 0600

A hash chain shows every change but one: cut off at its end, it is whole in itself. So the number
and hash of the first and last event of each transaction are written down when they are durable in
the journal; nothing is written between, so that a step costs no more. An anchor that is behind the
journal is what a crash leaves. One that the journal does not hold says that events were removed;
it is not replaced then, so that this is not forgotten.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from orchestrator.engine.places import own_file, sync_directory
from orchestrator.engine.verify import Verified
from orchestrator.model.base import Record, read_json
from orchestrator.model.errors import JournalError

FILE = "journal.anchor"
KEPT = frozenset({"began", "ended"})
"""Types of event behind which it is moved."""
_LIMIT = 1024
_MISSING = "no journal.anchor is there yet: a journal cut off at its end would look whole"

HashOf = Callable[[int], str | None]
"""Hash of an event of the journal by its number; None: it has no such event."""


class Anchor(Record):
    seq: Annotated[int, Field(ge=1, lt=1 << 63)]
    hash: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


def read(state_dir: Path) -> Anchor | None:
    """The anchor, or None where there is none.

    Raises:
        JournalError: it cannot be read, or is not ours alone.
    """
    path = state_dir / FILE
    if not os.path.lexists(path):
        return None
    own_file(path)
    try:
        with path.open("rb") as file:
            return Anchor.model_validate(read_json(file.read(_LIMIT)))
    except (OSError, ValueError, ValidationError) as error:
        raise JournalError("not an anchor of the journal", where=str(path)) from error


def advance(state_dir: Path, seq: int, digest: str, hash_of: HashOf) -> None:
    """Move the anchor to an event that is durable in the journal, unless it knows better.

    That it cannot be written (a full disk) is no reason to stop: the old one still holds.
    """
    with suppress(OSError, JournalError):
        before = read(state_dir)
        if before is None or hash_of(before.seq) == before.hash:
            _write(state_dir / FILE, Anchor(seq=seq, hash=digest))


def hold(found: Verified, anchor: Anchor | None, hash_of: HashOf) -> Verified:
    """Hold a journal whose chain is whole to its anchor.

    Args:
        anchor: read before the chain was, since a writer may move both.
    """
    if found.problem is not None:
        return found
    if anchor is None:
        return found.model_copy(update={"note": _MISSING if found.events else None})
    if anchor.seq > found.events:
        lost = f"event {anchor.seq} was written: events were removed at its end"
        return found.model_copy(update={"bad_seq": found.events + 1, "problem": lost})
    if hash_of(anchor.seq) != anchor.hash:
        other = "events were removed at its end, and others put in their place"
        return found.model_copy(update={"bad_seq": anchor.seq, "problem": other})
    return found


def _write(path: Path, anchor: Anchor) -> None:
    """As a whole, durably."""
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(fresh, flags, 0o600), "wb") as file:
        file.write(anchor.model_dump_json().encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    sync_directory(path.parent)
