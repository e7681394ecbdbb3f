"""Who does not have the key is told nothing, and a frame is taken once, in its turn, as it was."""

from __future__ import annotations

import socket

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.agent.errors import NotProvenError, ProtocolError
from orchestrator.agent.keys import Key, new_key
from orchestrator.agent.link import accept, connect
from orchestrator.agent.wire import HEADER, MAGIC, MINOR, Header, Type, most
from orchestrator.handover.stream import ConnectionLostError
from orchestrator.model.errors import HandoverError
from tests.agent.conftest import TRANSACTION
from tests.support.agents import Local, Script, linked
from tests.support.profile import examples

KEY = Key(TRANSACTION, b"k" * 32)


def test_both_ends_are_proven_and_frames_go_both_ways(key: Key) -> None:
    client, _, server, _ = linked(key)
    for number in range(3):
        client.send(Type.BEGIN, b"%d" % number)
        assert server.receive(1) == (Type.BEGIN, b"%d" % number)
        server.send(Type.BEGUN)
        assert client.receive(1) == (Type.BEGUN, b"")


@pytest.mark.parametrize(
    "other", [new_key(TRANSACTION), Key("t-20260901-other", KEY.secret)], ids=["secret", "name"]
)
def test_another_key_or_another_transaction_is_refused_by_the_client(other: Key) -> None:
    to_server, to_client = Script(), Script()
    hello = Header(Type.HELLO, 32).pack() + bytes(32)
    with pytest.raises(ConnectionLostError):
        accept(Script.pair(Script(hello), to_client), other, "x", seconds=0.1, frame_seconds=1)
    challenge = to_client.written[0]
    with pytest.raises(NotProvenError, match="does not have the key"):
        connect(
            Script.pair(Script(challenge), to_server), KEY, "x",
            seconds=1, frame_seconds=1, fresh=bytes,
        )  # fmt: skip
    assert len(to_server.written) == 1, "no proof was given to a server without one"


def test_a_client_without_the_key_is_told_nothing(agent: Local) -> None:
    wire = agent.stream()
    with pytest.raises(NotProvenError):
        connect(wire, new_key(TRANSACTION), "agent", seconds=2, frame_seconds=2)
    wire.close()
    wire = agent.stream()
    wire.sendall(Header(Type.HELLO, 32).pack() + bytes(32))
    assert len(wire.recv(1000)) == 80
    wire.sendall(Header(Type.PROOF, 32).pack() + bytes(32))
    assert wire.recv(1000) == b""
    agent.wait()
    assert [what for what, _ in agent.told] == ["hung-up", "hung-up"]


def test_a_server_cannot_be_made_to_prove_itself_by_its_own_words(key: Key) -> None:
    """Reflection: the server's proof sent back as the client's."""
    agent_says, client_says = Script(), Script(Header(Type.HELLO, 32).pack() + bytes(32))
    with pytest.raises(ConnectionLostError):
        accept(
            Script.pair(client_says, agent_says), key, "x",
            seconds=0.1, frame_seconds=1, fresh=lambda _: b"n" * 32,
        )  # fmt: skip
    proof = agent_says.written[0][-32:]
    again = Script(Header(Type.HELLO, 32).pack() + bytes(32), Header(Type.PROOF, 32).pack() + proof)
    with pytest.raises(NotProvenError):
        accept(
            Script.pair(again, Script()), key, "x",
            seconds=1, frame_seconds=1, fresh=lambda _: b"n" * 32,
        )  # fmt: skip


def test_a_whole_connection_that_is_played_again_is_refused(key: Key) -> None:
    client, to_server, _, _ = linked(key)
    client.send(Type.DISCARD, b"forward")
    with pytest.raises(NotProvenError):
        accept(
            Script.pair(Script(*to_server.written), Script()), key, "x",
            seconds=1, frame_seconds=1,
        )  # fmt: skip


