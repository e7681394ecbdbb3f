"""The source's end of a connection to an agent."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import NamedTuple, Self

from orchestrator.agent import messages, transport
from orchestrator.agent.errors import ProtocolError
from orchestrator.agent.keys import Key
from orchestrator.agent.link import Link, Stream, connect
from orchestrator.agent.status import Status
from orchestrator.agent.transport import Address
from orchestrator.agent.wire import DIGESTS, Type
from orchestrator.handover.frame import Header
from orchestrator.handover.parcel import Parcel
from orchestrator.handover.stream import OpenPeer, Peer
from orchestrator.model.errors import DeadlineError
from orchestrator.model.seams import Control
from orchestrator.model.steps import Inspected, Section

_CONNECT_SECONDS = 10.0
_FRAME_SECONDS = 30.0
_COUNT = struct.Struct("<Q")


class About(NamedTuple):
    """Whose handovers are meant by a section; see `Parcel`."""

    transaction: str
    workload: str | None
    """None: of all that travel together."""
    ahead: bool = False


class AgentClient:
    """Implements `orchestrator.handover.stream.Peer`. After an error of the connection it is of
    no use any more.

    Args:
        remaining: seconds that are left for everything.
        about: whose handovers are meant by a section.
    """

    def __init__(
        self,
        link: Link,
        remaining: Callable[[], float],
        about: About,
    ) -> None:
        self._link = link
        self._remaining = remaining
        self._about = about

    @property
    def minor(self) -> int:
        """Version 1.MINOR of the protocol is what the agent speaks."""
        return self._link.minor

    def status(self) -> Status:
        """That it lives, and in which kernel."""
        return Status.decode(self._ask(Type.ASK, b"", Type.STATUS), self._link.where)

    def begin(self, section: Section) -> None:
        """See `Peer`."""
        self._ask(Type.BEGIN, self._named(section), Type.BEGUN)

    def lacking(self, digests: Sequence[bytes]) -> list[bool]:
        """See `Peer`."""
        found: list[bool] = []
        for part in _parts(digests):
            body = self._ask(Type.HAVE, b"".join(part), Type.LACKING)
            found += messages.parse_bits(body, len(part), self._link.where)
        return found

    def put(self, digest: bytes, data: bytes) -> None:
        """See `Peer`."""
        self._link.send(Type.BLOCK, digest + data)

    def flush(self) -> None:
        """See `Peer`."""
        body = self._ask(Type.FLUSH, b"", Type.FLUSHED)
        if len(body) != _COUNT.size:
            raise ProtocolError("FLUSHED without a count", where=self._link.where)

    def draft(self, header: Header, digests: Sequence[bytes]) -> None:
        """See `Peer`."""
        self._send_recipe(digests)
        self._ask(Type.DRAFT, header.pack(), Type.DRAFTED)

    def payload(self, header: Header, digests: Sequence[bytes]) -> None:
        """See `Peer`."""
        self._send_recipe(digests)
        self._ask(Type.PAYLOAD, header.pack(), Type.TAKEN)

    def finish(self, manifest: bytes) -> None:
        """See `Peer`."""
        self._ask(Type.FINISH, manifest, Type.FINISHED)

    def inspect(self, section: Section) -> tuple[Inspected, bytes]:
        """See `Peer`."""
        body = self._ask(Type.INSPECT, self._named(section), Type.INSPECTED)
        return messages.parse_inspected(body, self._link.where)

    def discard(self, section: Section) -> None:
        """See `Peer`."""
        self._ask(Type.DISCARD, self._named(section), Type.DISCARDED)

    def fetch(self, section: Section, token: int, offset: int) -> bytes:
        """See `Peer`."""
        body = messages.fetch_body(self._parcel(section), token, offset)
        return self._ask(Type.FETCH, body, Type.FETCHED)

    def work(self, request: bytes) -> bytes:
        """Have a piece of work done there, with a workload, and wait for its end.

        Raises:
            RefusedError: that agent does no work, or the work did not come to an end.
        """
        return self._ask(Type.WORK, request, Type.WORKED)

    def close(self) -> None:
        """Again is fine."""
        self._link.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _named(self, section: Section) -> bytes:
        return messages.parcel_body(self._parcel(section))

    def _parcel(self, section: Section) -> Parcel:
        about = self._about
        return Parcel(about.transaction, section, about.workload, about.ahead)

    def _send_recipe(self, digests: Sequence[bytes]) -> None:
        for part in _parts(digests):
            self._link.send(Type.RECIPE, b"".join(part))

    def _ask(self, question: Type, body: bytes, wanted: Type) -> bytes:
        left = self._remaining()
        if left <= 0:
            raise DeadlineError("out of time while the agent was asked", where=self._link.where)
        self._link.send(question, body)
        kind, answer = self._link.receive(left)
        if kind is Type.ERROR:
            messages.raise_error(answer, self._link.where)
        if kind is not wanted:
            raise ProtocolError(
                f"{question.name} was answered by {kind.name}", where=self._link.where
            )
        return answer


def open_agent(
    address: Address, key: Key, remaining: Callable[[], float], about: About | None = None
) -> AgentClient:
    """Connect, and prove both ends.

    Args:
        about: whose handover alone it is about; None: that of all workloads that travel together,
            in the transaction of the key.

    Raises:
        ConnectionLostError: nobody answers, or hangs up. NotProvenError: somebody else answers.
        SystemCallError, NotSupportedError: this host cannot connect.
    """
    seconds = max(0.01, min(_CONNECT_SECONDS, remaining()))
    stream = transport.connect(address, seconds)
    return over(stream, key, str(address), remaining, about)


def over(
    stream: Stream,
    key: Key,
    where: str,
    remaining: Callable[[], float],
    about: About | None = None,
) -> AgentClient:
    """The same over a stream that is connected; it is closed if that fails."""
    seconds = max(0.01, min(_CONNECT_SECONDS, remaining()))
    try:
        link = connect(stream, key, where, seconds=seconds, frame_seconds=_FRAME_SECONDS)
    except BaseException:
        stream.close()
        raise
    return AgentClient(link, remaining, about or About(key.transaction, None))


def opener(address: Address, key: Key) -> OpenPeer:
    """For `StreamChannel`."""

    @contextmanager
    def open_peer(control: Control) -> Iterator[Peer]:
        with open_agent(address, key, control.remaining) as client:
            yield client

    return open_peer


def _parts(digests: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    for at in range(0, len(digests), DIGESTS):
        yield digests[at : at + DIGESTS]
