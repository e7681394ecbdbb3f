"""What a plan says of how long workloads with state stand still, and why nobody knows it better."""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.model.quantities import format_size
from orchestrator.model.spec import Workload
from orchestrator.planning import estimates
from orchestrator.planning.side_by_side import state
from orchestrator.planning.side_by_side.choices import Choices, carried

_NAMED = 3


def notes(c: Choices) -> Iterator[str]:
    """One line for all workloads that go the same way and are taken for the same size."""
    found: dict[tuple[bool, bool, int], list[Workload]] = {}
    for name, theirs in c.workloads().items():
        it = c.changed[name]
        size = min(it.memory(), estimates.CARRIED)
        for w in filter(carried, theirs.values()):
            found.setdefault((state.goes_ahead(w), it.back is None, size), []).append(w)
    for (ahead, beside, size), workloads in found.items():
        yield f"{_names(workloads)}: {_said(workloads[0], size, ahead=ahead, beside=beside)}"


def _said(w: Workload, size: int, *, ahead: bool, beside: bool) -> str:
    taken_for = f"{format_size(size)}, for which each is taken: its size is not known here"
    if not ahead:
        return (
            f"nothing is copied ahead by method {w.migrate.method}; the expected blackout is that "
            f"of {taken_for}"
        )
    if beside:
        none, half, all_of_it = (
            state.standing_still(w, size, part) for part in (0.0, estimates.REWRITTEN, 1.0)
        )
        return (
            "the memory is copied ahead while it runs on; it stands still for what it writes "
            f"meanwhile, which nobody knows here: {half:.1f} s are expected, for "
            f"{estimates.REWRITTEN:.0%} of {taken_for}; {none:.1f} s if it writes to nothing, "
            f"{all_of_it:.1f} s if to everything"
        )
    return (
        "the memory is copied to the host ahead while it runs on, which shortens the checkpoint "
        f"alone: the new generation is not there to take it before. {estimates.REWRITTEN:.0%} are "
        f"expected to be written to again meanwhile, of {taken_for}"
    )


def _names(workloads: list[Workload]) -> str:
    said = ", ".join(w.name for w in workloads[:_NAMED])
    more = len(workloads) - _NAMED
    return f"{said} and {more} more" if more > 0 else said
