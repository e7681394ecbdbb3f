"""A step's control, and servers on 127.0.0.1."""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field

import pytest

from orchestrator.checks import Checker, Clock


@dataclass
class FakeControl:
    left: float = 600.0
    stop: bool = False
    said: list[str] = field(default_factory=list)

    def remaining(self) -> float:
        return self.left

    def stopped(self) -> bool:
        return self.stop

    def progress(self, text: str, fraction: float | None = None) -> None:
        self.said.append(text)


@dataclass
class FakeTime:
    """Seconds pass only by sleeping."""

    now: float = 1000.0
    slept: list[float] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds
        self.slept.append(seconds)


@pytest.fixture
def control() -> FakeControl:
    return FakeControl()


@pytest.fixture
def fake_time() -> FakeTime:
    return FakeTime()


@pytest.fixture
def checker(fake_time: FakeTime) -> Checker:
    def sleep(seconds: float) -> None:
        fake_time.sleep(seconds)

    return Checker(clock=Clock(now=lambda: fake_time.now, sleep=sleep))


Serve = Callable[[Callable[[socket.socket], None]], int]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start a TCP server whose every connection is handled by a function; gives its port."""
    with ExitStack() as stack:

        def start(handle: Callable[[socket.socket], None]) -> int:
            class Handler(socketserver.BaseRequestHandler):
                def handle(self) -> None:
                    handle(self.request)

            class Server(socketserver.ThreadingTCPServer):
                daemon_threads = True
                block_on_close = False

                def handle_error(self, request: object, client_address: object) -> None:
                    """Clients hang up; that is their right."""

            server = Server(("127.0.0.1", 0), Handler)
            thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
            thread.start()
            stack.callback(server.server_close)
            stack.callback(server.shutdown)
            return int(server.server_address[1])

        yield start
