"""How somebody outside makes a running transaction stop."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError

from orchestrator.engine.places import read_own, sync_directory
from orchestrator.model.base import Record

ABORT_FILE = "abort"


class Interrupts:
    """Counts requests to stop. Signal handlers call `request`; the runner listens.

    The first: start nothing more, roll back, report. The second: stop now; the journal is
    intact, `mkupgrade resume` goes on.
    """

    def __init__(self) -> None:
        self.count = 0
        self._wake: Callable[[], None] = lambda: None

    def request(self) -> None:
        """One more request. May be called from a signal handler and from any thread."""
        self.count += 1
        self._wake()

    def stop_now(self) -> None:
        """As if requested twice: for SIGTERM of a service, where rolling back takes too long."""
        self.count = max(self.count + 1, 2)
        self._wake()

    def listen(self, wake: Callable[[], None]) -> None:
        """Call `wake` at each request; it must be safe in a signal handler."""
        self._wake = wake


class AbortRequest(Record):
    transaction: str
    reason: str


def write_abort(state_dir: Path, transaction: str, reason: str) -> None:
    """Ask the process that runs `transaction` to roll it back. It looks twice a second."""
    path = state_dir / ABORT_FILE
    fresh = path.with_name(f"{ABORT_FILE}.{os.getpid()}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    handle = os.open(fresh, flags, 0o600)
    try:
        text = AbortRequest(transaction=transaction, reason=reason).model_dump_json()
        os.write(handle, text.encode())
        os.fsync(handle)
    finally:
        os.close(handle)
    fresh.rename(path)
    sync_directory(state_dir)


def read_abort(state_dir: Path, transaction: str) -> str | None:
    """The reason why this transaction is to be aborted, or None."""
    data = read_own(state_dir / ABORT_FILE, 4096)
    if data is None:
        return None
    try:
        request = AbortRequest.model_validate_json(data)
    except ValidationError:
        return None
    return request.reason if request.transaction == transaction else None


def clear_abort(state_dir: Path) -> None:
    (state_dir / ABORT_FILE).unlink(missing_ok=True)
