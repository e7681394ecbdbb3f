"""One connection: the handshake that proves both ends, and frames with a proof in each.

    client -> HELLO      nonce of the client
    server -> CHALLENGE  nonce of the server, its proof
    client -> PROOF      its proof
    server -> WELCOME    the first frame with a proof of its own

Transcript: SHA-256 of the HELLO frame, the CHALLENGE's header and the server's nonce. Proofs and
the two keys of the connection, one for each direction, are HMACs of it under the transaction's key,
with different labels: nothing can be sent back to its sender, and nothing of another connection
fits. The proof of a frame covers a counter, header and body: nothing can be repeated, left out or
put in another order.

What is carried is proven and not hidden: see docs/agent.md, "What it does not do".
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from orchestrator.agent.errors import NotProvenError, ProtocolError
from orchestrator.agent.keys import Key
from orchestrator.agent.wire import HEADER, NONCE, PROOF, Header, Type
from orchestrator.handover.stream import ConnectionLostError
from orchestrator.model.errors import ErrorClass

_COUNTER = struct.Struct("<Q")
_PIECE = 256 << 10
_SHA = hashlib.sha256

Fresh = Callable[[int], bytes]
"""So many bytes that nobody can guess."""


class Stream(Protocol):
    """A connected socket, as far as it is needed."""

    def sendall(self, data: bytes, /) -> object: ...
    def recv(self, size: int, /) -> bytes: ...
    def settimeout(self, seconds: float | None, /) -> object: ...
    def close(self) -> object: ...


class Link:
    """A connection whose other end is proven. After any error it is of no use any more.

    Args:
        where: the peer, for errors.
        frame_seconds: how long one frame may take, from its first byte to its last.
    """

    def __init__(
        self, stream: Stream, where: str, keys: tuple[bytes, bytes], frame_seconds: float
    ) -> None:
        self.where = where
        self._stream = stream
        self._send_key, self._receive_key = keys
        self._sent = self._received = 0
        self.minor = 0
        """Of the protocol that the other end speaks, as its last frame says."""
        self._frame_seconds = frame_seconds
        self._broken = False

    def send(self, kind: Type, body: bytes = b"") -> None:
        """
        Raises:
            ConnectionLostError
        """
        self._refuse_if_broken()
        head = Header(kind, len(body)).pack()
        proof = hmac.new(self._send_key, _COUNTER.pack(self._sent) + head, _SHA)
        proof.update(body)
        self._sent += 1
        try:
            _send(self._stream, head + body + proof.digest(), self.where, self._frame_seconds)
        except BaseException:
            self._broken = True
            raise

    def receive(self, wait: float) -> tuple[Type, bytes]:
        """The next frame, proven.

        Args:
            wait: seconds until its first byte; the rest has `frame_seconds`.

        Raises:
            ConnectionLostError: the end of the connection, or of the time.
            ProtocolError, NotProvenError: nothing of the frame was used.
        """
        self._refuse_if_broken()
        try:
            first = _exactly(self._stream, 1, self.where, _Until(wait))
            until = _Until(self._frame_seconds)
            head = first + _exactly(self._stream, HEADER - 1, self.where, until)
            header = Header.parse(head, self.where)
            body = _exactly(self._stream, header.length, self.where, until)
            found = _exactly(self._stream, PROOF, self.where, until)
            proof = hmac.new(self._receive_key, _COUNTER.pack(self._received) + head, _SHA)
            proof.update(body)
            if not hmac.compare_digest(proof.digest(), found):
                raise NotProvenError(
                    f"frame {self._received} ({header.kind.name}) does not fit its proof: it was "
                    "changed, repeated, left out or put in another order on the way",
                    where=self.where,
                    state="nothing of it was used",
                )
        except BaseException:
            self._broken = True
            raise
        self._received += 1
        self.minor = header.minor
        return header.kind, body

    def close(self) -> None:
        """Again is fine."""
        self._broken = True
        with suppress(OSError):
            self._stream.close()

    def _refuse_if_broken(self) -> None:
        if self._broken:
            raise ConnectionLostError("this connection has ended", where=self.where)


def connect(
    stream: Stream,
    key: Key,
    where: str,
    *,
    seconds: float,
    frame_seconds: float,
    fresh: Fresh = secrets.token_bytes,
) -> Link:
    """The client's side of the handshake.

    Args:
        seconds: for the whole of it.

    Raises:
        NotProvenError: the server does not have this key. ProtocolError
        ConnectionLostError: it ended the connection, as it does if we do not prove ours.
    """
    until = _Until(seconds)
    hello = Header(Type.HELLO, NONCE).pack() + fresh(NONCE)
    _send(stream, hello, where, until.left())
    try:
        head, body = _plain(stream, Type.CHALLENGE, where, until)
        transcript = _transcript(hello, head, body[:NONCE])
        if not hmac.compare_digest(key.proof(_SERVER, transcript), body[NONCE:]):
            raise NotProvenError(
                f"the agent does not have the key of transaction {key.transaction}",
                where=where,
                state="nothing was sent",
            )
        proof = Header(Type.PROOF, PROOF).pack() + key.proof(_CLIENT, transcript)
        _send(stream, proof, where, until.left())
        keys = (key.proof(_TO_SERVER, transcript), key.proof(_TO_CLIENT, transcript))
        link = Link(stream, where, keys, frame_seconds)
        kind, _ = link.receive(until.left())
    except ConnectionLostError as error:
        error.details = (
            "an agent hangs up on a port that is not reserved to root, and when it has connections "
            "enough",
        )
        raise
    if kind is not Type.WELCOME:
        raise ProtocolError(f"expected WELCOME, found {kind.name}", where=where)
    return link


def accept(
    stream: Stream,
    key: Key,
    where: str,
    *,
    seconds: float,
    frame_seconds: float,
    fresh: Fresh = secrets.token_bytes,
) -> Link:
    """The server's side.

    Raises:
        NotProvenError: the client does not have the key; it is told nothing.
        ProtocolError, ConnectionLostError
    """
    until = _Until(seconds)
    head, nonce = _plain(stream, Type.HELLO, where, until)
    hello = head + nonce
    head, nonce = Header(Type.CHALLENGE, NONCE + PROOF).pack(), fresh(NONCE)
    transcript = _transcript(hello, head, nonce)
    _send(stream, head + nonce + key.proof(_SERVER, transcript), where, until.left())
    _, proof = _plain(stream, Type.PROOF, where, until)
    if not hmac.compare_digest(key.proof(_CLIENT, transcript), proof):
        raise NotProvenError(
            f"a client that does not have the key of transaction {key.transaction}", where=where
        )
    keys = (key.proof(_TO_CLIENT, transcript), key.proof(_TO_SERVER, transcript))
    link = Link(stream, where, keys, frame_seconds)
    link.send(Type.WELCOME)
    return link


_SERVER, _CLIENT = "proof of the server", "proof of the client"
_TO_SERVER, _TO_CLIENT = "from client to server", "from server to client"


def _transcript(hello: bytes, head: bytes, nonce: bytes) -> bytes:
    return _SHA(hello + head + nonce).digest()


class _Until:
    """A point in time."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        return self._end - time.monotonic()


