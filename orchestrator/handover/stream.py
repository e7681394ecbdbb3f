"""The channel to another kernel that runs: blocks over a connection, to the agent there.

The source sends (`precopy`, `send`); the agent lays the very frames of the disk channel into the
target's state directory, and there `receive` finds them. A host between two such kernels fetches
what the one has on disk (`fetch`) and passes it on to the other (`pass_on`), frames and manifest
byte by byte as they are. What the agent has is asked for before
anything is sent, so that a second look at the same directories sends what has changed, and a
connection that was cut goes on where it was. The manifest is last, and before it nothing is
believed: until then the target has blocks, and the source has everything.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, TypeVar

from orchestrator.handover.blocks import BLOCK, DIGEST, cut
from orchestrator.handover.channels import Head, Item, NothingSentError, Received
from orchestrator.handover.disk import DiskChannel
from orchestrator.handover.frame import SIZE, Header
from orchestrator.handover.manifest import MAX_BYTES, Manifest
from orchestrator.handover.payload import Tick
from orchestrator.handover.transfer import (
    build_manifest,
    check_belongs,
    header_of,
    packed_size,
    ticker,
    with_payload,
)
from orchestrator.model.errors import (
    DeadlineError,
    ErrorClass,
    HandoverError,
    MkupgradeError,
    NotSupportedError,
)
from orchestrator.model.seams import Control
from orchestrator.model.steps import Inspected, Inspection, Section
from orchestrator.system import files
from orchestrator.system.limited import Limited

__all__ = ["BLOCK", "DIGEST", "ConnectionLostError", "OpenPeer", "Peer", "StreamChannel", "Traffic"]

_WINDOW = 4 << 20
"""Bytes of blocks that are held in memory while the agent is asked which of them it has."""
_WINDOW_BLOCKS = 1024
_DURABLE = 64 << 20
"""Bytes sent until they are made durable there: what a power cut of the target may cost."""
_TRIES = 4
_PAUSE = 0.2
_ROUNDS = 3
_LITTLE = 8 << 20
"""A round of pre-copy that sent no more than this is the last."""
_BESIDE = 600.0
"""Seconds for what is asked beside a step; the agent may read everything again for it."""

T = TypeVar("T")


class ConnectionLostError(HandoverError):
    """The connection ended or nobody answers. What was acknowledged is there still."""

    code = "connection-lost"
    error_class = ErrorClass.IO


class Peer(Protocol):
    """The agent at the other end (`orchestrator.agent.client.AgentClient`).

    Every call may raise `ConnectionLostError`, after which this peer is of no use any more, and
    other `MkupgradeError`s: what the agent says, or that time is over.
    """

    def begin(self, section: Section) -> None:
        """From now on it takes state of this section; what it had of it, whole, is dropped, and
        blocks stay."""
        ...

    def lacking(self, digests: Sequence[bytes]) -> list[bool]:
        """For each: must it be sent?"""
        ...

    def put(self, digest: bytes, data: bytes) -> None:
        """Send a block. It is acknowledged by the next `flush`."""
        ...

    def flush(self) -> None:
        """All blocks that were put are durable there."""
        ...

    def draft(self, header: Header, digests: Sequence[bytes]) -> None:
        """The payload will be much like this: what is alike need not be written later."""
        ...

    def payload(self, header: Header, digests: Sequence[bytes]) -> None:
        """Blocks that it has make this payload; it is whole, verified and durable there."""
        ...

    def finish(self, manifest: bytes) -> None:
        """The manifest's frame: from now on the handover is complete, durably."""
        ...

    def inspect(self, section: Section) -> tuple[Inspected, bytes]:
        """What is there, digests read again, and the SHA-256 of its manifest's frame (empty:
        none is there)."""
        ...

    def discard(self, section: Section) -> None:
        """Nothing of the section is left there, blocks included."""
        ...

    def fetch(self, section: Section, token: int, offset: int) -> bytes:
        """A piece of a frame of the handover that is complete there, from this byte on: 0 the
        manifest's, else a payload's. Empty: it has ended."""
        ...


