"""Which instances of a host are versions of one instance of the spec.

A generation is named "<instance>-g<number>", and neither name nor id is used again while it is
there: the kernel undoes by name. An instance of the bare name is one that somebody else made; it
counts as the first generation.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from orchestrator.model.host import HostState, InstanceState
from orchestrator.model.params.side_by_side import Generation
from orchestrator.planning.problems import Problems

FIRST_ID, LAST_ID = 2, 511
"""Ids that every system call can name, and on an ordinary kernel none takes for something else."""


@dataclass(frozen=True)
class Lineage:
    """The generations of one instance that the host has."""

    name: str
    running: InstanceState | None
    """The one that is to be replaced; None: the instance is new."""
    stopped: tuple[InstanceState, ...]
    """Kept from earlier upgrades, or never started; the oldest first."""
    last: int
    """Number of the newest; 0: there is none."""


def lineage(name: str, host: HostState, problems: Problems) -> Lineage:
    """Find them; two that run at once are a problem."""
    pattern = re.compile(rf"{re.escape(name)}(?:-g([1-9]\d{{0,8}}))?")
    found = sorted(
        (int(row[1] or 1), it.name)
        for it in host.instances.values()
        if (row := pattern.fullmatch(it.name))
    )
    states = [host.instances[it] for _, it in found]
    running = [it for it in states if it.status == "active"]
    if len(running) > 1:
        names = " and ".join(it.name for it in running)
        problems.add(f"instances.{name}", f"{names} run at once; halt all but one (kerf kill)")
    stopped = tuple(it for it in states if it.status != "active")
    newest = found[-1][0] if found else 0
    return Lineage(name, running[-1] if running else None, stopped, newest)


def successors(lines: Iterable[Lineage], host: HostState) -> dict[str, Generation]:
    """Instance -> name and id of its next generation.

    Raises:
        StopIteration: the host has more than 500 instances.
    """
    taken = {it.id for it in host.instances.values()}
    ids: Iterator[int] = (number for number in range(FIRST_ID, LAST_ID + 1) if number not in taken)
    return {it.name: Generation(name=f"{it.name}-g{it.last + 1}", id=next(ids)) for it in lines}
