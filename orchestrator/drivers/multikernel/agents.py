"""Keys of the agents in generations: each its own, noted down before it is loaded with them.

    STATE_DIR/agents/<generation>.json     0600 in 0700

A key outlives the transaction that made it: the next one carries workloads out of the generation
that has it. It goes with the generation.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from orchestrator.agent.keys import Key, new_key, parse_key
from orchestrator.drivers.records import RecordError, Shelf
from orchestrator.model.errors import MkupgradeError
from orchestrator.model.landing import MARK
from orchestrator.model.params.side_by_side import Generation


def new_key_for(state_dir: Path, generation: Generation, port: int, transaction: str) -> Key:
    """The key that this generation is loaded with; the same again after a crash, and where it is
    loaded again.

    Raises:
        RecordError, SystemCallError: it cannot be kept.
    """
    shelf = _shelf(state_dir)
    record = shelf.read(generation.name)
    if record is not None and record.get("id") == generation.id:
        key = _key(record, shelf, generation)
    else:
        key = new_key(transaction)
    shelf.write(generation.name, {"id": generation.id, "port": port, "key": key.text()})
    return key


def key_of(state_dir: Path, generation: Generation) -> Key:
    """The key that it was loaded with.

    Raises:
        RecordError: there is none, or it cannot be used.
    """
    shelf = _shelf(state_dir)
    record = shelf.read(generation.name)
    if record is None or record.get("id") != generation.id:
        raise RecordError(
            f"the key of the agent in {generation.name} is not on record",
            where=str(shelf.dir),
            next_command="mkupgrade rollback",
        )
    return _key(record, shelf, generation)


def forget_key(state_dir: Path, generation: Generation) -> None:
    """It is gone for good. None on record is fine, and so is that of another one by its name."""
    shelf = _shelf(state_dir)
    record = shelf.read(generation.name)
    if record is not None and record.get("id") == generation.id:
        shelf.drop(generation.name)


def forget_others(state_dir: Path, there: Collection[str]) -> None:
    """Of all but these generations."""
    shelf = _shelf(state_dir)
    for name in shelf.names():
        if name not in there:
            shelf.drop(name)


def ports(state_dir: Path, there: Mapping[str, tuple[int, str | None]]) -> dict[str, int]:
    """Of the agents that this host has the key of, by generation.

    Args:
        there: name -> id and command line of what the kernel has: one that was loaded anew by
            somebody else has no key of ours. A record that cannot be read is none.
    """
    shelf, found = _shelf(state_dir), {}
    for name, (number, cmdline) in there.items():
        try:
            record = shelf.read(name)
            if record is None or record.get("id") != number:
                continue
            key = _key(record, shelf, Generation(name=name, id=number))
        except MkupgradeError:
            continue
        port = record.get("port")
        if isinstance(port, int) and f"{MARK}{key.transaction}/" in (cmdline or ""):
            found[name] = port
    return found


def _key(record: Mapping[str, object], shelf: Shelf, generation: Generation) -> Key:
    text = record.get("key")
    if not isinstance(text, str):
        raise RecordError(
            f"the key of the agent in {generation.name} cannot be used", where=str(shelf.dir)
        )
    return parse_key(text.encode(), str(shelf.dir))


def _shelf(state_dir: Path) -> Shelf:
    return Shelf(state_dir / "agents")
