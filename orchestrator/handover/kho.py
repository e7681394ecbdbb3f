"""The channel through memory: sealed memfds in one LUO session.

The session is named "mkupgrade:<transaction>" so that it can be found again: LUO cannot list
sessions. Sender: the session lives while this process has it open; its last close before the
jump discards everything (facts of `orchestrator.system.luo`). Receiver: the last close of the
session *is* finishing it, so a keeper holds it, too, from the moment it is retrieved until all is
verified and on disk: neither an error nor the death of this process lets go of it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Protocol

from orchestrator.handover.channels import Head, Item, Received
from orchestrator.handover.disk import DiskChannel
from orchestrator.handover.frame import SIZE, Header
from orchestrator.handover.manifest import CarriedWorkload, Manifest, Payload, manifest_header
from orchestrator.handover.payload import verify_payload, write_payload
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
from orchestrator.model.errors import (
    ErrorClass,
    HandoverError,
    MkupgradeError,
    SystemCallError,
)
from orchestrator.model.kinds import ChannelName
from orchestrator.model.seams import Control
from orchestrator.model.steps import Inspected, Inspection, Section
from orchestrator.system import calls
from orchestrator.system.call_errors import NotPreservedError

MANIFEST_TOKEN = 0
_BUSY_SECONDS = 5.0
"""How long another process (systemd) may keep the device open before it is an error."""
_BUSY_PAUSE = 0.05


class Session(Protocol):
    """`orchestrator.system.luo.LuoSession`, as far as this module needs it."""

    def preserve(self, fd: int, token: int) -> None: ...
    def retrieve(self, token: int) -> int: ...
    def finish(self) -> None: ...
    def fileno(self) -> int: ...
    def close(self) -> None: ...


class Device(Protocol):
    """`orchestrator.system.luo.LuoDevice`."""

    def create_session(self, name: str) -> Session: ...
    def retrieve_session(self, name: str) -> Session: ...


OpenDevice = Callable[[], AbstractContextManager[Device]]
"""Opens /dev/liveupdate, for a moment: `lambda: luo.open_device(guard)`."""


class Keeper(Protocol):
    """Holds retrieved sessions open beyond the death of this process, by their names."""

    def keep(self, name: str, session: Session) -> None:
        """From now on the session is open in another process, too."""
        ...

    def kept(self, name: str) -> Session | None:
        """A session that an earlier process retrieved, to go on with; None: none is kept."""
        ...

    def release(self, name: str) -> None:
        """Its state is durable, or of no use any more. None kept is fine."""
        ...


def session_name(transaction: str) -> str:
    """The LUO session of a transaction; at most 62 bytes."""
    return f"mkupgrade:{transaction}"


def with_device(
    open_device: OpenDevice, make: Callable[[Device], Session], control: Control
) -> Session:
    """Open the device and make a session; another process that has it open is waited for a while.

    Raises:
        SystemCallError: of class BUSY where that process did not close it in time.
    """
    until = time.monotonic() + min(_BUSY_SECONDS, max(0.0, control.remaining()))
    while True:
        try:
            with open_device() as device:
                return make(device)
        except SystemCallError as error:
            if error.error_class is not ErrorClass.BUSY or time.monotonic() > until:
                raise
        time.sleep(_BUSY_PAUSE)


class KhoChannel:
    """Holds the session open from `send` to the jump, and, with the keeper, from `receive` to
    `finish`."""

    name: ChannelName = "kho"

    def __init__(
        self,
        open_device: OpenDevice,
        keeper: Keeper,
        state_dir: Path,
        transaction: str,
        section: Section,
    ) -> None:
        """
        Args:
            section: in which the state is (or was) taken: FORWARD or RETURN.
        """
        self.transaction = transaction
        self.section = section
        self.spilled = DiskChannel(state_dir, transaction, section)
        self.copy = DiskChannel(state_dir, transaction, section, "received")
        self._open_device = open_device
        self._keeper = keeper
        self._outgoing: Session | None = None
        self._incoming: Session | None = None
        self._sent: Manifest | None = None

    def send(self, head: Head, items: Sequence[Item], control: Control) -> Manifest:
        """See `Channel.send`.

        Raises:
            HandoverError: class IO when memory is short. ExistsAlreadyError: another process
                holds a session of this transaction.
        """
        self.close()
        with ExitStack() as undo:
            session = self._session(lambda device: device.create_session(self._name()), control)
            undo.callback(session.close)
            headers = {
                name: self._preserve(session, name, directory, token, control)
                for token, name, directory in with_payload(items)
            }
            manifest = build_manifest(head, items, headers)
            check_belongs(manifest, self.transaction, self.section)
            with _memfd("manifest") as fd:
                _write_all(fd, manifest.encode())
                calls.seal(fd)
                session.preserve(fd, MANIFEST_TOKEN)
            undo.pop_all()
        self._outgoing, self._sent = session, manifest
        return manifest

    def inspect_sent(self) -> Inspected:
        """See `Channel.inspect_sent`."""
        if self._outgoing is None or self._sent is None:
            reason = "this process holds no session: what another one held ended with it"
            return Inspected(verdict=Inspection.ABSENT, reason=reason)
        return Inspected(
            verdict=Inspection.PRESENT,
            reason=f"session {self._name()} is held, complete with its manifest",
            result={"manifest": self._sent.model_dump(mode="json")},
        )

    def discard(self) -> None:
        """See `Channel.discard`."""
        self.close()
        self.copy.discard()

    def receive(self, destination: Path, control: Control) -> Received:
        """See `Channel.receive`. After an error, and after the death of this process, the session
        is still open in the keeper, unread state with it: the next `receive` goes on with it,
        `finish` drops it, nothing else does.

        Where the session is gone (the keeper was killed too, or the kernel lost it), the durable
        copies are taken: what an earlier `receive` wrote, else what was spilled.

        Raises:
            NotPreservedError: no such session came from the previous kernel, and no copy is on
                disk.
            HandoverError: it is damaged; nothing was restored.
        """
        _, ready = inspect_unpacked(destination, self.transaction, self.section)
        if ready:
            return ready
        if self._incoming is None and self.copy.manifest() is not None:
            return self.copy.receive(destination, control)
        try:
            manifest, frames, damaged = self._verified(control)
        except NotPreservedError:
            if self._incoming is not None or self.spilled.manifest() is None:
                raise
            control.progress("No state came through memory: taking the copy on disk")
            return self.spilled.receive(destination, control)
        with ExitStack() as stack:
            for fd in frames.values():
                stack.callback(os.close, fd)
            if not self.spilled.holds(manifest):
                self.copy.copy_in(manifest, frames, control)

            @contextmanager
            def opened(payload: Payload) -> Iterator[int]:
                yield frames[payload.token]

            return unpack(manifest, opened, destination, control, damaged)

    def inspect_received(self, destination: Path) -> Inspected:
        """See `Channel.inspect_received`."""
        return inspect_unpacked(destination, self.transaction, self.section)[0]

    def finish(self) -> None:
        """Give the kernel's copy back. Only after `receive` returned, here or in a process that
        died since."""
        if self._incoming is not None:
            self._incoming.finish()
            self._incoming.close()
            self._incoming = None
        with suppress(MkupgradeError):  # it would hold memory until the next restart, no more
            self._keeper.release(self._name())

    def close(self) -> None:
        """Let go of both sessions: what was sent is discarded; what came in, and is not
        finished, is the keeper's alone."""
        for session in (self._outgoing, self._incoming):
            if session is not None:
                session.close()
        self._outgoing = self._incoming = self._sent = None

    def _name(self) -> str:
        return session_name(self.transaction)

    def _session(self, make: Callable[[Device], Session], control: Control) -> Session:
        return with_device(self._open_device, make, control)

    def _preserve(
        self, session: Session, name: str, directory: Path, token: int, control: Control
    ) -> Header:
        tick = ticker(control, f"Pack the state of {name}", packed_size(directory))
        with _memfd(name) as fd:
            header = write_payload(directory, fd, token, tick)
            calls.seal(fd)
            session.preserve(fd, token)
        return header

    def _retrieved(self, control: Control) -> Session:
        """The session that came in, and the keeper has it, too."""
        if self._incoming is None:
            self._incoming = self._keeper.kept(self._name())
        if self._incoming is None:
            self._incoming = self._session(
                lambda device: device.retrieve_session(self._name()), control
            )
            try:
                self._keeper.keep(self._name(), self._incoming)
            except MkupgradeError as error:  # no reason to give up what is in our hands
                control.progress(f"State in memory hangs on this process alone: {error}")
        return self._incoming

    def _verified(self, control: Control) -> tuple[Manifest, dict[int, int], dict[str, str]]:
        """What is in the session: the manifest, the frames that fit it by token (the caller
        closes the descriptors), and why the others do not."""
        session = self._retrieved(control)
        manifest = _read_manifest(session, self._name())
        check_belongs(manifest, self.transaction, self.section)
        frames: dict[int, int] = {}

        def verify(workload: CarriedWorkload, payload: Payload) -> None:
            where = f"session {self._name()}, token {payload.token} ({workload.name})"
            tick = ticker(control, f"Verify {workload.name}", payload.length)
            with ExitStack() as stack:
                fd = session.retrieve(payload.token)
                stack.callback(os.close, fd)
                verify_payload(fd, header_of(payload), where, tick)
                stack.pop_all()
            frames[payload.token] = fd

        try:
            damaged = verify_each(manifest, verify)
        except BaseException:
            for fd in frames.values():
                os.close(fd)
            raise
        return manifest, frames, damaged


def _read_manifest(session: Session, name: str) -> Manifest:
    """The manifest under token 0 of a retrieved session.

    Raises:
        HandoverError: it is damaged or of another version. NotPreservedError: it has none.
    """
    where = f"session {name}, token {MANIFEST_TOKEN}"
    fd = session.retrieve(MANIFEST_TOKEN)
    try:
        header = manifest_header(os.pread(fd, SIZE, 0), where)
        size = os.fstat(fd).st_size
        if size != SIZE + header.length:
            raise HandoverError(f"manifest of {size} bytes, its header says otherwise", where=where)
        with os.fdopen(os.dup(fd), "rb") as file:
            file.seek(0)
            return Manifest.decode(file.read(size), where)
    finally:
        os.close(fd)


@contextmanager
def _memfd(name: str) -> Iterator[int]:
    fd = calls.memfd(f"mkupgrade:{name}")
    try:
        yield fd
    finally:
        os.close(fd)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
