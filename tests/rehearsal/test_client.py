"""The client outside: what it says about a connection must be what came through it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.model.errors import RehearsalError
from orchestrator.rehearsal.client import Client, Seen


@contextmanager
def server(talk: Callable[[socket.socket], None]) -> Iterator[int]:
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            talk(connection)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield listener.getsockname()[1]
    thread.join(5)
    listener.close()


def feed(numbers: list[int]) -> Seen:
    seen = Seen()
    for number in numbers:
        seen = seen.with_line(number, "7.2", 0.1)
    return seen


@given(st.integers(1, 1000), st.integers(1, 200))
def test_numbers_in_a_row_are_whole(first: int, count: int) -> None:
    seen = feed(list(range(first, first + count)))
    assert seen.whole
    assert (seen.messages, seen.last) == (count, first + count - 1)


@given(st.integers(3, 60), st.data())
def test_every_number_left_out_is_counted(count: int, data: st.DataObject) -> None:
    numbers = list(range(1, count + 1))
    inner = st.sets(st.integers(2, count - 1), min_size=1)
    gone = data.draw(inner)
    seen = feed([n for n in numbers if n not in gone])
    assert seen.missing == len(gone)
    assert not seen.whole


@given(st.integers(2, 60), st.data())
def test_a_number_that_comes_again_is_never_whole(count: int, data: st.DataObject) -> None:
    position = data.draw(st.integers(0, count - 1))
    numbers = list(range(1, count + 1))
    numbers.insert(position + 1, numbers[position])
    assert feed(numbers).repeated >= 1
    assert not feed(numbers).whole


def test_a_connection_that_ends_is_told_and_never_made_again() -> None:
    def talk(connection: socket.socket) -> None:
        connection.sendall(b"1 7.2\n2 7.2\n")

    with server(talk) as port, Client(port) as client:
        deadline = time.monotonic() + 5
        while client.seen().ended is None and time.monotonic() < deadline:
            time.sleep(0.01)
        assert client.seen().ended is not None
        assert client.seen().messages == 2
        assert not client.seen().whole


def test_lines_in_pieces_kernels_and_the_longest_gap_are_seen() -> None:
    def talk(connection: socket.socket) -> None:
        connection.sendall(b"5 7.2")
        connection.sendall(b".13\n6 7.2.13\n")
        time.sleep(0.4)
        connection.sendall(b"7 7.3.4\n8 7.3.4\n")
        connection.recv(1)

    with server(talk) as port, Client(port) as client:
        assert client.wait_release("7.3.4", 5)
        assert client.wait_messages(0, 1)
        deadline = time.monotonic() + 5
        while client.seen().messages < 4 and time.monotonic() < deadline:
            time.sleep(0.01)
        seen = client.seen()
    assert seen.releases == ("7.2.13", "7.3.4")
    assert seen.whole
    assert 0.3 < seen.longest_gap < 2
    assert seen.gap_between == (6, 7)


def test_nobody_at_the_port_is_an_error_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(RehearsalError, match="does not answer"):
        Client(port, patience=0.3)
