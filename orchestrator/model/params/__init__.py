"""Parameters of steps, by family of kinds."""

from __future__ import annotations

from orchestrator.model.base import Record
from orchestrator.model.kinds import Kind


def params_of(kind: Kind) -> type[Record]:
    """The model of a kind's parameters.

    A family is imported when one of its kinds is asked for: behind a jump, workloads stand still
    while we import.
    """
    from orchestrator.model.params import in_place

    if kind in in_place.PARAMS:
        return in_place.PARAMS[kind]
    from orchestrator.model.params import side_by_side

    return side_by_side.PARAMS[kind]
