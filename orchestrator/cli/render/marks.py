"""The marks in front of steps, and what they mean."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from orchestrator.model.kinds import Kind
from orchestrator.model.steps import Reversibility, Step


@dataclass(frozen=True)
class Mark:
    sign: str
    plain: str
    """For terminals without UTF-8."""
    style: str
    meaning: str


LOOK = Mark("·", ".", "dim", "looks, changes nothing")
ADD = Mark("+", "+", "green", "adds something; undone if a step before the pivot fails")
CHANGE = Mark("~", "~", "yellow", "changes something; undone likewise")
REMOVE = Mark("-", "-", "red", "takes away what is no longer needed")
PIVOT = Mark("»", ">", "bold magenta", "pivot: behind it the way back is a jump of its own")
COMMIT = Mark("✓", "=", "bold green", "commit: from here on the new kernel stays")

ALL = (LOOK, ADD, CHANGE, REMOVE, PIVOT, COMMIT)

_BY_KIND = {
    Kind.CHECK_ARTIFACTS: LOOK,
    Kind.PREFLIGHT: LOOK,
    Kind.CHECK: LOOK,
    Kind.SOAK: LOOK,
    Kind.LOAD_KERNEL: ADD,
    Kind.ARM_FALLBACK: ADD,
    Kind.PRESERVE: ADD,
    Kind.CLEAN_UP: REMOVE,
    Kind.CREATE_INSTANCE: ADD,
    Kind.LOAD_INSTANCE: ADD,
    Kind.START_INSTANCE: ADD,
    Kind.AWAIT_INSTANCE: LOOK,
    Kind.HALT_INSTANCE: REMOVE,
    Kind.UNLOAD_INSTANCE: REMOVE,
    Kind.REMOVE_INSTANCE: REMOVE,
    Kind.ADD_CPUS: ADD,
    Kind.ADD_MEMORY: ADD,
    Kind.GROW_POOL: ADD,
}

_POOL = {Kind.GROW_POOL, Kind.SHRINK_POOL}
_RESIZING = {Kind.ADD_CPUS, Kind.REMOVE_CPUS, Kind.ADD_MEMORY, Kind.REMOVE_MEMORY}


def mark_of(step: Step) -> Mark:
    """The mark of a step; of a kind that is not known here: a change."""
    if step.reversibility is Reversibility.PIVOT:
        return PIVOT
    if step.reversibility is Reversibility.COMMIT:
        return COMMIT
    if step.params.get("back"):
        return CHANGE
    try:
        return _BY_KIND.get(Kind(step.kind), CHANGE)
    except ValueError:
        return CHANGE


def resized(forward: Iterable[Step]) -> set[str]:
    """The instances that get or give CPUs or memory as they run."""
    return {
        str(target["name"])
        for s in forward
        if s.kind in _RESIZING and isinstance(target := s.params.get("target"), dict)
    }


def changes_pool(forward: Iterable[Step]) -> bool:
    """Is what the host sets aside for instances changed?"""
    return any(s.kind in _POOL for s in forward)
