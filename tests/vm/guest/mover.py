"""Runs in a guest: the host between two agents, which a step of the multikernel driver is.

mover.py try   SOURCE KEY TARGET KEY WORKLOAD.json     asked of both whether it can be carried
mover.py carry SOURCE KEY TARGET KEY WORKLOAD.json     from the one to the other
mover.py back  SOURCE KEY TARGET KEY WORKLOAD.json     and home again
mover.py stay  SOURCE KEY TARGET KEY WORKLOAD.json     onto the host's disk, and run again

An error is followed by what a transaction does then: a look at what is there, and the way home.
Prints one line of JSON.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from orchestrator.agent.client import open_agent
from orchestrator.agent.keys import read_key
from orchestrator.agent.transport import parse_peer
from orchestrator.drivers.carrying.carry import Carrier
from orchestrator.drivers.carrying.ends import Cargo, End
from orchestrator.drivers.carrying.trying import admit, try_out
from orchestrator.drivers.records import Records
from orchestrator.handover.parcel import Parcel
from orchestrator.model.errors import MkupgradeError
from orchestrator.model.spec.workloads import Workload
from orchestrator.model.steps import Section

STATE = Path("/var/lib/mover")
TRANSACTION = "t-20260901-ab12cd"


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


def end(name: str, address: str, key_file: str) -> End:
    peer, key = parse_peer(address), read_key(Path(key_file))
    return End(
        name, lambda remaining, about: open_agent(peer, key, remaining, about), lambda: True,
        patience=5.0,
    )  # fmt: skip


def parcel_of(workload: Workload) -> Parcel:
    return Parcel(TRANSACTION, Section.FORWARD, workload.name)


def carrier(workload: Workload) -> Carrier:
    STATE.mkdir(mode=0o700, exist_ok=True)
    parcel = parcel_of(workload)
    records = Records(STATE, TRANSACTION, Section.FORWARD)
    return Carrier(STATE, records, Cargo(workload, parcel, "ab" * 32), Patient())


def tried(source: End, target: End, workload: Workload) -> dict[str, Any]:
    cargo, control = Cargo(workload, parcel_of(workload), "ab" * 32), Patient()
    try:
        found = try_out(source, cargo, control)
        warnings = [*found.warnings, *admit(target, cargo, found.needs, control)]
    except MkupgradeError as error:
        return {"error": error.as_dict()}
    return {"warnings": warnings, "needs": found.needs and found.needs.model_dump()}


def main(arguments: list[str]) -> int:
    verb, source_address, source_key, target_address, target_key, description = arguments
    workload = Workload.model_validate_json(Path(description).read_bytes())
    source, target = (
        end("source", source_address, source_key), end("target", target_address, target_key)
    )  # fmt: skip
    began = time.monotonic()
    said: dict[str, Any] = {}
    if verb == "carry":
        try:
            said = carrier(workload).carry(source, target)
        except MkupgradeError as error:
            said = {"error": error.as_dict()}
            found = carrier(workload).inspect(source, target)
            said["found"] = found.verdict.value
            if found.verdict.value == "partial":
                said |= carrier(workload).undo(source, target)
    elif verb == "try":
        said = tried(source, target, workload)
    elif verb == "stay":
        said = carrier(workload).take(source)
        said |= carrier(workload).undo_take(source)
    else:
        said = carrier(workload).undo(source, target)
    found = carrier(workload).inspect(source, target)
    print(json.dumps({**said, "verdict": found.verdict.value, "all": time.monotonic() - began}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
