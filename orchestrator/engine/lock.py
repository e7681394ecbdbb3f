"""One transaction per host at a time.

flock(2) on a file in the state directory: the kernel lets go of it when the holder dies,
however it dies. What the file says of the holder is for people; the lock is what counts.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from weakref import WeakSet

from orchestrator.engine.identity import local_identity
from orchestrator.engine.places import check_own, read_own
from orchestrator.model.base import Record, read_json
from orchestrator.model.errors import JournalError, LockedError

FILE = "lock"


class Holder(Record):
    """Who holds the lock, as it wrote itself down."""

    pid: int
    boot_id: str
    started: int
    """Start time of the process in clock ticks since boot (proc_pid_stat(5), field 22)."""
    verb: str
    transaction: str | None = None


class HostLock:
    """The lock, held from `acquire` to `release` or to the end of the process."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / FILE
        self._handle: int | None = None
        self._verb = ""

    @property
    def held(self) -> bool:
        return self._handle is not None

    def acquire(self, verb: str, transaction: str | None = None) -> None:
        """Take the lock or say who has it.

        Raises:
            LockedError: another process holds it.
        """
        if self._handle is None:
            self._handle = self._take(verb)
            _held.add(self)
        self._verb = verb
        self._write(verb, transaction)

    def name_transaction(self, transaction: str) -> None:
        """Write down which transaction the lock is held for, once that is known."""
        self._write(self._verb, transaction)

    def release(self) -> None:
        if self._handle is None:
            return
        os.ftruncate(self._handle, 0)
        fcntl.flock(self._handle, fcntl.LOCK_UN)  # also where a child has just been forked
        os.close(self._handle)
        self._handle = None

    def _take(self, verb: str) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            handle = os.open(self._path, flags, 0o600)
        except OSError as error:
            raise JournalError(
                f"the lock cannot be opened: {error.strerror}",
                where=str(self._path),
                state="nothing was changed",
            ) from error
        try:
            check_own(handle, self._path)
        except JournalError:
            os.close(handle)
            raise
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(handle)
            raise _locked(read_holder(self._path.parent), self._path) from error
        return handle

    def _write(self, verb: str, transaction: str | None) -> None:
        if self._handle is None:
            return
        identity = local_identity()
        holder = Holder(
            pid=identity.pid,
            boot_id=identity.boot_id,
            started=_start_time(identity.pid) or 0,
            verb=verb,
            transaction=transaction,
        )
        text = (holder.model_dump_json() + "\n").encode()
        # A full disk: we have the lock all the same, and a resume must not fail for a name.
        with suppress(OSError):
            os.pwrite(self._handle, text, 0)
            os.ftruncate(self._handle, len(text))

    def forget(self) -> None:
        """In a forked child: close the file, which leaves the lock with the parent."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


_held: WeakSet[HostLock] = WeakSet()


def _forget_all() -> None:
    for lock in _held:
        lock.forget()


# exec closes the file (PEP 446); a child that only forks would keep the lock.
os.register_at_fork(after_in_child=_forget_all)


@contextmanager
def holding(state_dir: Path, verb: str) -> Iterator[None]:
    """The lock, for what is no transaction. Raises: LockedError: another process holds it."""
    lock = HostLock(state_dir)
    lock.acquire(verb)
    try:
        yield
    finally:
        lock.release()


def read_holder(state_dir: Path) -> Holder | None:
    """What the last holder wrote, or None. It may be dead: see `current_holder`."""
    data = read_own(state_dir / FILE, 4096)
    if data is None:
        return None
    try:
        return Holder.model_validate(read_json(data))
    except ValueError:  # a ValidationError is one
        return None


def current_holder(state_dir: Path) -> Holder | None:
    """The process that holds the lock now, or None. Takes no lock itself, so that asking can
    never get into the way of an apply."""
    holder = read_holder(state_dir)
    if holder is None or holder.boot_id != local_identity().boot_id:
        return None
    started = _start_time(holder.pid)
    return holder if started is not None and holder.started in {0, started} else None


def _start_time(pid: int) -> int | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return int(text.rpartition(")")[2].split()[19])


def _locked(holder: Holder | None, path: Path) -> LockedError:
    who = "another process"
    if holder is not None:
        what = f" for transaction {holder.transaction}" if holder.transaction else ""
        who = f"process {holder.pid} (mkupgrade {holder.verb}{what})"
    return LockedError(
        f"{who} is at work on this host",
        where=str(path),
        state="nothing was changed by this command",
        next_command="mkupgrade status --watch",
    )
