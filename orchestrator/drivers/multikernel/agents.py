"""Keys of the agents in new generations: each its own, noted down before it is loaded with them."""

from __future__ import annotations

from orchestrator.agent.keys import Key, new_key, parse_key
from orchestrator.drivers.multikernel.parts import Job
from orchestrator.drivers.records import RecordError
from orchestrator.model.params.side_by_side import Generation


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


def _record(generation: Generation) -> str:
    return f"agent.{generation.name}"