def _plain(stream: Stream, kind: Type, where: str, until: _Until) -> tuple[bytes, bytes]:
    """Header and body of a frame of the handshake, whose length is fixed."""
    head = _exactly(stream, HEADER, where, until)
    header = Header.parse(head, where)
    lengths = {Type.HELLO: NONCE, Type.CHALLENGE: NONCE + PROOF, Type.PROOF: PROOF}
    if header.kind is not kind or header.length != lengths[kind]:
        raise ProtocolError(
            f"expected {kind.name}, found {header.kind.name} of {header.length} bytes", where=where
        )
    return head, _exactly(stream, header.length, where, until)


def _exactly(stream: Stream, size: int, where: str, until: _Until) -> bytes:
    found = bytearray()
    while len(found) < size:
        try:
            left = until.left()
            if left <= 0:
                raise TimeoutError
            stream.settimeout(left)
            piece = stream.recv(min(size - len(found), _PIECE))
        except OSError as error:
            raise _lost(error, where) from error
        if not piece:
            raise ConnectionLostError("the other end closed the connection", where=where)
        found += piece
    return bytes(found)


def _send(stream: Stream, data: bytes, where: str, seconds: float) -> None:
    try:
        if seconds <= 0:
            raise TimeoutError
        stream.settimeout(seconds)
        stream.sendall(data)
    except OSError as error:
        raise _lost(error, where) from error


def _lost(error: OSError, where: str) -> ConnectionLostError:
    if isinstance(error, TimeoutError):
        return ConnectionLostError(
            "the other end did not answer in time", where=where, error_class=ErrorClass.TIMEOUT
        )
    return ConnectionLostError(f"the connection ended: {error.strerror or error}", where=where)
