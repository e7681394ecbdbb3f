"""Runs in a guest: the two ends of a move of one workload to another kernel that runs.

mover.py send ADDRESS KEY_FILE WORKLOAD.json     checkpoint and send; if that fails, run again
mover.py take KEY_FILE WORKLOAD.json             receive what the agent here has, and restore

Prints one line of JSON.
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
from orchestrator.model.spec.workloads import Workload
from orchestrator.model.steps import Section
from orchestrator.system import proc
from orchestrator.workloads.facade import Workloads

STATE = Path("/var/lib/mkupgrade")
WORK = Path("/var/lib/mover")


class Patient:
    """A `Control` that has five minutes."""

    def __init__(self) -> None:
        self._end = time.monotonic() + 300

    def remaining(self) -> float:
        return self._end - time.monotonic()

    def stopped(self) -> bool:
        return False

    def progress(self, text: str, fraction: float | None = None) -> None:
        print(text, file=sys.stderr)


def send(address: str, key_file: str, workload: Workload) -> dict[str, object]:
    key, control, workloads = read_key(Path(key_file)), Patient(), Workloads()
    WORK.mkdir(mode=0o700, exist_ok=True)
    workdir = WORK / workload.name
    channel = StreamChannel(
        STATE, key.transaction, Section.FORWARD, opener(parse_peer(address), key)
    )
    head = Head(key.transaction, "ab" * 32, Section.FORWARD, proc.release(), proc.boot_id())
    began = time.monotonic()
    meta = workloads.checkpoint(workload, workdir, control)
    dumped = time.monotonic()
    try:
        channel.send(head, [Item(workload.name, "criu", meta, workdir)], control)
    except MkupgradeError as error:
        workloads.undo_checkpoint(workload, workdir, control)
        return {"error": error.as_dict(), "pids": workloads.find(workload).pids}
    return {
        "pids": meta["pids"],
        "verdict": channel.inspect_sent().verdict.value,
        "dump_seconds": dumped - began,
        "send_seconds": time.monotonic() - dumped,
        "sent": channel.traffic.sent,
    }


def take(key_file: str, workload: Workload) -> dict[str, object]:
    key, control = read_key(Path(key_file)), Patient()
    channel = StreamChannel(STATE, key.transaction, Section.FORWARD)
    began = time.monotonic()
    received = channel.receive(Path("/run/arrived"), control)
    meta = received.manifest.workload(workload.name).meta
    result = Workloads().restore(workload, received.directories[workload.name], meta, control)
    return {
        "pids": result["pids"],
        "source": received.manifest.source.release,
        "seconds": time.monotonic() - began,
    }


def main(arguments: list[str]) -> int:
    verb, *rest, description = arguments
    workload = Workload.model_validate_json(Path(description).read_bytes())
    said = send(*rest, workload) if verb == "send" else take(*rest, workload)
    print(json.dumps(said))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
