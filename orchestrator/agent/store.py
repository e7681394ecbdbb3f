"""What the agent takes, on disk:

    DIR/handover/<transaction>/<section>.blocks       until it is complete
    DIR/handover/<transaction>/<section>.incoming/    payloads that are whole
    DIR/handover/<transaction>/<section>/             complete: as the disk channel writes it

One connection at a time has it; a newer one that proved the same key takes it over, since a
connection that was cut may look alive for a while.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock

from orchestrator.agent.errors import RefusedError
from orchestrator.agent.pool import Pool
from orchestrator.handover.disk import DiskChannel
from orchestrator.handover.frame import SIZE, FrameKind, Header
from orchestrator.handover.manifest import MAX_WORKLOADS, Manifest
from orchestrator.model.errors import ErrorClass, HandoverError
from orchestrator.model.steps import Inspected, Section
from orchestrator.system import files

Layout = dict[int, bytes]
"""Offset in a payload's body -> digest of the block there."""


class Store:
    """State of one transaction, as it arrives.

    Args:
        directory: a state directory; it is made, 0700.
        most_bytes: that the blocks of one section may have.

    Raises:
        MkupgradeError: the directory is open to others, or cannot be made.
    """

    def __init__(self, directory: Path, transaction: str, most_bytes: int) -> None:
        files.make_private_directory(directory)
        self.directory = directory
        self.transaction = transaction
        self._most = most_bytes
        self._lock = Lock()
        self._owner: object | None = None
        self._section: Section | None = None
        self._pool: Pool | None = None
        self._taken: set[int] = set()
        self._drafts: dict[tuple[Section, int], Layout] = {}
        """Section and token -> what is in the payload's file, be it complete or not."""

    def begin(self, owner: object, section: Section) -> None:
        """Take state of this section from `owner` alone; what was complete of it is dropped.

        Raises:
            HandoverError: the disk does not let us.
        """
        with self._lock:
            self._close()
            incoming, place = self._channels(section)
            incoming.begin()
            place.discard()
            self._pool = Pool(self._blocks(section), self._most)
            self._owner, self._section, self._taken = owner, section, set()

    def lacking(self, owner: object, digests: Sequence[bytes]) -> list[bool]:
        """For each: is it not here?"""
        with self._lock:
            pool, _ = self._mine(owner)
            return [digest not in pool for digest in digests]

    def add(self, owner: object, digest: bytes, data: bytes) -> None:
        """A block. Raises: HandoverError."""
        with self._lock:
            self._mine(owner)[0].add(digest, data)

    def flush(self, owner: object) -> int:
        """Make blocks durable; how many there are. Raises: HandoverError."""
        with self._lock:
            pool, _ = self._mine(owner)
            pool.flush()
            return len(pool)

    def draft(self, owner: object, header: bytes, digests: Sequence[bytes]) -> None:
        """Write a payload as it is likely to be: `payload` writes what differs from it.

        Raises:
            HandoverError: there is no room.
        """
        with self._lock:
            pool, section = self._mine(owner)
            wanted = self._wanted(pool, header, digests)
            layout, old = _layout(pool, digests), self._drafts.pop((section, wanted.token), {})
            incoming, _ = self._channels(section)
            pieces = self._pieces(pool, wanted, layout, old)
            incoming.draft(wanted.token, wanted.length, pieces)
            self._drafts[section, wanted.token] = layout

    def payload(self, owner: object, header: bytes, digests: Sequence[bytes]) -> None:
        """Put a payload together of blocks that are here, hold it to its header and make it
        durable.

        Raises:
            HandoverError: nothing of it was taken.
        """
        with self._lock:
            pool, section = self._mine(owner)
            wanted = self._wanted(pool, header, digests)
            layout, old = _layout(pool, digests), self._drafts.pop((section, wanted.token), {})
            incoming, _ = self._channels(section)
            try:
                incoming.put(wanted, self._pieces(pool, wanted, layout, old))
            except HandoverError:
                if not old:
                    raise
                # Somebody else changed the draft: once more, from the blocks alone.
                incoming.put(wanted, self._pieces(pool, wanted, layout, {}))
            self._drafts[section, wanted.token] = layout
            self._taken.add(wanted.token)

    def finish(self, owner: object, frame: bytes) -> Manifest:
        """Complete it: payloads and manifest go where the disk channel reads them.

        Raises:
            HandoverError: the manifest is not of this transaction and section, or names a payload
                that did not come by this connection; nothing is there.
        """
        with self._lock:
            _, section = self._mine(owner)
            manifest = Manifest.decode(frame, "manifest")
            for workload in manifest.workloads:
                if workload.payload is not None and workload.payload.token not in self._taken:
                    raise RefusedError(f"the payload of {workload.name} did not come")
            incoming, place = self._channels(section)
            incoming.complete(manifest, place)
            self._forget_drafts(section)
            self._close()
            self._unlink_blocks(section)
            return manifest

    def inspect(self, section: Section) -> tuple[Inspected, Manifest | None]:
        """What is complete there, digests read again, and its manifest."""
        with self._lock:
            place = self._channels(section)[1]
            found = place.inspect_sent()
            with suppress(HandoverError):
                return found, place.manifest()
            return found, None

    def discard(self, section: Section) -> None:
        """Nothing of it is left; again is fine. Raises: HandoverError."""
        with self._lock:
            if self._section is section:
                self._close()
            self._unlink_blocks(section)
            self._forget_drafts(section)
            for channel in self._channels(section):
                channel.discard()
            # An empty directory of the transaction is left where only blocks were in it.
            above = self.directory / "handover" / self.transaction
            with suppress(OSError):
                above.rmdir()
                above.parent.rmdir()

    def release(self, owner: object) -> None:
        """Its connection has ended. Blocks stay, for the next one."""
        with self._lock:
            if self._owner is owner:
                self._close()

    def close(self) -> None:
        """Again is fine."""
        with self._lock:
            self._close()

    def _mine(self, owner: object) -> tuple[Pool, Section]:
        if self._owner is not owner or self._pool is None or self._section is None:
            raise RefusedError(
                "another connection took over, or this one has not begun",
                error_class=ErrorClass.BUSY,
            )
        return self._pool, self._section

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

    def _forget_drafts(self, section: Section) -> None:
        for key in [key for key in self._drafts if key[0] is section]:
            del self._drafts[key]

    def _close(self) -> None:
        if self._pool is not None:
            self._pool.close()
        self._owner = self._section = self._pool = None

    def _channels(self, section: Section) -> tuple[DiskChannel, DiskChannel]:
        """Where it comes in, and its place when it is complete."""
        return (
            DiskChannel(self.directory, self.transaction, section, "incoming"),
            DiskChannel(self.directory, self.transaction, section),
        )

    def _blocks(self, section: Section) -> Path:
        return self.directory / "handover" / self.transaction / f"{section.value}.blocks"

    def _unlink_blocks(self, section: Section) -> None:
        try:
            self._blocks(section).unlink(missing_ok=True)
        except OSError as error:
            raise HandoverError(
                f"blocks cannot be removed: {error.strerror}",
                where=str(self._blocks(section)),
                error_class=ErrorClass.IO,
            ) from error


def _layout(pool: Pool, digests: Sequence[bytes]) -> Layout:
    found, offset = {}, 0
    for digest in digests:
        found[offset] = digest
        offset += pool.length(digest)
    return found