OpenPeer = Callable[[Control], AbstractContextManager[Peer]]
"""Connects, and closes the connection at the end of the `with`."""


@dataclass(frozen=True)
class Traffic:
    """Bytes of state, by what became of them."""

    looked_at: int = 0
    sent: int = 0


class StreamChannel:
    """One handover of one section to the agent of another kernel.

    Args:
        state_dir: of the target, for `receive`: where its agent puts what it takes.
        section: in which the state is (or was) taken: FORWARD or RETURN.
        open_peer: for the source; None: this is the target.
        sleep: between two tries to connect again.
    """

    name = "stream"

    def __init__(
        self,
        state_dir: Path,
        transaction: str,
        section: Section,
        open_peer: OpenPeer | None = None,
        *,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.transaction = transaction
        self.section = section
        self.traffic = Traffic()
        """Of all rounds and tries together."""
        self._arrived = DiskChannel(state_dir, transaction, section)
        self._open_peer = open_peer
        self._sleep = sleep

    def precopy(self, items: Sequence[Item], control: Control, rounds: int = _ROUNDS) -> Traffic:
        """Send the blocks of directories that are still written to, so that `send` has to send,
        and the agent to write, what has changed since. Rounds end when one has sent little, or
        half as much as before is out of reach. A directory that cannot be read now is told and
        left to `send`.

        Returns:
            The traffic of the last round.

        Raises:
            MkupgradeError: the agent cannot be reached, or takes nothing; nothing is lost by it.
        """
        last = Traffic()
        for number in range(rounds):
            before = self.traffic
            self._again(lambda peer: self._send_blocks(peer, items, control), control)
            sent = self.traffic.sent - before.sent
            shrinks = not number or sent <= last.sent // 2
            last = Traffic(self.traffic.looked_at - before.looked_at, sent)
            if sent <= _LITTLE or not shrinks:
                break
        return last

    def send(self, head: Head, items: Sequence[Item], control: Control) -> Manifest:
        """See `Channel.send`. A connection that is cut is made again, and goes on with what the
        agent has not acknowledged.

        Raises:
            ConnectionLostError: it could not be made again, or was cut again and again. The source
                has everything, the target blocks that it does not believe to be a handover.
        """
        memory = _Memory()
        try:
            return self._again(
                lambda peer: self._send_all(peer, head, items, control, memory), control
            )
        except (ConnectionLostError, DeadlineError):
            raise
        except MkupgradeError:
            with suppress(MkupgradeError):
                self.discard()
            raise

    def fetch(self, into: DiskChannel, incoming: DiskChannel, control: Control) -> Manifest:
        """Make what is complete at the agent durable here, held to every digest.

        Args:
            into: where it is to be; what is there, and is the same already, is left as it is.
            incoming: where it comes in until it is complete.

        Raises:
            HandoverError: it is not complete there, or came damaged; there is nothing in `into`.
        """
        return self._again(lambda peer: self._fetch(peer, into, incoming, control), control)

    def pass_on(self, place: DiskChannel, control: Control) -> Manifest:
        """Send a handover that is on disk here, as it is; see `send`."""
        manifest = place.manifest()
        if manifest is None:
            raise NothingSentError("no state is on disk here", where=str(place.dir))
        frame = manifest.encode()
        digest = hashlib.sha256(frame).digest()

        def call(peer: Peer) -> Manifest:
            if peer.inspect(self.section)[1] != digest:
                self._pass_all(peer, place, manifest, control)
                peer.finish(frame)
            return manifest

        return self._again(call, control)

    def inspect_sent(self) -> Inspected:
        """See `Channel.inspect_sent`. UNKNOWN: the agent cannot be asked."""
        try:
            with self._peer(Limited(_BESIDE)) as peer:
                return peer.inspect(self.section)[0]
        except MkupgradeError as error:
            return Inspected(
                verdict=Inspection.UNKNOWN, reason=f"the agent cannot be asked: {error}"
            )

    def discard(self) -> None:
        """See `Channel.discard`: there, if this is the source, and here, if it is the target."""
        if self._open_peer is None:
            self._arrived.discard()
            return
        with self._peer(Limited(_BESIDE)) as peer:
            peer.discard(self.section)

    def receive(self, destination: Path, control: Control) -> Received:
        """See `Channel.receive`: from where the agent of this kernel put it. What an earlier call
        unpacked is returned only if it is of the very handover that is there now: a source may
        have sent another one since."""
        if self._is_of_another(destination):
            (destination / "manifest").unlink()
        return self._arrived.receive(destination, control)

    def inspect_received(self, destination: Path) -> Inspected:
        """See `Channel.inspect_received`."""
        try:
            other = self._is_of_another(destination)
        except MkupgradeError as error:
            return Inspected(verdict=Inspection.UNKNOWN, reason=str(error))
        if other:
            reason = f"what is in {destination} is of another handover than has arrived"
            return Inspected(verdict=Inspection.PARTIAL, reason=reason)
        return self._arrived.inspect_received(destination)

    def _is_of_another(self, destination: Path) -> bool:
        arrived, where = self._arrived.manifest(), destination / "manifest"
        if arrived is None or not where.is_file():
            return False
        return files.read_regular(where, SIZE + MAX_BYTES) != arrived.encode()

    def finish(self) -> None:
        """Nothing to do: the source keeps its own until the end of the transaction."""

    def close(self) -> None:
        """Nothing is held open."""

    def _peer(self, control: Control) -> AbstractContextManager[Peer]:
        if self._open_peer is None:
            raise NotSupportedError("this kernel takes state and sends none", where="stream")
        return self._open_peer(control)

    def _again(self, call: Callable[[Peer], T], control: Control) -> T:
        """With a new connection if one is lost, a few times."""
        for number in range(1, _TRIES + 1):
            try:
                with self._peer(control) as peer:
                    return call(peer)
            except ConnectionLostError as error:
                pause = _PAUSE * 2**number
                if number == _TRIES or control.remaining() <= pause or control.stopped():
                    raise
                control.progress(f"Connect to the agent again: {error.what}")
                self._sleep(pause)
        raise AssertionError("unreachable")

    def _send_blocks(self, peer: Peer, items: Sequence[Item], control: Control) -> None:
        peer.begin(self.section)
        for token, name, directory in with_payload(items):
            window = _Window(peer, self._count)
            tick = ticker(control, f"Copy the state of {name} ahead", 0)
            try:
                header = cut(directory, token, window.take, tick, steady=False)
            except HandoverError as error:
                if window.refused:
                    raise
                control.progress(f"{name} is not copied ahead: {error}")
                continue
            window.ask()
            peer.flush()
            peer.draft(header, window.digests)

    def _send_all(
        self,
        peer: Peer,
        head: Head,
        items: Sequence[Item],
        control: Control,
        memory: _Memory,
    ) -> Manifest:
        if memory.manifest is not None and peer.inspect(self.section)[1] == memory.digest:
            return memory.manifest  # the answer to `finish` was what was lost
        peer.begin(self.section)
        headers = {}
        for token, name, directory in with_payload(items):
            window = _Window(peer, self._count)
            tick = ticker(control, f"Send the state of {name}", packed_size(directory))
            headers[name] = cut(directory, token, window.take, tick)
            window.ask()
            peer.flush()
            peer.payload(headers[name], window.digests)
        manifest = memory.manifest_for(headers)
        if manifest is None:
            manifest = build_manifest(head, items, headers)
            check_belongs(manifest, self.transaction, self.section)
            memory.keep(manifest, headers)
        peer.finish(manifest.encode())
        return manifest

    def _fetch(
        self, peer: Peer, into: DiskChannel, incoming: DiskChannel, control: Control
    ) -> Manifest:
        frame = b"".join(_pieces(peer, self.section, 0, SIZE + MAX_BYTES))
        manifest = Manifest.decode(frame, "manifest")
        check_belongs(manifest, self.transaction, self.section)
        there = into.inspect_sent()
        if there.verdict is Inspection.PRESENT and into.manifest() == manifest:
            return manifest
        incoming.begin()
        for workload in manifest.workloads:
            if workload.payload is None:
                continue
            header = header_of(workload.payload)
            files.require_free(incoming.dir, header.length + SIZE)
            tick = ticker(control, f"Fetch the state of {workload.name}", header.length)
            incoming.put(header, _body(peer, self.section, header, tick))
        incoming.complete(manifest, into)
        return manifest

    def _pass_all(
        self, peer: Peer, place: DiskChannel, manifest: Manifest, control: Control
    ) -> None:
        peer.begin(self.section)
        for workload in manifest.workloads:
            if workload.payload is None:
                continue
            header = header_of(workload.payload)
            window = _Window(peer, self._count)
            tick = ticker(control, f"Send the state of {workload.name}", header.length)
            for offset in range(0, header.length, BLOCK):
                piece = place.piece(header.token, SIZE + offset, BLOCK)
                window.take(hashlib.sha256(piece).digest(), piece)
                tick(offset)
            window.ask()
            peer.flush()
            peer.payload(header, window.digests)

    def _count(self, looked_at: int, sent: int) -> None:
        now = self.traffic
        self.traffic = replace(now, looked_at=now.looked_at + looked_at, sent=now.sent + sent)


def _pieces(peer: Peer, section: Section, token: int, most: int) -> Iterator[bytes]:
    """A frame, piece by piece, to its end.

    Raises:
        HandoverError: it does not end.
    """
    offset = 0
    while piece := peer.fetch(section, token, offset):
        offset += len(piece)
        if offset > most:
            raise HandoverError(f"frame {token} does not end", where="stream")
        yield piece


def _body(peer: Peer, section: Section, header: Header, tick: Tick) -> Iterator[tuple[int, bytes]]:
    """(offset, content) of a payload's body. Its header is made anew, and what the agent has in
    the place of it is passed over."""
    offset = -SIZE
    for piece in _pieces(peer, section, header.token, header.length + SIZE):
        if offset + len(piece) > 0:
            yield max(0, offset), piece[max(0, -offset) :]
        offset += len(piece)
        tick(max(0, offset))


class _Window:
    """Asks which of some blocks the agent has, and sends the others."""

    def __init__(self, peer: Peer, count: Callable[[int, int], None]) -> None:
        self._peer = peer
        self._count = count
        self._waiting: dict[bytes, bytes] = {}
        self._bytes = 0
        self._fleeting = 0
        """Bytes that were sent and are not acknowledged yet."""
        self.digests: list[bytes] = []
        """Of everything that was taken, in order."""
        self.refused = False
        """It was the agent, or the way to it, that failed."""

    def take(self, digest: bytes, data: bytes) -> None:
        self.digests.append(digest)
        self._waiting[digest] = data
        self._bytes += len(data)
        if self._bytes >= _WINDOW or len(self._waiting) >= _WINDOW_BLOCKS:
            self.ask()

    def ask(self) -> None:
        """About those that wait."""
        waiting, looked_at = self._waiting, self._bytes
        self._waiting, self._bytes = {}, 0
        try:
            sent = self._send(waiting) if waiting else 0
        except MkupgradeError:
            self.refused = True
            raise
        self._count(looked_at, sent)

    def _send(self, blocks: dict[bytes, bytes]) -> int:
        sent = 0
        lacking = self._peer.lacking(list(blocks))
        for (digest, data), wanted in zip(blocks.items(), lacking, strict=True):
            if wanted:
                self._peer.put(digest, data)
                sent += len(data)
        self._fleeting += sent
        if self._fleeting >= _DURABLE:
            self._peer.flush()
            self._fleeting = 0
        return sent


class _Memory:
    """The manifest of one `send`, over all its connections."""

    def __init__(self) -> None:
        self.manifest: Manifest | None = None
        self.digest = b""
        """SHA-256 of its frame."""
        self._headers: dict[str, Header] = {}

    def keep(self, manifest: Manifest, headers: dict[str, Header]) -> None:
        self.manifest, self._headers = manifest, headers
        self.digest = hashlib.sha256(manifest.encode()).digest()

    def manifest_for(self, headers: dict[str, Header]) -> Manifest | None:
        """The one that was made for the very same payloads."""
        return self.manifest if headers == self._headers else None
