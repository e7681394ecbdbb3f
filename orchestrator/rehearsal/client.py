"""A client outside the guest: one TCP connection to the counter, and what it saw of it.

It never connects again: a connection that ends is part of the result.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from dataclasses import dataclass, field, replace

from orchestrator.model.errors import RehearsalError

_PATIENCE = 300.0
"""Seconds of silence after which the connection is given up."""


@dataclass(frozen=True)
class Seen:
    """What came through one connection so far."""

    messages: int = 0
    last: int = 0
    missing: int = 0
    """Numbers that were left out."""
    repeated: int = 0
    """Numbers that came twice or out of order."""
    longest_gap: float = 0.0
    """Longest time between two messages, seconds."""
    gap_between: tuple[int, int] = (0, 0)
    """The numbers before and after the longest gap."""
    releases: tuple[str, ...] = field(default=())
    """Kernel releases that the server named, in order of their first appearance."""
    ended: str | None = None
    """Why the connection is no more; None while it lives."""

    @property
    def whole(self) -> bool:
        """One living connection and every number exactly once."""
        living = self.ended is None and self.messages > 0
        return living and self.missing == 0 and self.repeated == 0

    def with_line(self, number: int, release: str, gap: float) -> Seen:
        """The record with one more message, `gap` seconds after the one before."""
        seen = replace(self, messages=self.messages + 1, last=number)
        if self.messages:
            step = number - self.last
            missing = self.missing + max(0, step - 1)
            seen = replace(seen, missing=missing, repeated=self.repeated + (step < 1))
            if gap > self.longest_gap:
                seen = replace(seen, longest_gap=gap, gap_between=(self.last, number))
        if release and release not in self.releases:
            seen = replace(seen, releases=(*self.releases, release))
        return seen


class Client:
    """Listens in a thread of its own until it is closed. A context manager."""

    def __init__(self, port: int, patience: float = 30.0) -> None:
        """Connect to the counter at 127.0.0.1 and wait for its first number.

        Raises:
            RehearsalError: nothing answered within `patience` seconds.
        """
        self._seen = Seen()
        self._changed = threading.Condition()
        self._last_at = 0.0
        self._closing = False
        self._socket, first = _connect(port, time.monotonic() + patience)
        self._socket.settimeout(_PATIENCE)
        threading.Thread(target=self._listen, args=(first,), name="client", daemon=True).start()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Hang up; what was seen stays."""
        self._closing = True
        with contextlib.suppress(OSError):  # or the thread that listens would keep it open
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def seen(self) -> Seen:
        """What came so far."""
        with self._changed:
            return self._seen

    def silence(self) -> float:
        """Seconds since the last message."""
        with self._changed:
            return time.monotonic() - self._last_at if self._last_at else 0.0

    def wait_release(self, release: str, timeout: float) -> bool:
        """Wait until the server names this kernel release; False: it did not in time."""
        with self._changed:
            return self._changed.wait_for(lambda: release in self._seen.releases, timeout)

    def wait_messages(self, more: int, timeout: float) -> bool:
        """Wait for so many further messages; False: they did not come in time."""
        with self._changed:
            goal = self._seen.messages + more
            return self._changed.wait_for(lambda: self._seen.messages >= goal, timeout)

    def _listen(self, rest: bytes) -> None:
        ended = "the server closed the connection"
        while True:
            *lines, rest = rest.split(b"\n")
            for line in lines:
                self._take(line)
            try:
                data = self._socket.recv(4096)
            except OSError as error:
                ended = str(error)
                break
            if not data:
                break
            rest += data
        with self._changed:
            if not self._closing:
                self._seen = replace(self._seen, ended=ended)
            self._changed.notify_all()

    def _take(self, line: bytes) -> None:
        words = line.split()
        if not words or not words[0].isdigit() or len(words[0]) > 18:
            return
        now = time.monotonic()
        release = words[1].decode("ascii", "replace") if len(words) > 1 else ""
        with self._changed:
            gap = now - self._last_at if self._last_at else 0.0
            self._seen = self._seen.with_line(int(words[0]), release, gap)
            self._last_at = now
            self._changed.notify_all()


def _connect(port: int, deadline: float) -> tuple[socket.socket, bytes]:
    """A connection on which something came: port forwarding accepts before the guest does."""
    error: str = "nothing came"
    while time.monotonic() < deadline:
        connection = socket.socket()
        connection.settimeout(5.0)
        try:
            connection.connect(("127.0.0.1", port))
            first = connection.recv(4096)
            if first:
                return connection, first
        except OSError as problem:
            error = str(problem)
        connection.close()
        time.sleep(0.2)
    raise RehearsalError(f"the workload in the guest does not answer at its port: {error}")
