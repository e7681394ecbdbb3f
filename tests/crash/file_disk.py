"""The real-file level: SQLite's own WAL over files in memory that know what was synced.

A write is in the page cache at once and on the disk after an fsync. A kill loses nothing. A reset
keeps of what was not synced whatever the seed says: nothing, all, some writes out of order, or the
first sectors of one. After an fsync that failed the pages count as clean, as on Linux: they can
still be read, and no later fsync writes them.
"""

from __future__ import annotations

import errno
import sqlite3
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import apsw

from orchestrator.engine import schema
from orchestrator.engine.journal import Journal
from tests.crash.invariants import Invariant, Violation
from tests.crash.simulation import Died, Simulation

SECTOR = 512
NAME = "/nowhere/journal.db"
ROWS = "SELECT seq, hash, type FROM events ORDER BY seq"
_VFS_NAME = "crash-simulation"


class File:
    """One file: what can be read, what is on the disk, and the writes between the two."""

    def __init__(self, content: bytes = b"") -> None:
        self.cache = bytearray(content)
        self.disk = bytearray(content)
        self.dirty: list[tuple[int, bytes]] = []
        """(offset, bytes) in order; bytes b"" with an offset: cut off there."""

    def write(self, offset: int, data: bytes) -> None:
        _put(self.cache, offset, data)
        self.dirty.append((offset, data))

    def truncate(self, size: int) -> None:
        del self.cache[size:]
        self.dirty.append((size, b""))

    def sync(self) -> None:
        for offset, data in self.dirty:
            _put(self.disk, offset, data)
        self.dirty.clear()

    def forget(self) -> None:
        """The fsync failed: nobody remembers what was dirty."""
        self.dirty.clear()

    def cut(self, sim: Simulation) -> None:
        """Power off: some of what was dirty may have got through."""
        if self.dirty:
            self._get_through(sim)
        self.dirty.clear()
        self.cache = bytearray(self.disk)

    def _get_through(self, sim: Simulation) -> None:
        match sim.choices.below(4):
            case 0:
                kept: list[tuple[int, bytes]] = []
            case 1:
                kept = self.dirty[: sim.choices.below(len(self.dirty)) + 1]
                offset, data = kept[-1]
                sectors = -(-len(data) // SECTOR)
                if sectors > 1:
                    kept[-1] = (
                        offset,
                        data[: SECTOR * sim.choices.below(sectors)] or data[:SECTOR],
                    )
            case 2:
                kept = [write for write in self.dirty if sim.choices.chance(0.5)]
            case _:
                kept = self.dirty
        for offset, data in kept:
            _put(self.disk, offset, data)


def _put(content: bytearray, offset: int, data: bytes) -> None:
    if not data:
        del content[offset:]
        return
    if len(content) < offset:
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(data)] = data


class FileDisk:
    """The files of one host, and the connections of its processes to them."""

    name = "files"

    def __init__(self, sim: Simulation) -> None:
        self.sim = sim
        self.files = {NAME: File(_empty_journal())}
        self.lies = False
        """fsync says that all is well, and does nothing."""
        self._connection: Connection | None = None
        self.quiet = False
        """No faults: the simulation itself reads."""
        self.checkpoint_pages: int = sim.choices.pick((256, 256, 8))
        """The log is copied into the database when it has grown to this."""

    def connect(self) -> Connection:
        if self._connection is None:
            self._connection = Connection(self)
        return self._connection

    def reader(self) -> Journal:
        return Journal(Path(NAME), self.connect(), readonly=True)

    def rows(self) -> list[Any]:
        quiet, self.quiet = self.quiet, True
        try:
            return self.connect().execute(ROWS).fetchall()
        except sqlite3.Error as error:
            what = f"the journal cannot be read any more: {error}"
            raise Violation(Invariant.ACKNOWLEDGED, what) from error
        finally:
            self.quiet = quiet

    def write_again(self, path: Path) -> None:
        """As `places.write_again`."""
        file = self.files.get(str(path))
        if file is None:
            return
        if file.cache:
            file.write(0, bytes(file.cache))
        try:
            self._sync(file, str(path))
        except apsw.IOError as error:
            if self._connection is not None and self._connection.dying:
                self.sim.die()
            raise OSError(errno.EIO, str(error)) from error

    # -- ends

    def kill(self) -> None:
        """The process is gone; what it wrote can be read by the next."""
        self._drop()

    def cut(self) -> None:
        self._drop()
        for name in sorted(self.files):
            self.files[name].cut(self.sim)

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.drop()
        self._connection = None

    # -- faults of the files (see `_VfsFile`)

    def fault(self) -> str | None:
        if self.quiet or self.sim.plan.left <= 0:
            return None
        return self.sim.fault("journal", 0.15)

    def _sync(self, file: File, what: str) -> None:
        if self.lies:
            return
        match self.fault():
            case "eio-fsync" | "eio-write" | "enospc":
                file.forget()
                raise apsw.IOError(f"fsync of {what}: EIO")
            case "die-before" | "die-lost" | "die-kept":
                self._dying()
            case "die-after":
                file.sync()
                self._dying()
        file.sync()

    def _write(self, file: File, data: bytes, offset: int) -> None:
        match self.fault():
            case "enospc":
                raise apsw.FullError("no space left on device")
            case "eio-write" | "eio-fsync":
                raise apsw.IOError("write: EIO")
            case "die-before" | "die-lost":
                self._dying()
            case "die-kept" | "die-after":
                file.write(offset, data)
                self._dying()
        file.write(offset, data)

    def _dying(self) -> None:
        """Inside of SQLite nobody can die at once: it is told of an error and sees no file any
        more; `Connection` dies as soon as SQLite comes back."""
        assert self._connection is not None
        self._connection.dying = True
        raise apsw.IOError("the process is dying")


