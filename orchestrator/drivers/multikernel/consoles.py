"""What instances say on their consoles while they start: kept in a file, and told when they fail.

The kernel drops what nobody reads. So a console is opened before its instance is started, read
while something is waited for, and closed when the kernel answers. Nobody is told of a console that
is lost, or of an instance that has stopped: it says nothing any more. Facts 1.8.
"""

from __future__ import annotations

import os
import select
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from orchestrator.drivers.records import make_private_directories
from orchestrator.model.errors import MkupgradeError

MOST_BYTES = 1 << 20
"""Of one console that are kept: the first ones, which tell why a kernel does not come up."""
_TAIL_BYTES = 4096
_TAIL_LINES = 15
_CHUNK = 64 << 10
_POLL_MS = 100


class Console(Protocol):
    """An instance's console, opened."""

    def read(self) -> bytes:
        """What it has said since; empty: nothing. Does not wait."""
        ...

    def close(self) -> None: ...


class Device:
    """A console that is read at once whenever it says something: its ring holds 16 KiB."""

    def __init__(self, path: Path, number: int) -> None:
        """
        Args:
            path: /dev/mktty.
            number: id of the instance.

        Raises:
            OSError
        """
        self._fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        try:
            os.write(self._fd, f"{number}\n".encode())
        except OSError:
            os.close(self._fd)
            raise
        self._said: deque[bytes] = deque()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._listen, name=f"console-{number}", daemon=True)
        self._thread.start()

    def read(self) -> bytes:
        said = b""
        while self._said:
            said += self._said.popleft()
        return said

    def close(self) -> None:
        self._over.set()
        self._thread.join()
        os.close(self._fd)

    def _listen(self) -> None:
        waiting = select.poll()
        waiting.register(self._fd, select.POLLIN)
        heard = 0
        while not self._over.is_set() and heard <= MOST_BYTES:
            if waiting.poll(_POLL_MS):
                try:
                    said = os.read(self._fd, _CHUNK)
                except BlockingIOError:
                    continue
                except OSError:
                    return
                heard += len(said)
                self._said.append(said)
                if not said:
                    self._over.wait(_POLL_MS / 1000)


@dataclass
class Log:
    """A console, and the file that it is written to."""

    console: Console
    path: Path
    size: int = 0
    tail: bytes = b""

    def take(self) -> None:
        """Write down what it has said since."""
        said = self.console.read()
        kept = said[: max(0, MOST_BYTES - self.size)]
        self.tail = (self.tail + said)[-_TAIL_BYTES:]
        if kept:
            self.size += len(kept)
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
            with os.fdopen(os.open(self.path, flags, 0o600), "wb") as file:
                file.write(kept)


@dataclass
class Consoles:
    """The consoles that this process listens to, by id of their instance."""

    _logs: dict[int, Log] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def listen(self, number: int, opened: Callable[[], Console], path: Path) -> None:
        """Open an instance's console, unless that is done. One that cannot be opened keeps nobody
        from starting the instance.

        Args:
            path: of the file that it is written to.
        """
        with self._lock, suppress(OSError, MkupgradeError):
            if number not in self._logs:
                make_private_directories(path.parent)
                self._logs[number] = Log(opened(), path)

    def take(self) -> None:
        """Write down what all of them have said. A full disk costs the log and nothing else."""
        with self._lock, suppress(OSError):
            for log in self._logs.values():
                log.take()

    def last_words(self, number: int) -> tuple[str, ...]:
        """The end of what an instance has said, and where the rest is; empty: nothing."""
        self.take()
        with self._lock:
            log = self._logs.get(number)
        if log is None or not log.tail.strip():
            return ()
        lines = log.tail.decode("utf-8", "replace").splitlines()[-_TAIL_LINES:]
        return (f"the last it said on its console (all of it: {log.path}):", *lines)

    def close(self, number: int | None = None) -> None:
        """Stop listening to an instance, or to all of them."""
        self.take()
        with self._lock:
            for it in [number] if number is not None else list(self._logs):
                log = self._logs.pop(it, None)
                if log is not None:
                    log.console.close()
