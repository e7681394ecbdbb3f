"""The channel through the state directory: the same frames, as files.

STATE_DIR/handover/<transaction>/<section>/payload-000001     0600 in 0700
STATE_DIR/handover/<transaction>/<section>/manifest           written last, by rename
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from orchestrator.handover.channels import Head, Item, Received
from orchestrator.handover.manifest import Manifest
from orchestrator.model.errors import NotSupportedError
from orchestrator.model.kinds import ChannelName
from orchestrator.model.seams import Control
from orchestrator.model.steps import Inspected, Section


class DiskChannel:
    name: ChannelName = "disk"

    def __init__(self, state_dir: Path, transaction: str, section: Section) -> None:
        """
        Args:
            section: in which the state is (or was) taken: FORWARD or RETURN.
        """
        self.dir = state_dir / "handover" / transaction / section.value

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
