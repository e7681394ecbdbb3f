"""`mkupgrade agent`: accepts connections, and holds each to limits before it is trusted.

An error of one connection ends that connection and nothing else.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Lock, Thread

from orchestrator.agent import transport
from orchestrator.agent.conversation import Conversation, Tell
from orchestrator.agent.keys import Key
from orchestrator.agent.link import Stream, accept
from orchestrator.agent.status import Status, status
from orchestrator.agent.store import Store
from orchestrator.agent.work import Work
from orchestrator.handover.stream import ConnectionLostError
from orchestrator.model.errors import MkupgradeError

_POLL = 0.2


@dataclass(frozen=True)
class Limits:
    """What a client may take, whoever it is. Lengths of frames are in `wire`, the number of
    payloads in the manifest's own rules."""

    connections: int = 8
    """At once."""
    handshake_seconds: float = 5.0
    """From the connection to the proof."""
    frame_seconds: float = 30.0
    """From a frame's first byte to its last."""
    idle_seconds: float = 60.0
    """Without a frame."""
    state_bytes: int = 64 << 30
    """Blocks of one section, on disk."""


class Agent:
    """Takes one transaction's state.

    Args:
        ready_files: it is not ready before they are there.
        tell: hears of what happens, from any thread.
        work: does what is asked for with workloads; None: nothing of the kind is done.

    Raises:
        MkupgradeError: the directory cannot be used.
    """

    def __init__(
        self,
        key: Key,
        directory: Path,
        limits: Limits,
        tell: Tell,
        ready_files: tuple[Path, ...] = (),
        *,
        work: Work | None = None,
    ) -> None:
        self._key = key
        self._work = work
        self._limits = limits
        self._tell = tell
        self._ready_files = ready_files
        self._store = Store(directory, key.transaction, limits.state_bytes)
        self._connections: dict[Thread, socket.socket] = {}
        self._lock = Lock()

    def status(self) -> Status:
        """As it would be answered now."""
        works = self._work is not None
        return status(self._key.transaction, self._store.directory, self._ready_files, works=works)

    def serve(self, listener: socket.socket, stop: Event) -> None:
        """Until `stop` is set; then all connections are ended."""
        listener.settimeout(_POLL)
        while not stop.is_set():
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            except OSError as error:
                if stop.is_set():
                    break
                self._tell("failed", {"error": f"accept: {error.strerror}"})
                stop.wait(_POLL)
                continue
            self._start(connection)
        self.close()

    def close(self) -> None:
        """End every connection; again is fine."""
        with self._lock:
            running = dict(self._connections)
        for connection in running.values():
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in running:
            thread.join()
        self._store.close()

    def _start(self, connection: socket.socket) -> None:
        where, port = transport.peer_of(connection)
        problem = None
        if not 0 <= port < transport.RESERVED:
            problem = "its port is not reserved to root"
        with self._lock:
            if len(self._connections) >= self._limits.connections:
                problem = problem or "there are connections enough"
            if problem is None:
                thread = Thread(target=self._run, args=(connection, where), daemon=True)
                self._connections[thread] = connection
        if problem is not None:
            self._tell("hung-up", {"peer": where, "error": problem})
            connection.close()
            return
        try:
            transport.settle(connection)
            thread.start()
        except (OSError, RuntimeError) as error:
            self._tell("failed", {"peer": where, "error": str(error)})
            with self._lock:
                del self._connections[thread]
            connection.close()

    def _run(self, connection: socket.socket, where: str) -> None:
        from threading import current_thread

        try:
            self.converse(connection, where)
        finally:
            with self._lock:
                del self._connections[current_thread()]
            connection.close()

    def converse(self, stream: Stream, where: str) -> None:
        """One connection, from its handshake to its end. Never raises."""
        limits = self._limits
        try:
            link = accept(
                stream,
                self._key,
                where,
                seconds=limits.handshake_seconds,
                frame_seconds=limits.frame_seconds,
            )
        except MkupgradeError as error:
            self._tell("hung-up", {"peer": where, "error": error.what})
            return
        self._tell("connected", {"peer": where})
        try:
            conversation = Conversation(self._store, self.status, self._tell, self._work)
            conversation.hold(link, limits.idle_seconds)
        except ConnectionLostError as error:
            self._tell("disconnected", {"peer": where, "why": error.what})
        except MkupgradeError as error:
            self._tell("hung-up", {"peer": where, "error": error.what})
        except Exception as error:
            # A fault of ours ends this connection: others must not suffer from it.
            self._tell("failed", {"peer": where, "error": f"{type(error).__name__}: {error}"})