class Connection:
    """An `apsw` connection as `sqlite3`'s: what the journal uses of it, and its errors."""

    def __init__(self, disk: FileDisk) -> None:
        self._disk = disk
        self.dying = False
        _current[0] = disk
        self._handles: list[_VfsFile] = []
        _handles[0] = self._handles
        _vfs()
        self._real = apsw.Connection(NAME, vfs=_VFS_NAME)
        # Without shared memory; the lock of the host keeps others off.
        self._real.execute("PRAGMA locking_mode=EXCLUSIVE")

    def execute(self, sql: str, values: tuple[Any, ...] = ()) -> Any:
        return self._do(lambda: self._real.execute(sql, values))

    def executemany(self, sql: str, rows: list[Any]) -> Any:
        return self._do(lambda: self._real.executemany(sql, rows))

    def _do(self, what: Any) -> Any:
        _current[0], _handles[0] = self._disk, self._handles
        try:
            return what()
        except apsw.Error as error:
            if self.dying:
                self._disk.sim.die()
            raise sqlite3.OperationalError(str(error)) from error

    @property
    def in_transaction(self) -> bool:
        return bool(self._real.in_transaction)

    def close(self) -> None:
        """In order: SQLite copies its log into the database."""
        if self._disk._connection is not self:
            return
        _current[0], _handles[0] = self._disk, self._handles
        try:
            self._real.close()
        except apsw.Error:
            self.drop()
        self._disk._connection = None
        if self.dying:
            self._disk.sim.die()

    def drop(self) -> None:
        """Gone with its process: SQLite may close its files, and reaches none of them."""
        for handle in self._handles:
            handle.dead = True
        with suppress(apsw.Error, Died):
            self._real.close()


_current: list[Any] = [None]
"""The disk that files are opened on: apsw hands a VFS nothing of ours."""
_handles: list[Any] = [None]


class _VfsFile:
    """What SQLite has of an open file."""

    def __init__(self, disk: FileDisk, file: File, name: str) -> None:
        self._disk, self._file, self._name = disk, file, name
        self.dead = False

    def _alive(self) -> None:
        if self.dead:
            raise apsw.IOError("the process is gone")

    def xRead(self, amount: int, offset: int) -> bytes:
        self._alive()
        return bytes(self._file.cache[offset : offset + amount])

    def xWrite(self, data: bytes, offset: int) -> None:
        self._alive()
        self._disk._write(self._file, bytes(data), offset)

    def xTruncate(self, size: int) -> None:
        self._alive()
        self._file.truncate(size)

    def xSync(self, flags: int) -> None:
        self._alive()
        self._disk._sync(self._file, self._name)

    def xFileSize(self) -> int:
        self._alive()
        return len(self._file.cache)

    def xSectorSize(self) -> int:
        return SECTOR

    def xDeviceCharacteristics(self) -> int:
        return 0

    def xFileControl(self, op: int, pointer: int) -> bool:
        return False

    def xLock(self, level: int) -> None: ...

    def xUnlock(self, level: int) -> None: ...

    def xCheckReservedLock(self) -> bool:
        return False

    def xClose(self) -> None: ...


class _Vfs(apsw.VFS):
    def __init__(self) -> None:
        super().__init__(_VFS_NAME, base="")

    def xOpen(self, name: Any, flags: list[int]) -> _VfsFile:
        path = name.filename() if isinstance(name, apsw.URIFilename) else str(name)
        disk = _current[0]
        flags[1] = flags[0]
        handle = _VfsFile(disk, disk.files.setdefault(path, File()), path)
        _handles[0].append(handle)
        return handle

    def xDelete(self, name: str, sync_directory: bool) -> None:
        """At once and for good: the log is deleted after the database is synced."""
        _current[0].files.pop(name, None)

    def xAccess(self, name: str, flags: int) -> bool:
        return name in _current[0].files

    def xFullPathname(self, name: str) -> str:
        return name


@cache
def _vfs() -> _Vfs:
    return _Vfs()


@cache
def _empty_journal() -> bytes:
    """As `schema.ensure_file` leaves it."""
    connection = apsw.Connection(":memory:")
    schema.make_tables(connection)  # type: ignore[arg-type]
    return connection.serialize("main")
