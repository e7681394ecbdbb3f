"""The channel through memory: sealed memfds in one LUO session."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from orchestrator.handover.channels import Head, Item, Received
from orchestrator.handover.manifest import Manifest
from orchestrator.model.errors import NotSupportedError
from orchestrator.model.kinds import ChannelName
from orchestrator.model.seams import Control
from orchestrator.model.steps import Inspected


class Session(Protocol):
    """`orchestrator.system.luo.LuoSession`, as far as this module needs it."""

    def preserve(self, fd: int, token: int) -> None: ...
    def retrieve(self, token: int) -> int: ...
    def finish(self) -> None: ...
    def close(self) -> None: ...
    def fileno(self) -> int: ...


class Device(Protocol):
    """`orchestrator.system.luo.LuoDevice`."""

    def create_session(self, name: str) -> Session: ...
    def retrieve_session(self, name: str) -> Session: ...


OpenDevice = Callable[[], AbstractContextManager[Device]]
"""Opens /dev/liveupdate, for a moment: `lambda: luo.open_device(guard)`."""


class KhoChannel:
    """Holds the session open from `send` to the jump, and from `receive` to `finish`."""

    name: ChannelName = "kho"

    def __init__(self, open_device: OpenDevice, transaction: str) -> None:
        self._open_device = open_device
        self.transaction = transaction

    def send(self, head: Head, items: Sequence[Item], control: Control) -> Manifest:
        raise NotSupportedError("not built yet")

    def inspect_sent(self) -> Inspected:
        raise NotSupportedError("not built yet")

    def discard(self) -> None:
        raise NotSupportedError("not built yet")

    def receive(self, destination: Path, control: Control) -> Received:
        raise NotSupportedError("not built yet")

    def finish(self) -> None:
        raise NotSupportedError("not built yet")

    def close(self) -> None:
        raise NotSupportedError("not built yet")
