"""Keys of the agents in new generations: each its own, noted down before it is loaded with them."""

from __future__ import annotations

from collections.abc import Container

from orchestrator.agent.keys import Key, new_key, parse_key
from orchestrator.drivers.multikernel.parts import Job
from orchestrator.drivers.records import RecordError, Records
from orchestrator.model.params.side_by_side import Generation

_STEM = "agent."


def new_key_for(job: Job, generation: Generation) -> Key:
    """The key that this generation is loaded with; the same again after a crash.

    Raises:
        RecordError, SystemCallError: it cannot be kept.
    """
    name = _record(generation)
    if job.records.read(name) is not None:
        return key_of(job, generation)
    key = new_key(job.context.transaction)
    job.records.write(name, {"key": key.text()})
    return key


def key_of(job: Job, generation: Generation) -> Key:
    """The key that it was loaded with.

    Raises:
        RecordError: there is none, or it cannot be used.
    """
    record = job.records.read(_record(generation)) or {}
    text = record.get("key")
    if not isinstance(text, str):
        raise RecordError(
            f"the key of the agent in {generation.name} is not on record",
            where=str(job.records.dir),
            next_command="mkupgrade rollback",
        )
    return parse_key(text.encode(), str(job.records.dir))


def forget_key(job: Job, generation: Generation) -> None:
    """None on record is fine."""
    job.records.drop(_record(generation))


def forget_keys_of_gone(records: Records, there: Container[str]) -> None:
    """Of generations that are not there any more: their names are never used again.

    Args:
        there: names of all instances.
    """
    for path in records.dir.glob(f"{_STEM}*.json"):
        if path.stem.removeprefix(_STEM) not in there:
            records.drop(path.stem)


def _record(generation: Generation) -> str:
    return f"{_STEM}{generation.name}"