def test_a_frame_that_is_repeated_is_refused(key: Key) -> None:
    client, to_server, server, _ = linked(key)
    client.send(Type.FLUSH)
    to_server.put(to_server.written[-1])
    assert server.receive(1) == (Type.FLUSH, b"")
    with pytest.raises(NotProvenError):
        server.receive(1)


def test_frames_in_another_order_are_refused(key: Key) -> None:
    client, to_server, server, to_client = linked(key)
    client.send(Type.FLUSH)
    client.send(Type.ASK)
    one, two = to_server.written[-2:]
    to_server.take(len(one + two), 1)
    to_server.put(two + one)
    with pytest.raises(NotProvenError):
        server.receive(1)
    with pytest.raises(ConnectionLostError, match="has ended"):
        server.receive(1)
    assert len(to_client.written) == 2


def test_a_frame_that_is_left_out_is_noticed_at_the_next(key: Key) -> None:
    client, to_server, server, _ = linked(key)
    client.send(Type.FLUSH)
    to_server.take(len(to_server.written[-1]), 1)
    client.send(Type.ASK)
    with pytest.raises(NotProvenError):
        server.receive(1)


def test_a_frame_that_is_sent_back_is_refused(key: Key) -> None:
    client, to_server, _, to_client = linked(key)
    client.send(Type.ASK)
    to_client.put(to_server.written[-1])
    with pytest.raises(NotProvenError):
        client.receive(1)


@settings(max_examples=examples(100), deadline=None)
@given(data=st.data())
def test_no_bit_of_a_frame_can_be_changed(data: st.DataObject) -> None:
    client, to_server, server, _ = linked(KEY)
    body = data.draw(st.binary(max_size=16))
    client.send(Type.BEGIN, body)
    frame = bytearray(to_server.take(16 + len(body) + 32, 1))
    at = data.draw(st.integers(0, 8 * len(frame) - 1))
    frame[at // 8] ^= 1 << at % 8
    to_server.put(bytes(frame))
    with pytest.raises(HandoverError):
        server.receive(0.2)


@pytest.mark.parametrize("kind", list(Type), ids=lambda kind: kind.name)
def test_a_frame_longer_than_its_type_allows_is_refused_by_its_header(kind: Type) -> None:
    Header.parse(Header(kind, most(kind)).pack(), "x")
    with pytest.raises(ProtocolError, match="claims"):
        Header.parse(Header(kind, most(kind) + 1).pack(), "x")


@pytest.mark.parametrize("head", [bytes(16), b"GET / HTTP/1.1\r\n", MAGIC + b"\2" + bytes(11)])
def test_what_is_no_frame_of_this_version_is_refused(head: bytes) -> None:
    with pytest.raises(ProtocolError):
        Header.parse(head, "x")


def test_a_newer_minor_version_is_understood() -> None:
    data = bytearray(Header(Type.ASK, 0).pack())
    data[5] = 9
    assert Header.parse(bytes(data), "x").minor == 9


def test_a_frame_that_never_ends_is_given_up(key: Key) -> None:
    """A byte now and then does not help: the time is the whole frame's."""
    _, to_server, server, _ = linked(key)
    to_server.put(Header(Type.BLOCK, 1000).pack()[: HEADER - 1])
    with pytest.raises(ConnectionLostError, match="in time"):
        server.receive(1)


def test_a_client_that_says_nothing_is_given_up(key: Key) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(ConnectionLostError, match="in time"):
        accept(theirs, key, "x", seconds=0.05, frame_seconds=1)


def test_an_endless_handshake_takes_no_memory(agent: Local) -> None:
    wire = agent.stream()
    wire.sendall(Header(Type.HELLO, 32).pack()[:8] + b"\xff\xff\xff\x7f" + bytes(4))
    assert wire.recv(1000) == b""
    agent.wait()
    assert agent.told[0][0] == "hung-up"


def test_a_client_knows_which_minor_version_the_agent_speaks(agent: Local) -> None:
    with agent.client() as client:
        assert client.minor == MINOR
