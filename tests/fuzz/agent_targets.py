"""The agent's readers of hostile bytes: before a client is proven, and behind that."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from orchestrator.agent import messages, transport
from orchestrator.agent.conversation import Conversation
from orchestrator.agent.keys import parse_key
from orchestrator.agent.link import Link, accept, connect
from orchestrator.agent.pool import Pool
from orchestrator.agent.status import Status, status
from orchestrator.agent.store import Store
from orchestrator.agent.wire import HEADER, Header, most
from orchestrator.drivers.carrying.requests import read_answer, read_look, read_request
from orchestrator.model.errors import MkupgradeError
from tests.fuzz import agent_seeds as seeds
from tests.fuzz.target import target

_MAGIC = (b"MKAG\1\0",)
_JSON = (b'"verdict":"', b'"tainted":-1', b'"class":', b'"ready":1', b'"manifest":"')
TRANSACTION = "t-20260901-ab12cd"


@target("agent-handshake", seeds.hellos, tokens=_MAGIC)
def _handshake(data: bytes, _: Path) -> None:
    """Anybody's bytes, to the server and to the client. Nobody is proven by them."""
    key = parse_key(seeds.KEY.encode(), "key")
    for side in (accept, connect):
        stream = seeds.Recorder(data)
        with suppress(MkupgradeError):
            side(stream, key, "fuzz", seconds=60, frame_seconds=60)
            raise AssertionError("proven without a key")
        assert sum(map(len, stream.sent)) <= HEADER + 64, "told more than a challenge"


@target("agent-link", seeds.links, tokens=_MAGIC, examples=60)
def _link(data: bytes, _: Path) -> None:
    """Behind the handshake: what is taken is what was sent, in its order, from the first frame."""
    ours, theirs = seeds.KEYS
    link = Link(seeds.Recorder(data), "fuzz", (theirs, ours), 60.0)
    taken = bytearray()
    with suppress(MkupgradeError):
        while True:
            kind, body = link.receive(60.0)
            taken += Header(kind, len(body)).pack() + body
            assert seeds.talks()[0].startswith(taken), "a frame that was never sent"


@target("agent-frames", seeds.talks, tokens=(*_MAGIC, b"forward", b"return"), examples=40,
        writes=True)  # fmt: skip
def _frames(data: bytes, directory: Path) -> None:
    """Frames of a client that has the key and means ill."""
    room = directory / "room" / "agent"
    store = Store(room, TRANSACTION, 1 << 20)
    conversation = Conversation(store, lambda: status(TRANSACTION, room, ()), lambda *_: None)
    try:
        while len(data) >= HEADER:
            header = Header.parse(data[:HEADER], "fuzz")
            body, data = data[HEADER : HEADER + header.length], data[HEADER + header.length :]
            answer = conversation.answer(header.kind, body)
            if answer is not None:
                assert len(answer[1]) <= most(answer[0])
    finally:
        store.close()
        assert {path.name for path in directory.iterdir()} == {"room"}, "written outside"


@target("agent-answers", seeds.answers, tokens=_JSON)
def _answers(data: bytes, _: Path) -> None:
    """The same bytes as the body of each answer."""
    with suppress(MkupgradeError):
        Status.decode(data, "fuzz").encode()
    with suppress(MkupgradeError):
        messages.parse_inspected(data, "fuzz")
    with suppress(MkupgradeError):
        messages.raise_error(data, "fuzz")
    for number in (0, 1, 8, 4096):
        with suppress(MkupgradeError):
            assert len(messages.parse_bits(data, number, "fuzz")) == number
    with suppress(MkupgradeError):
        messages.parse_digests(data)
    with suppress(MkupgradeError):
        messages.parse_own_parcel(data, TRANSACTION)
    with suppress(MkupgradeError):
        messages.parse_fetch(data, TRANSACTION)


@target("agent-work", seeds.work, tokens=(b'"verb":"take"', b'"error":', b'"class":'))
def _work(data: bytes, _: Path) -> None:
    """The same bytes as a request to the worker, as its answer, and as what it saw."""
    with suppress(MkupgradeError):
        assert read_request(data).parcel.text().isascii()
    with suppress(MkupgradeError):
        read_look(read_answer(data, "fuzz"), "fuzz")


@target("agent-key", lambda: [seeds.KEY.encode()])
def _key(data: bytes, _: Path) -> None:
    assert parse_key(data, "key").text().rstrip("\n") == data.decode().rstrip("\n")


@target("agent-address", lambda: [b"tcp:[fd00::1]:1022", b"vsock:1022", b"vsock:3:1022"],
        tokens=(b"tcp:", b"vsock:", b"]:"))  # fmt: skip
def _address(data: bytes, _: Path) -> None:
    text = data.decode("utf-8", "replace")
    for parse in (transport.parse_listen, transport.parse_peer):
        with suppress(MkupgradeError):
            assert parse(str(parse(text))) == parse(text)


@target("agent-blocks", seeds.pools, examples=40, writes=True)
def _blocks(data: bytes, directory: Path) -> None:
    """The file of blocks: what is in it fits its digests, or is cut off."""
    path = directory / "blocks"
    path.write_bytes(data)
    pool = Pool(path, 1 << 20)
    pool.close()
    assert data.startswith(path.read_bytes())
