"""Small facts about effects, on disk: what the driver did, so that it can look later.

    STATE_DIR/transactions/<transaction>/<section>/<name>.json     0600 in 0700
    STATE_DIR/transactions/<transaction>/<section>/state/…          workloads' state

A record is written whole or not at all, and is durable before `write` returns. What is read
may have been damaged or planted: links are not followed, sizes are bounded, and a record that
is not a JSON object is an error, never an empty one.
"""

from __future__ import annotations

import errno
import json
import re
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

from orchestrator.model.base import read_json
from orchestrator.model.errors import JournalError, MkupgradeError, SystemCallError
from orchestrator.model.steps import Section
from orchestrator.system import files

_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_LIMIT = 32 << 20
_LOG_LIMIT = 4 << 20
"""Bytes; a tool's longer log is not kept."""


class RecordError(JournalError):
    """A record of the driver cannot be trusted, or its name cannot be one."""

    code = "record"


class Shelf:
    """Records in one directory, which is made when the first is written."""

    def __init__(self, directory: Path) -> None:
        self.dir = directory

    def write(self, name: str, fields: dict[str, Any]) -> None:
        """Keep `fields` under `name`, durably, in the place of what was there.

        Raises:
            SystemCallError: what was there is still there.
        """
        path = self._path(name)
        make_private_directories(self.dir)
        text = json.dumps(fields, sort_keys=True, ensure_ascii=False)
        files.write_durably(path, text.encode())

    def read(self, name: str) -> dict[str, Any] | None:
        """The record, or None if there is none.

        Raises:
            RecordError, SystemCallError: there is one and it cannot be used.
        """
        path = self._path(name)
        try:
            data = files.read_regular(path, _LIMIT)
        except SystemCallError as error:
            if error.errno == errno.ENOENT:
                return None
            raise
        return _parsed(path, data)

    def drop(self, name: str) -> None:
        """Forget a record; one that is not there is fine."""
        path = self._path(name)
        if path.is_symlink() or path.exists():
            path.unlink(missing_ok=True)
            files.sync_directory(self.dir)
            self._prune()

    def names(self) -> list[str]:
        """Of the records that are there."""
        if not self.dir.is_dir():
            return []
        return sorted(p.stem for p in self.dir.iterdir() if p.suffix == ".json")

    def _prune(self) -> None:
        """Of which nothing is left, it leaves no directory either."""
        with suppress(OSError):
            self.dir.rmdir()

    def _path(self, name: str) -> Path:
        return self.dir / f"{_safe(name)}.json"


class Records(Shelf):
    """The records of one section of one transaction."""

    def __init__(self, state_dir: Path, transaction: str, section: Section) -> None:
        self.transaction_dir = transaction_dir(state_dir, transaction)
        super().__init__(self.transaction_dir / section.value)

    def _prune(self) -> None:
        with suppress(OSError):
            if not any((self.dir / "work").iterdir()):
                (self.dir / "work").rmdir()
        with suppress(OSError):
            self.dir.rmdir()
            self.transaction_dir.rmdir()


def transaction_dir(state_dir: Path, transaction: str) -> Path:
    """Where everything of one transaction lies, but for the journal."""
    return state_dir / "transactions" / _safe(transaction)


def make_private_directories(path: Path) -> None:
    """Make a directory and those missing above it, all of them 0700 and durable."""
    missing = [p for p in (path, *path.parents) if not p.exists()]
    for directory in reversed(missing or [path]):
        files.make_private_directory(directory)


def drop_tree(path: Path) -> None:
    """Remove a directory of ours with all in it; links in it are removed, not followed."""
    if path.is_symlink():
        path.unlink()
        return
    with suppress(FileNotFoundError):
        shutil.rmtree(path)


def keep_log(error: MkupgradeError, workdir: Path, kept: Path) -> None:
    """Have the log that an error points at outlive the state it lies in, which is removed.

    Args:
        workdir: with that state; an error that points elsewhere stays as it is.
        kept: where it is kept, and where the error points to then.
    """
    if error.where is None or not Path(error.where).is_relative_to(workdir):
        return
    log, error.where, error.next_command = Path(error.where), None, None
    with suppress(MkupgradeError):  # a full disk may be what the error is about
        text = files.read_regular(log, _LOG_LIMIT)
        make_private_directories(kept.parent)
        files.write_durably(kept, text)
        error.where, error.next_command = str(kept), f"less {kept}"


def _parsed(path: Path, data: bytes) -> dict[str, Any]:
    fields: Any = None
    with suppress(ValueError):
        fields = read_json(data)
    if not isinstance(fields, dict):
        raise RecordError("the record is damaged", where=str(path))
    return fields


def _safe(name: str) -> str:
    if not _SAFE.fullmatch(name):
        raise RecordError(f"{name!r} cannot be part of a path")
    return name
