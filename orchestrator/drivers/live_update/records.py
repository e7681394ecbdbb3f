"""Small facts about effects, on disk: what the driver did, so that it can look later.

    STATE_DIR/transactions/<transaction>/<section>/<name>.json     0600 in 0700
    STATE_DIR/transactions/<transaction>/<section>/state/…          workloads' state

A record is written whole or not at all, and is durable before `write` returns. What is read
may have been damaged or planted: links are not followed, sizes are bounded, and a record that
is not a JSON object is an error, never an empty one.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from orchestrator.model.errors import JournalError, MkupgradeError
from orchestrator.model.steps import Section

_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_LIMIT = 1 << 20


class RecordError(JournalError):
    """A record of the driver cannot be read, written or trusted."""

    code = "record"


class Records:
    """The records of one section of one transaction."""

    def __init__(self, state_dir: Path, transaction: str, section: Section) -> None:
        self.transaction_dir = state_dir / "transactions" / _safe(transaction)
        self.dir = self.transaction_dir / section.value

    def state_dir(self, name: str) -> Path:
        """Directory for a workload's state; it need not exist."""
        return self.dir / "state" / _safe(name)

    def write(self, name: str, fields: dict[str, Any]) -> None:
        """Keep `fields` under `name`, durably, in the place of what was there.

        Raises:
            RecordError: nothing was changed; `error_class` is IO.
        """
        target = f"{_safe(name)}.json"
        text = json.dumps(fields, sort_keys=True, ensure_ascii=False)
        temporary = f".{name}.{secrets.token_hex(8)}"
        try:
            make_private_dir(self.dir)
            with _opened(self.dir) as where:
                _write_new(where, temporary, text.encode())
                os.replace(temporary, target, src_dir_fd=where, dst_dir_fd=where)
                os.fsync(where)
        except OSError as error:
            with suppress(OSError):
                (self.dir / temporary).unlink()
            raise _failed("write", self.dir / target, error) from error

    def read(self, name: str) -> dict[str, Any] | None:
        """The record, or None if there is none.

        Raises:
            RecordError: there is one and it cannot be used.
        """
        path = self.dir / f"{_safe(name)}.json"
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _failed("read", path, error) from error
        with os.fdopen(descriptor, "rb") as stream:
            data = stream.read(_LIMIT + 1)
        return _parsed(path, data)

    def drop(self, name: str) -> None:
        """Forget a record; one that is not there is fine."""
        path = self.dir / f"{_safe(name)}.json"
        try:
            path.unlink(missing_ok=True)
            if self.dir.is_dir():
                sync_dir(self.dir)
        except OSError as error:
            raise _failed("remove", path, error) from error


def drop_tree(path: Path) -> None:
    """Remove a directory of ours with all in it; links inside are removed, not followed."""
    if path.is_symlink():
        path.unlink()
        return
    try:
        shutil.rmtree(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise _failed("remove", path, error) from error


def make_private_dir(path: Path) -> None:
    """Make the directory and its parents, 0700, each made durable in its parent."""
    missing = [p for p in (path, *path.parents) if not p.exists()]
    for directory in reversed(missing):
        with suppress(FileExistsError):
            directory.mkdir(mode=0o700)
        sync_dir(directory.parent)


def sync_dir(path: Path) -> None:
    """fsync a directory, so that names made or removed in it are durable."""
    with _opened(path) as descriptor:
        os.fsync(descriptor)


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _write_new(where: int, name: str, data: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(name, flags, 0o600, dir_fd=where)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def _parsed(path: Path, data: bytes) -> dict[str, Any]:
    fields: Any = None
    if len(data) <= _LIMIT:
        with suppress(ValueError):
            fields = json.loads(data)
    if not isinstance(fields, dict):
        raise RecordError("the record is damaged", where=str(path))
    return fields


def _safe(name: str) -> str:
    if not _SAFE.fullmatch(name):
        raise RecordError(f"{name!r} cannot be part of a path")
    return name


def _failed(verb: str, path: Path, error: OSError) -> MkupgradeError:
    return RecordError(f"cannot {verb} a record: {error.strerror or error}", where=str(path))
