"""What the agent takes, on disk:

    DIR/handover/<transaction>/<section>.blocks       until it is complete
    DIR/handover/<transaction>/<section>.incoming/    payloads that are whole
    DIR/handover/<transaction>/<section>/             complete: as the disk channel writes it

and the same in DIR/handover/<transaction>/of/<workload>/ where one workload travels alone. One
connection at a time has a handover; a newer one that proved the same key takes it over, since a
connection that was cut may look alive for a while.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

from orchestrator.agent.errors import RefusedError
from orchestrator.agent.pool import Pool
from orchestrator.agent.wire import PIECE
from orchestrator.handover.disk import DiskChannel
from orchestrator.handover.frame import SIZE, FrameKind, Header
from orchestrator.handover.manifest import MAX_WORKLOADS, Manifest
from orchestrator.handover.parcel import Parcel
from orchestrator.model.errors import ErrorClass, HandoverError
from orchestrator.model.steps import Inspected
from orchestrator.system import files

Layout = dict[int, bytes]
"""Offset in a payload's body -> digest of the block there."""


@dataclass
class _Arriving:
    """A handover that a connection is sending."""

    owner: object
    parcel: Parcel
    pool: Pool
    taken: set[int] = field(default_factory=set)


class Store:
    """State as it arrives, and as it is fetched.

    Args:
        directory: a state directory; it is made, 0700.
        transaction: of the key, and of the handovers that name none.
        most_bytes: that the blocks of one handover may have.

    Raises:
        MkupgradeError: the directory is open to others, or cannot be made.
    """

    def __init__(self, directory: Path, transaction: str, most_bytes: int) -> None:
        files.make_private_directory(directory)
        self.directory = directory
        self.transaction = transaction
        self._most = most_bytes
        self._lock = Lock()
        self._arriving: dict[Parcel, _Arriving] = {}
        self._drafts: dict[tuple[Parcel, int], Layout] = {}
        """Handover and token -> what is in the payload's file, be it complete or not."""

    def begin(self, owner: object, parcel: Parcel) -> None:
        """Take this handover from `owner` alone; what was complete of it is dropped.

        Raises:
            HandoverError: the disk does not let us.
        """
        with self._lock:
            self._release(owner)
            self._close(parcel)
            incoming, place = self._channels(parcel)
            incoming.begin()
            place.discard()
            pool = Pool(self._blocks(parcel), self._most)
            self._arriving[parcel] = _Arriving(owner, parcel, pool)

    def lacking(self, owner: object, digests: Sequence[bytes]) -> list[bool]:
        """For each: is it not here?"""
        with self._lock:
            pool = self._mine(owner).pool
            return [digest not in pool for digest in digests]

    def add(self, owner: object, digest: bytes, data: bytes) -> None:
        """A block. Raises: HandoverError."""
        with self._lock:
            self._mine(owner).pool.add(digest, data)

    def flush(self, owner: object) -> int:
        """Make blocks durable; how many there are. Raises: HandoverError."""
        with self._lock:
            pool = self._mine(owner).pool
            pool.flush()
            return len(pool)

    def draft(self, owner: object, header: bytes, digests: Sequence[bytes]) -> None:
        """Write a payload as it is likely to be: `payload` writes what differs from it.

        Raises:
            HandoverError: there is no room.
        """
        with self._lock:
            mine = self._mine(owner)
            pool, parcel = mine.pool, mine.parcel
            wanted = self._wanted(pool, header, digests)
            layout, old = _layout(pool, digests), self._drafts.pop((parcel, wanted.token), {})
            incoming, _ = self._channels(parcel)
            pieces = self._pieces(pool, wanted, layout, old)
            incoming.draft(wanted.token, wanted.length, pieces)
            self._drafts[parcel, wanted.token] = layout

    def payload(self, owner: object, header: bytes, digests: Sequence[bytes]) -> None:
        """Put a payload together of blocks that are here, hold it to its header and make it
        durable.

        Raises:
            HandoverError: nothing of it was taken.
        """
        with self._lock:
            mine = self._mine(owner)
            pool, parcel = mine.pool, mine.parcel
            wanted = self._wanted(pool, header, digests)
            layout, old = _layout(pool, digests), self._drafts.pop((parcel, wanted.token), {})
            incoming, _ = self._channels(parcel)
            try:
                incoming.put(wanted, self._pieces(pool, wanted, layout, old))
            except HandoverError:
                if not old:
                    raise
                # Somebody else changed the draft: once more, from the blocks alone.
                incoming.put(wanted, self._pieces(pool, wanted, layout, {}))
            self._drafts[parcel, wanted.token] = layout
            mine.taken.add(wanted.token)

    def finish(self, owner: object, frame: bytes) -> Manifest:
        """Complete it: payloads and manifest go where the disk channel reads them.

        Raises:
            HandoverError: the manifest is not of this transaction and section, or names a payload
                that did not come by this connection; nothing is there.
        """
        with self._lock:
            mine = self._mine(owner)
            parcel = mine.parcel
            manifest = Manifest.decode(frame, "manifest")
            for workload in manifest.workloads:
                if workload.payload is not None and workload.payload.token not in mine.taken:
                    raise RefusedError(f"the payload of {workload.name} did not come")
            incoming, place = self._channels(parcel)
            incoming.complete(manifest, place)
            self._forget_drafts(parcel)
            self._close(parcel)
            self._unlink_blocks(parcel)
            return manifest

    def fetch(self, parcel: Parcel, token: int, offset: int) -> bytes:
        """A piece of a complete handover's frame: 0 the manifest's, else a payload's. Empty: the
        frame has ended.

        Raises:
            HandoverError: it is not complete, or has no such payload.
        """
        place = self._channels(parcel)[1]
        if token:
            return place.piece(token, offset, PIECE)
        manifest = place.manifest()
        if manifest is None:
            raise RefusedError(f"there is no state of {parcel.text()} here")
        return manifest.encode()[offset : offset + PIECE]

    def inspect(self, parcel: Parcel) -> tuple[Inspected, Manifest | None]:
        """What is complete there, digests read again, and its manifest."""
        with self._lock:
            place = self._channels(parcel)[1]
            found = place.inspect_sent()
            with suppress(HandoverError):
                return found, place.manifest()
            return found, None

    def discard(self, parcel: Parcel) -> None:
        """Nothing of it is left; again is fine. Raises: HandoverError."""
        with self._lock:
            self._close(parcel)
            self._unlink_blocks(parcel)
            self._forget_drafts(parcel)
            for channel in self._channels(parcel):
                channel.discard()
            # Empty directories are left where only blocks were in them.
            above = self._blocks(parcel).parent
            with suppress(OSError):
                while above != self.directory:
                    above.rmdir()
                    above = above.parent

    def release(self, owner: object) -> None:
        """Its connection has ended. Blocks stay, for the next one."""
        with self._lock:
            self._release(owner)

    def close(self) -> None:
        """Again is fine."""
        with self._lock:
            for parcel in list(self._arriving):
                self._close(parcel)

    def _mine(self, owner: object) -> _Arriving:
        for arriving in self._arriving.values():
            if arriving.owner is owner:
                return arriving
        raise RefusedError(
            "another connection took over, or this one has not begun",
            error_class=ErrorClass.BUSY,
        )

    @staticmethod
    def _wanted(pool: Pool, header: bytes, digests: Sequence[bytes]) -> Header:
        wanted = Header.parse(header, "payload")
        if wanted.kind is not FrameKind.DIRECTORY or not 0 < wanted.token <= MAX_WORKLOADS:
            raise RefusedError(f"payload of kind {wanted.kind}, token {wanted.token}")
        if wanted.length != sum(pool.length(digest) for digest in digests):
            raise RefusedError(
                f"payload {wanted.token} of {wanted.length} bytes, and its blocks have not as many",
                state="nothing of it was taken",
            )
        return wanted

    def _pieces(
        self, pool: Pool, wanted: Header, layout: Layout, draft: Layout
    ) -> Iterator[tuple[int, bytes]]:
        """What differs from the draft; without one, everything."""
        if not draft:
            files.require_free(self.directory, wanted.length + SIZE)
        return (
            (offset, pool.read(digest))
            for offset, digest in layout.items()
            if draft.get(offset) != digest
        )

    def _forget_drafts(self, parcel: Parcel) -> None:
        for key in [key for key in self._drafts if key[0] == parcel]:
            del self._drafts[key]

    def _release(self, owner: object) -> None:
        for parcel in [p for p, it in self._arriving.items() if it.owner is owner]:
            self._close(parcel)

    def _close(self, parcel: Parcel) -> None:
        arriving = self._arriving.pop(parcel, None)
        if arriving is not None:
            arriving.pool.close()

    def _channels(self, parcel: Parcel) -> tuple[DiskChannel, DiskChannel]:
        """Where it comes in, and its place when it is complete."""
        return parcel.channel(self.directory, "incoming"), parcel.channel(self.directory)

    def _blocks(self, parcel: Parcel) -> Path:
        place = parcel.channel(self.directory).dir
        return place.with_name(f"{place.name}.blocks")

    def _unlink_blocks(self, parcel: Parcel) -> None:
        try:
            self._blocks(parcel).unlink(missing_ok=True)
        except OSError as error:
            raise HandoverError(
                f"blocks cannot be removed: {error.strerror}",
                where=str(self._blocks(parcel)),
                error_class=ErrorClass.IO,
            ) from error


def _layout(pool: Pool, digests: Sequence[bytes]) -> Layout:
    found, offset = {}, 0
    for digest in digests:
        found[offset] = digest
        offset += pool.length(digest)
    return found
