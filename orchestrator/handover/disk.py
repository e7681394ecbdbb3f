"""The channel through the state directory: the same frames, as files.

    STATE_DIR/handover/<transaction>/<section>/payload-000001     0600 in 0700
    STATE_DIR/handover/<transaction>/<section>/manifest           written last, by rename

Every file is synced before the manifest is: a manifest that is there names nothing that is not.
The handover of one workload alone, between two kernels that run, lies one level deeper, in
`<transaction>/of/<workload>/<section>`: several are under way at once; what was copied ahead of it
lies in `<section>.ahead`. `<section>.received` holds what came through memory and was not on disk
yet, `<section>.incoming` what comes over a stream, until it is complete.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Literal

from orchestrator.handover.channels import Head, Item, NothingSentError, Received
from orchestrator.handover.frame import SIZE, Header
from orchestrator.handover.manifest import MAX_BYTES, Manifest, Payload
from orchestrator.handover.payload import check_header, verify_payload, write_payload
from orchestrator.handover.transfer import (
    build_manifest,
    check_belongs,
    header_of,
    inspect_unpacked,
    packed_size,
    ticker,
    unpack,
    verify_each,
    with_payload,
)
from orchestrator.model.errors import ErrorClass, HandoverError, MkupgradeError
from orchestrator.model.kinds import ChannelName
from orchestrator.model.seams import Control
from orchestrator.model.steps import Inspected, Inspection, Section
from orchestrator.system import files

_COPY = 1 << 20

Part = Literal["sent", "received", "incoming"]


class DiskChannel:
    """One handover on disk."""

    name: ChannelName = "disk"

    def __init__(
        self,
        state_dir: Path,
        transaction: str,
        section: Section,
        part: Part = "sent",
        workload: str | None = None,
        *,
        ahead: bool = False,
    ) -> None:
        """
        Args:
            section: in which the state is (or was) taken: FORWARD or RETURN.
            part: "received": the durable copy of what came through KHO; "incoming": what comes over
                a stream.
            workload: whose handover alone this is; None: it is of all that travel together.
            ahead: it is what was copied ahead of that.
        """
        self.transaction = transaction
        self.section = section
        root = state_dir / "handover" / transaction
        own = () if workload is None else (root / "of", root / "of" / workload)
        self._above: tuple[Path, ...] = (state_dir, root.parent, root, *own)
        suffix = (".ahead" if ahead else "") + ("" if part == "sent" else f".{part}")
        self.dir = self._above[-1] / f"{section.value}{suffix}"

    def send(self, head: Head, items: Sequence[Item], control: Control) -> Manifest:
        """See `Channel.send`.

        Raises:
            HandoverError: class IO when the disk is full; nothing is left behind.
        """
        needed = sum(packed_size(directory) for _, _, directory in with_payload(items))
        self._fresh(needed + MAX_BYTES)
        try:
            headers = {
                name: self._pack(name, directory, token, control)
                for token, name, directory in with_payload(items)
            }
            manifest = build_manifest(head, items, headers)
            check_belongs(manifest, self.transaction, self.section)
            self._complete(manifest)
        except BaseException:
            self.discard()
            raise
        return manifest

    def copy_in(self, manifest: Manifest, frames: dict[int, int], control: Control) -> None:
        """Keep frames that came through another channel, as they are, durably.

        Args:
            frames: token -> descriptor of the frame, verified before; a payload that is
                not among them is left out, and is damaged for whoever receives the copy.
        """
        carried = [w.payload for w in manifest.workloads if w.payload]
        payloads = [p for p in carried if p.token in frames]
        self._fresh(sum(p.length + SIZE for p in payloads) + MAX_BYTES)
        try:
            for payload in payloads:
                self._copy(frames[payload.token], payload, control)
            self._complete(manifest)
        except BaseException:
            self.discard()
            raise

    def begin(self) -> None:
        """Make the directory for `put` and `complete`; what is in it stays, but for a manifest."""
        for above in (*self._above, self.dir):
            files.make_private_directory(above)
        (self.dir / "manifest").unlink(missing_ok=True)

    def draft(self, token: int, length: int, pieces: Iterable[tuple[int, bytes]]) -> None:
        """Write what a payload's body is likely to be, durably; nobody believes it before `put`.

        Args:
            length: of the body. What no piece covers stays as it is.
            pieces: (offset in the body, content).

        Raises:
            HandoverError: there is no room.
        """
        with self._changed(token) as fd:
            _write_pieces(fd, length, pieces)

    def put(self, header: Header, pieces: Iterable[tuple[int, bytes]]) -> None:
        """Make what is there, with some pieces written over it, the frame of this payload: it is
        read again as a whole, and durable.

        Raises:
            HandoverError: it is not what its header says, or there is no room; nothing of it is
                left.
        """
        path = self._path(header.token)
        try:
            with self._changed(header.token) as fd:
                _write_pieces(fd, header.length, pieces)
                os.pwrite(fd, header.pack(), 0)
                verify_payload(fd, header, str(path))
        except BaseException:
            path.unlink(missing_ok=True)
            raise

    def complete(self, manifest: Manifest, place: DiskChannel) -> None:
        """Add the manifest to what `put` wrote, and let it take another's place, in this order:
        until the last step there is nothing at that place.

        Raises:
            HandoverError: a payload of the manifest is not here.
        """
        check_belongs(manifest, self.transaction, self.section)
        tokens = set()
        for payload in [w.payload for w in manifest.workloads if w.payload]:
            self._look_at(payload)
            tokens.add(self._path(payload.token).name)
        for path in self.dir.iterdir():
            if path.name not in tokens:
                path.unlink()
        self._complete(manifest)
        place.discard()
        self.dir.rename(place.dir)
        files.sync_directory(place.dir.parent)

    def manifest(self) -> Manifest | None:
        """The manifest on disk; None: there is none, so nothing here is complete.

        Raises:
            HandoverError: it is damaged, or of another transaction.
        """
        path = self.dir / "manifest"
        if not path.exists() and not path.is_symlink():
            return None
        files.require_private_directory(self.dir)
        manifest = Manifest.decode(files.read_regular(path, SIZE + MAX_BYTES), str(path))
        check_belongs(manifest, self.transaction, self.section)
        return manifest

    def piece(self, token: int, offset: int, size: int) -> bytes:
        """Of a payload's frame, as it is on disk; empty: it has ended.

        Raises:
            SystemCallError: it is not there.
        """
        with files.open_regular(self._path(token)) as file:
            return os.pread(file.fileno(), size, offset)

    def holds(self, manifest: Manifest) -> bool:
        """Are all payloads of `manifest` here already, with the same digests? Their content is
        not read again (that would be blackout): they were synced before the manifest was."""
        try:
            mine = self.manifest()
            if mine is None:
                return False
            here = {w.payload.sha256: w.payload for w in mine.workloads if w.payload}
            for workload in manifest.workloads:
                if workload.payload is None:
                    continue
                if workload.payload.sha256 not in here:
                    return False
                self._look_at(here[workload.payload.sha256])
        except MkupgradeError:
            return False
        return True

    def inspect_sent(self) -> Inspected:
        """See `Channel.inspect_sent`. Digests are read again."""
        try:
            manifest = self.manifest()
            if manifest is None:
                left = self.dir.exists()
                verdict = Inspection.PARTIAL if left else Inspection.ABSENT
                return Inspected(verdict=verdict, reason=f"no manifest in {self.dir}")
            for workload in manifest.workloads:
                if workload.payload:
                    self._verify(workload.payload)
        except MkupgradeError as error:
            return Inspected(verdict=Inspection.PARTIAL, reason=str(error))
        return Inspected(
            verdict=Inspection.PRESENT,
            reason=f"manifest and payloads in {self.dir}, digests fit",
            result={"manifest": manifest.model_dump(mode="json")},
        )

    def discard(self) -> None:
        """See `Channel.discard`."""
        if not self.dir.is_dir() or self.dir.is_symlink():
            return
        try:
            (self.dir / "manifest").unlink(missing_ok=True)
            files.sync_directory(self.dir)
            shutil.rmtree(self.dir)
            files.sync_directory(self.dir.parent)
            for above in reversed(self._above[1:]):
                if any(above.iterdir()):
                    break
                above.rmdir()
        except OSError as error:
            raise HandoverError(
                f"spilled state cannot be removed: {error.strerror}",
                where=str(error.filename or self.dir),
                error_class=ErrorClass.IO,
            ) from error

    def receive(self, destination: Path, control: Control) -> Received:
        """See `Channel.receive`.

        Raises:
            NothingSentError: there is none. HandoverError: it is damaged; nothing was unpacked.
        """
        _, ready = inspect_unpacked(destination, self.transaction, self.section)
        if ready:
            return ready
        manifest = self.manifest()
        if manifest is None:
            raise NothingSentError("no state of this transaction is on disk", where=str(self.dir))
        damaged = verify_each(manifest, lambda _, payload: self._verify(payload, control))
        return unpack(manifest, self._opened, destination, control, damaged)

    def inspect_received(self, destination: Path) -> Inspected:
        """See `Channel.inspect_received`."""
        return inspect_unpacked(destination, self.transaction, self.section)[0]

    def finish(self) -> None:
        """Nothing to do: what is on disk stays, as the way back, until `discard`."""

    def close(self) -> None:
        """Nothing is held open."""

    def _fresh(self, needed: int) -> None:
        for above in self._above:
            files.make_private_directory(above)
        self.discard()
        for above in (*self._above, self.dir):
            files.make_private_directory(above)
        files.require_free(self.dir, needed)

    def _path(self, token: int) -> Path:
        return self.dir / f"payload-{token:06d}"

    def _pack(self, name: str, directory: Path, token: int, control: Control) -> Header:
        tick = ticker(control, f"Write the state of {name} to disk", packed_size(directory))
        with self._written(token) as fd:
            return write_payload(directory, fd, token, tick)

    def _copy(self, source: int, payload: Payload, control: Control) -> None:
        total = payload.length + SIZE
        tick = ticker(control, f"Make payload {payload.token} durable", total)
        with self._written(payload.token) as fd:
            done = 0
            while done < total:
                data = os.pread(source, min(_COPY, total - done), done)
                if not data:
                    raise HandoverError("the payload ends too early", where=str(payload.token))
                done += os.write(fd, data)
                tick(done)

    def _written(self, token: int) -> AbstractContextManager[int]:
        """A new file."""
        return self._opened_for_writing(token, os.O_EXCL)

    def _changed(self, token: int) -> AbstractContextManager[int]:
        """A new file, or the one that is there."""
        return self._opened_for_writing(token, 0)

    @contextmanager
    def _opened_for_writing(self, token: int, how: int) -> Iterator[int]:
        path = self._path(token)
        flags = os.O_RDWR | os.O_CREAT | how | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            fd = os.open(path, flags, 0o600)
            try:
                yield fd
                os.fsync(fd)
            finally:
                os.close(fd)
        except OSError as error:
            raise HandoverError(
                f"state cannot be written: {error.strerror}",
                where=str(path),
                error_class=ErrorClass.IO,
                next_command=f"df -h {self.dir}",
            ) from error

    def _complete(self, manifest: Manifest) -> None:
        files.sync_directory(self.dir)
        files.write_durably(self.dir / "manifest", manifest.encode())

    @contextmanager
    def _opened(self, payload: Payload) -> Iterator[int]:
        with files.open_regular(self._path(payload.token)) as file:
            yield file.fileno()

    def _look_at(self, payload: Payload) -> None:
        path = self._path(payload.token)
        with self._opened(payload) as fd:
            check_header(fd, header_of(payload), str(path))

    def _verify(self, payload: Payload, control: Control | None = None) -> None:
        path = self._path(payload.token)
        with self._opened(payload) as fd:
            if control is None:
                verify_payload(fd, header_of(payload), str(path))
            else:
                tick = ticker(control, f"Verify {path.name}", payload.length)
                verify_payload(fd, header_of(payload), str(path), tick)


def _write_pieces(fd: int, length: int, pieces: Iterable[tuple[int, bytes]]) -> None:
    for offset, piece in pieces:
        done = 0
        while done < len(piece):
            done += os.pwrite(fd, piece[done:], SIZE + offset + done)
    os.ftruncate(fd, SIZE + length)
