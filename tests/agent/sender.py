"""The source's end as a program of its own, for tests with two network stacks or two kernels.

    python -m tests.agent.sender ADDRESS KEY_FILE DIRECTORY [--ahead]

Sends one directory as the state of workload `shop`; prints one line of JSON.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from orchestrator.agent.client import opener
from orchestrator.agent.keys import read_key
from orchestrator.agent.transport import parse_peer
from orchestrator.handover.channels import Head, Item
from orchestrator.handover.stream import StreamChannel
from orchestrator.model.errors import MkupgradeError
from orchestrator.model.steps import Section
from orchestrator.system import proc


class Patient:
    """A `Control` that has two minutes."""

    def __init__(self) -> None:
        self._end = time.monotonic() + 120

    def remaining(self) -> float:
        return self._end - time.monotonic()

    def stopped(self) -> bool:
        return False

    def progress(self, text: str, fraction: float | None = None) -> None:
        if fraction is None:
            print(text, file=sys.stderr, flush=True)


def main(arguments: list[str]) -> int:
    address, key_file, directory, *options = arguments
    key = read_key(Path(key_file))
    channel = StreamChannel(
        Path("unused"), key.transaction, Section.FORWARD, opener(parse_peer(address), key)
    )
    items = [Item("shop", "hooks", {}, Path(directory))]
    head = Head(key.transaction, "ab" * 32, Section.FORWARD, proc.release(), proc.boot_id())
    said: dict[str, object] = {}
    try:
        if "--ahead" in options:
            channel.precopy(items, Patient())
            said["ahead"] = channel.traffic.sent
        manifest = channel.send(head, items, Patient())
        said["payload"] = manifest.workload("shop").payload.model_dump()  # type: ignore[union-attr]
        said["verdict"] = channel.inspect_sent().verdict.value
    except MkupgradeError as error:
        said["error"] = error.as_dict()
    said["sent"], said["looked_at"] = channel.traffic.sent, channel.traffic.looked_at
    print(json.dumps(said))
    return 1 if "error" in said else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
