"""Is there room for new generations? Counted before anything starts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from orchestrator.model.host import HostState, InstanceState
from orchestrator.model.quantities import format_size
from orchestrator.planning.problems import Problems


@dataclass(frozen=True)
class Need:
    """CPUs and memory that are to be had."""

    cpus: int
    memory_bytes: int


def check_room(
    needs: Mapping[str, Need],
    going: Mapping[str, InstanceState],
    host: HostState,
    problems: Problems,
    *,
    moved: Need,
    kept: Iterable[InstanceState],
    else_do: str,
) -> None:
    """Name the shortfall, and what could be done about it.

    Args:
        needs: by instance of the spec.
        going: by instance, old generations whose place the new one takes.
        moved: what instances that run on get, less what they give.
        kept: generations that do not run and could be given up.
        else_do: what helps if nothing can be given up.
    """
    pool = host.pool
    if pool is None:
        problems.add("strategy.kind", "the host has no pool of CPUs and memory for instances")
        return
    cpus = moved.cpus - len(pool.free_cpus)
    memory = moved.memory_bytes - pool.free_memory_bytes
    for name, need in needs.items():
        old = going.get(name)
        cpus += max(0, need.cpus - (len(old.cpus) if old else 0))
        memory += max(0, need.memory_bytes - (old.memory_bytes if old else 0))
    if cpus <= 0 and memory <= 0:
        return
    short = _both(max(cpus, 0), max(memory, 0))
    free = f"{_cpus(len(pool.free_cpus))} and {format_size(pool.free_memory_bytes)}"
    problems.add(
        "strategy.kind", f"needs {short} more; free: {free}; {_advice(needs, kept, host, else_do)}"
    )


def check_way_back(
    needs: Mapping[str, Need], going: Mapping[str, InstanceState], problems: Problems
) -> None:
    """Is there a place for each old generation to come back to? What a smaller new one leaves of
    its place, another instance may get; alone, it is left."""
    if len(needs) < 2:
        return
    for name, old in going.items():
        if needs[name].memory_bytes < old.memory_bytes:
            problems.add(
                f"instances.{name}.resources.memory",
                f"{format_size(needs[name].memory_bytes)} is less than the "
                f"{format_size(old.memory_bytes)} of {old.name}: another instance could get the "
                "rest, and the old generation would find no place to come back to; give it as "
                "much, or change it in an upgrade of its own",
            )


def pick_cpus(
    needs: Mapping[str, Need], going: Mapping[str, InstanceState], free: Iterator[int]
) -> dict[str, list[int]]:
    """CPUs for each: those of the generation that goes, then free ones; there is room."""
    picked = {}
    for name, need in needs.items():
        own = sorted(going[name].cpus) if name in going else []
        picked[name] = own[: need.cpus] + [next(free) for _ in range(need.cpus - len(own))]
    return picked


def _advice(
    needs: Mapping[str, Need], kept: Iterable[InstanceState], host: HostState, else_do: str
) -> str:
    spare = sorted(it.name for it in kept)
    if spare:
        return f"remove {', '.join(spare)}, which does not run, or {else_do}"
    others = [it for it in host.instances.values() if not _is_of(it.name, needs)]
    if others:
        largest = max(others, key=lambda it: (len(it.cpus), it.memory_bytes, it.name))
        return f"shrink instance {largest.name} or {else_do}"
    return else_do


def _is_of(name: str, needs: Mapping[str, Need]) -> bool:
    return name in needs or name.rpartition("-g")[0] in needs


def _both(cpus: int, memory: int) -> str:
    parts = ([_cpus(cpus)] if cpus else []) + ([format_size(memory)] if memory else [])
    return " and ".join(parts)


def _cpus(count: int) -> str:
    return "1 CPU" if count == 1 else f"{count} CPUs"
