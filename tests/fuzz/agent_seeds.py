"""Valid examples of what the two ends of an agent's connection say to each other."""

from __future__ import annotations

import hashlib
import tempfile
from functools import cache
from pathlib import Path

from orchestrator.agent.link import Link
from orchestrator.agent.pool import Pool
from orchestrator.agent.wire import Header, Type
from orchestrator.handover.frame import SIZE
from orchestrator.handover.manifest import Manifest
from tests.fuzz.seeds import VECTORS

KEY = "mkupgrade-agent-key/1 t-20260901-ab12cd " + "00" * 32 + "\n"
KEYS = (b"s" * 32, b"r" * 32)
"""Of a connection: that of the other end, and our own."""


class Recorder:
    """A stream that keeps what is sent and has nothing to read."""

    def __init__(self, data: bytes = b"") -> None:
        self.sent: list[bytes] = []
        self._left = data

    def sendall(self, data: bytes) -> None:
        self.sent.append(data)

    def recv(self, size: int) -> bytes:
        piece, self._left = self._left[:size], self._left[size:]
        return piece

    def settimeout(self, seconds: float | None) -> None: ...

    def close(self) -> None: ...


def _whole() -> list[tuple[Type, bytes]]:
    """A whole handover."""
    block = (VECTORS / "payload-000001").read_bytes()[SIZE:]
    digest = hashlib.sha256(block).digest()
    manifest = Manifest.decode((VECTORS / "manifest").read_bytes())
    return [
        (Type.ASK, b""),
        (Type.BEGIN, b"forward"),
        (Type.HAVE, digest),
        (Type.BLOCK, digest + block),
        (Type.FLUSH, b""),
        (Type.RECIPE, digest),
        (Type.DRAFT, (VECTORS / "payload-000001").read_bytes()[:SIZE]),
        (Type.RECIPE, digest),
        (Type.PAYLOAD, (VECTORS / "payload-000001").read_bytes()[:SIZE]),
        (Type.FINISH, manifest.encode()),
        (Type.INSPECT, b"forward"),
        (Type.FETCH, bytes(12) + b"forward"),
        (Type.FETCH, b"\1" + bytes(11) + b"forward"),
        (Type.BEGIN, b"return t-20260901-ab12cd counter"),
        (Type.WORK, b'{"seconds": 5}'),
        (Type.DISCARD, b"forward"),
    ]


@cache
def talks() -> list[bytes]:
    """Frames without their proofs, one after the other."""
    return [b"".join(Header(kind, len(body)).pack() + body for kind, body in _whole())]


@cache
def links() -> list[bytes]:
    """The same as they go over a proven connection."""
    recorder = Recorder()
    link = Link(recorder, "fuzz", KEYS, 60.0)
    for kind, body in _whole():
        link.send(kind, body)
    return [b"".join(recorder.sent)]


def hellos() -> list[bytes]:
    """What a client sends before it is proven; its proof is of no server's nonce."""
    hello = Header(Type.HELLO, 32).pack() + b"n" * 32
    return [hello + Header(Type.PROOF, 32).pack() + b"p" * 32]


def answers() -> list[bytes]:
    """Bodies of STATUS, INSPECTED, ERROR and LACKING."""
    status = (
        b'{"version":"1","transaction":"t","release":"7.2","boot_id":"b","tainted":0,"ready":true}'
    )
    inspected = b'{"verdict":"present","reason":"r","manifest":"' + b"ab" * 32 + b'"}'
    return [status, inspected, b'{"what":"w","where":null,"error_class":"io"}', b"\x05"]


def work() -> list[bytes]:
    """A request, and answers."""
    workload = (
        b'{"name":"shop","instance":"web","find":{"cmdline":"shop"},"migrate":{"method":"criu"}}'
    )
    request = (
        b'{"verb":"take","transaction":"t-1","section":"forward","plan_digest":"' + b"ab" * 32
        + b'","workload":' + workload + b',"seconds":5}'
    )  # fmt: skip
    look = b'{"result":{"running":true,"pids":[7],"taken":"absent","brought":"present"}}'
    return [request, look, b'{"error":{"what":"w","class":"io","details":["d"]}}']


@cache
def pools() -> list[bytes]:
    with tempfile.TemporaryDirectory() as name:
        pool = Pool(Path(name) / "blocks", 1 << 20)
        for data in (b"one", b"two" * 100):
            pool.add(hashlib.sha256(data).digest(), data)
        pool.close()
        return [(Path(name) / "blocks").read_bytes()]
