"""What goes on once a program has opened a console, or connected to an instance by vsock.

At vsock port 1023 of an instance that is ready something like kerf-init listens, at that of its
`AgentSays` a real `mkupgrade agent`. Both hang up on who does not come from a reserved port.
"""

from __future__ import annotations

import errno
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from orchestrator.agent.keys import parse_key
from orchestrator.agent.server import Agent, Limits
from orchestrator.agent.status import Status
from tests.support.multikernel.devices import AGENT_PORT, RING, Tty
from tests.support.multikernel.double import Double
from tests.support.multikernel.served.face import Served
from tests.support.multikernel.settings import AgentSays
from tests.support.multikernel.world import Instance

RESERVED = 1024
_TICK = 0.01
_SIZE, _ANSWER, _HEAD = struct.Struct("=Q"), struct.Struct("=q"), struct.Struct("=3Q")
_MOST_PICK = 64
_KEY = re.compile(rb"mkupgrade-agent-key/1 [^\n\0]+\n")


def exactly(connection: socket.socket, length: int) -> bytes:
    """
    Raises:
        EOFError
    """
    data = b""
    while len(data) < length:
        piece = connection.recv(length - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data


def listen(path: Path, take: Callable[[socket.socket], None]) -> None:
    """A socket at this path, each of whose connections is taken by a thread of its own."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    listener.listen()

    def one(connection: socket.socket) -> None:
        with connection, suppress(EOFError, OSError):
            take(connection)

    def all_of_them() -> None:
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=one, args=(connection,), daemon=True).start()

    threading.Thread(target=all_of_them, daemon=True).start()


class Consoles:
    """/dev/mktty: one connection for each open(2)."""

    def __init__(self, served: Served) -> None:
        self._served = served

    def take(self, connection: socket.socket) -> None:
        # The ring is the double's: what a reader leaves is not to pile up anywhere else.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, RING // 4)
        with self._opened() as (double, tty):
            self._pick(connection, tty)
            connection.setblocking(False)
            left = b""
            while True:
                with self._served.lock:
                    left = left or tty.read(_SIZE.size * 512)
                with suppress(BlockingIOError):
                    left = left[connection.send(left) :] if left else b""
                with suppress(BlockingIOError):
                    typed = connection.recv(RING)
                    if not typed:
                        return
                    with self._served.lock:
                        double.devices.typed[tty.id or 0] += typed
                time.sleep(_TICK)

    @contextmanager
    def _opened(self) -> Iterator[tuple[Double, Tty]]:
        with self._served.lock:
            double = self._served.double
            tty = double.devices.open_mktty()
        try:
            yield double, tty
        finally:
            with self._served.lock:
                double.devices.close_mktty(tty)

    def _pick(self, connection: socket.socket, tty: Tty) -> None:
        """Until a write was one that picks an instance."""
        while tty.id is None:
            (length,) = _SIZE.unpack(exactly(connection, _SIZE.size))
            said = exactly(connection, min(length, _MOST_PICK))
            try:
                with self._served.lock:
                    answer = tty.write(said)
            except OSError as error:
                answer = -(error.errno or errno.EIO)
            connection.sendall(_ANSWER.pack(answer))


class Sockets:
    """Vsock connections that were accepted."""

    def __init__(self, served: Served, directory: Path) -> None:
        self._served = served
        self._directory = directory
        self._agents: dict[tuple[str, str], Agent] = {}

    def take(self, connection: socket.socket) -> None:
        cid, port, source = _HEAD.unpack(exactly(connection, _HEAD.size))
        if not 0 < source < RESERVED:
            return
        with self._served.lock:
            double = self._served.double
            instance = double.world.by_id(cid)
            agent = None if port == AGENT_PORT else self._agent(instance)
        if agent is not None:
            agent.converse(connection, f"vsock:0:{source}")
        else:
            Init(self._served, double, instance).serve(connection)

    def _agent(self, instance: Instance) -> Agent | None:
        life, image = instance.life, instance.image
        if life is None or life.spawn.agent is None or image is None:
            return None
        keys = _KEY.findall(image.initrd or b"")
        key = parse_key(keys[-1], "initrd")
        which = (instance.name, key.transaction)
        if which not in self._agents:
            directory = self._directory / f"state of {instance.name}"
            directory.mkdir(mode=0o700, exist_ok=True)
            started = Started(instance.name, life.spawn.agent, life.started, self._served)
            self._agents[which] = Told(
                key, directory, Limits(), lambda *_: None, started=started
            )  # fmt: skip
        return self._agents[which]


@dataclass(frozen=True)
class Started:
    """Of which kernel an agent speaks."""

    name: str
    says: AgentSays
    at: float
    served: Served


class Told(Agent):
    """The real agent, which says of its kernel what the double was told."""

    def __init__(self, *arguments: object, started: Started) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]
        self._started = started

    def status(self) -> Status:
        started = self._started
        with started.served.lock:
            now = started.served.double.world.clock.now
        ready = now >= started.at + started.says.ready_in
        of_it = {
            "release": started.says.release, "boot_id": f"boot of {started.name}", "tainted": 0,
            "ready": ready, "problems": [] if ready else ["/run/up is not there yet"],
        }  # fmt: skip
        return super().status().model_copy(update=of_it)


_OPEN, _STDIN, _EOF = 1, 2, 3
_STARTED, _STDOUT, _EXIT, _ACK = 16, 18, 20, 21
_FRAME, _OPENED = struct.Struct("<IHH"), struct.Struct("<HHIIHHHHHH")
_WITH_STDIN = 2


class Init:
    """kerf-init's frames (facts 1.8). No program is run: what was asked for is noted down, `cat`
    gives back what it gets, and everything else ends as the instance's `Spawn` says."""

    def __init__(self, served: Served, double: Double, instance: Instance) -> None:
        self._served = served
        self._double = double
        self._instance = instance

    def serve(self, connection: socket.socket) -> None:
        kind, opened = self._frame(connection)
        if kind != _OPEN:
            return
        _, flags, _, _, groups, _, _, count, _, _ = _OPENED.unpack_from(opened)
        strings = opened[_OPENED.size + 4 * groups :].split(b"\0")
        argv = tuple(it.decode() for it in strings[1 : 1 + count])
        with self._served.lock:
            self._double.world.commands.append((self._instance.name, argv))
            life = self._instance.life
            code, said = life.spawn.runs.get(argv, (0, b"")) if life else (255, b"")
        self._send(connection, _STARTED, struct.pack("<I", 1))
        while flags & _WITH_STDIN:
            kind, data = self._frame(connection)
            if kind == _EOF:
                break
            if kind == _STDIN:
                self._send(connection, _ACK, struct.pack("<I", len(data)))
                if argv == ("cat",):
                    self._send(connection, _STDOUT, data)
        if said:
            self._send(connection, _STDOUT, said)
        self._send(connection, _EXIT, struct.pack("<BB", 0, code))

    @staticmethod
    def _frame(connection: socket.socket) -> tuple[int, bytes]:
        length, kind, _ = _FRAME.unpack(exactly(connection, _FRAME.size))
        return kind, exactly(connection, length)

    @staticmethod
    def _send(connection: socket.socket, kind: int, data: bytes) -> None:
        connection.sendall(_FRAME.pack(len(data), kind, 0) + data)
