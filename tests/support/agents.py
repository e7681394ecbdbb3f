"""An agent in this process, and connections to it that can be cut."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, Queue
from threading import Thread

from orchestrator.agent.client import About, AgentClient, over
from orchestrator.agent.keys import Key
from orchestrator.agent.link import Link, Stream, accept, connect
from orchestrator.agent.server import Agent, Limits
from orchestrator.agent.work import Work
from orchestrator.handover.stream import Peer
from orchestrator.model.seams import Control


class Wire:
    """The client's end of a connection that counts frames, and can be cut at one of them.

    Args:
        cut_at: the how-manieth frame, sent or awaited, is the last; None: none is.
        half: of a frame that is sent, half still goes out.
    """

    def __init__(self, inner: socket.socket, cut_at: int | None = None, half: bool = False) -> None:
        self.inner = inner
        self.cut_at = cut_at
        self.half = half
        self.frames = 0
        self.sent: list[bytes] = []
        self.waiting = False

    def sendall(self, data: bytes) -> None:
        self.waiting = False
        self.frames += 1
        if self.cut_at == self.frames:
            if self.half:
                self.inner.sendall(data[: len(data) // 2])
            self.inner.close()
            raise ConnectionResetError(104, "cut")
        self.inner.sendall(data)
        self.sent.append(bytes(data))

    def recv(self, size: int) -> bytes:
        if not self.waiting:
            self.waiting = True
            self.frames += 1
            if self.cut_at == self.frames:
                self.inner.close()
                raise ConnectionResetError(104, "cut")
        return self.inner.recv(size)

    def settimeout(self, seconds: float | None) -> None:
        self.inner.settimeout(seconds)

    def close(self) -> None:
        self.inner.close()


class Local:
    """An agent that is reached by socket pairs, each served by a thread of its own."""

    def __init__(
        self, key: Key, directory: Path, limits: Limits | None = None, work: Work | None = None
    ) -> None:
        self.key = key
        self.work = work
        self.directory = directory
        self.limits = limits or Limits()
        self.told: list[tuple[str, dict[str, object]]] = []
        self.wires: list[Wire] = []
        self.cuts: list[int | None] = []
        """For the connections to come: at which frame each is cut."""
        self.half = False
        self._threads: list[Thread] = []
        self.agent = self._made()

    def _made(self) -> Agent:
        def tell(what: str, rest: dict[str, object]) -> None:
            self.told.append((what, rest))

        return Agent(self.key, self.directory, self.limits, tell, work=self.work)

    def restart(self) -> None:
        """As after SIGKILL: what is on disk is all that is left."""
        self.wait()
        self.agent.close()
        self.agent = self._made()

    def stream(self) -> Wire:
        ours, theirs = socket.socketpair()

        def serve() -> None:
            with theirs:
                self.agent.converse(theirs, "client")

        thread = Thread(target=serve, daemon=True)
        thread.start()
        self._threads.append(thread)
        wire = Wire(ours, self.cuts.pop(0) if self.cuts else None, self.half)
        self.wires.append(wire)
        return wire

    def wait(self) -> None:
        """Until every connection that was closed here has ended there."""
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()
        self._threads.clear()

    def open(self, remaining: Callable[[], float], about: About | None = None) -> AgentClient:
        return over(self.stream(), self.key, "agent", remaining, about)

    @contextmanager
    def client(
        self, remaining: Callable[[], float] = lambda: 60.0, about: About | None = None
    ) -> Iterator[AgentClient]:
        with self.open(remaining, about) as client:
            yield client

    @contextmanager
    def peer(self, control: Control) -> Iterator[Peer]:
        """For `StreamChannel`."""
        with self.client(control.remaining) as client:
            yield client

    def close(self) -> None:
        for wire in self.wires:
            wire.close()
        self.wait()
        self.agent.close()


class Script:
    """One direction of a connection in memory; `written` has what went over it, frame by frame."""

    def __init__(self, *frames: bytes) -> None:
        self.written: list[bytes] = []
        self._bytes: Queue[int] = Queue()
        self.put(b"".join(frames))

    def put(self, data: bytes) -> None:
        for byte in data:
            self._bytes.put(byte)

    def take(self, size: int, seconds: float | None) -> bytes:
        try:
            return bytes(self._bytes.get(timeout=seconds) for _ in range(size))
        except Empty:
            raise TimeoutError from None

    @staticmethod
    def pair(reads: Script, writes: Script) -> Stream:
        """An end that reads from the one and writes to the other."""
        return _End(reads, writes)

    @staticmethod
    def both(client: Callable[[], Link], server: Callable[[], Link]) -> tuple[Link, Link]:
        """Run the two sides of a handshake."""
        with ThreadPoolExecutor(1) as pool:
            other = pool.submit(server)
            return client(), other.result()


class _End:
    def __init__(self, reads: Script, writes: Script) -> None:
        self._reads = reads
        self._writes = writes
        self._seconds: float | None = None

    def sendall(self, data: bytes) -> None:
        self._writes.written.append(bytes(data))
        self._writes.put(data)

    def recv(self, size: int) -> bytes:
        return self._reads.take(size, self._seconds)

    def settimeout(self, seconds: float | None) -> None:
        self._seconds = seconds

    def close(self) -> None:
        """Nothing is open."""


def linked(key: Key) -> tuple[Link, Script, Link, Script]:
    """Two proven ends: the client, what is on its way to the server, the server, and what is on
    its way to the client."""
    to_server, to_client = Script(), Script()
    client, server = Script.both(
        lambda: connect(
            Script.pair(to_client, to_server), key, "agent", seconds=5, frame_seconds=0.2
        ),
        lambda: accept(
            Script.pair(to_server, to_client), key, "client", seconds=5, frame_seconds=0.2
        ),
    )
    return client, to_server, server, to_client
