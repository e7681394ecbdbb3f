"""The host's file: whole or not there, one writer at a time, read as if it were hostile."""

from __future__ import annotations

import fcntl
import os
import shlex
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

from pydantic import ValidationError

from orchestrator.drivers.simulated.world import World
from orchestrator.model.errors import ErrorClass, MkupgradeError
from orchestrator.system import files

SIZE_LIMIT = 64 * 2**20
"""Bytes."""


class Store:
    """Reads and changes the host's file.

    A change is one whole new file (rename(2)), synced before it is believed, so that a process
    killed at any point leaves the host as before or as after.
    """

    def __init__(self, path: Path, *, sync: bool = True) -> None:
        self.path = path
        self._sync = sync
        self._lock = threading.RLock()

    def read(self) -> World:
        """The host as it is.

        Raises:
            MkupgradeError: the file is missing, unreadable or no pretend host.
        """
        return _parse(_read(self.path), self.path)

    @contextmanager
    def change(self, *, looking: bool = False) -> Iterator[World]:
        """The host to be changed; written when the block ends, untouched when it raises.

        Args:
            looking: all that changes is the time: a disk that is full is no reason not to see.
        """
        with self._lock, self._exclusively():
            world = self.read()
            world.tick()
            yield world
            with suppress(MkupgradeError) if looking else nullcontext():
                self.write(world)

    def write(self, world: World) -> None:
        """Replace the file, durably.

        Raises:
            MkupgradeError: it cannot be written, as on a full disk; the host is as before.
        """
        try:
            self._replace(world)
        except OSError as error:
            raise MkupgradeError(
                f"the pretend host cannot be written: {error.strerror}",
                where=str(self.path),
                next_command=f"df -h {shlex.quote(str(self.path.parent))}",
                error_class=ErrorClass.IO,
            ) from error

    def _replace(self, world: World) -> None:
        new = self.path.with_name(f".{self.path.name}.new")
        new.unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(new, flags, 0o600), "w", encoding="utf-8") as file:
            file.write(world.model_dump_json(indent=1))
            file.flush()
            if self._sync:
                os.fsync(file.fileno())
        new.replace(self.path)
        if self._sync:
            files.sync_directory(self.path.parent)

    @contextmanager
    def _exclusively(self) -> Iterator[None]:
        """Against other processes; a dead one keeps no lock (flock(2))."""
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        lock = os.open(self.path.with_name(f".{self.path.name}.lock"), flags, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)


def _read(path: Path) -> str:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(handle, "rb") as file:
            # As much as is asked for is allocated first: ask for no more than there is.
            size = min(os.fstat(handle).st_size, SIZE_LIMIT)
            text = file.read(size + 1).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise MkupgradeError(
            f"the pretend host cannot be read: {getattr(error, 'strerror', None) or error}",
            where=str(path),
            next_command="python -m orchestrator.drivers.simulated.demo PLAN.yaml",
            error_class=ErrorClass.IO,
        ) from error
    if len(text) > SIZE_LIMIT:
        raise MkupgradeError(
            f"the pretend host is larger than {SIZE_LIMIT} bytes",
            where=str(path),
            error_class=ErrorClass.INVALID,
        )
    return text


def _parse(text: str, path: Path) -> World:
    try:
        return World.model_validate_json(text)
    except ValidationError as error:
        lines = [
            f"{'.'.join(str(p) for p in e['loc'])}: {e['msg']}"
            for e in error.errors(include_url=False, include_input=False)[:20]
        ]
        raise MkupgradeError(
            "this is no pretend host",
            where=str(path),
            details=tuple(lines),
            error_class=ErrorClass.INVALID,
        ) from error
