"""Is the host still the one that the plan was made for?"""

from __future__ import annotations

from typing import Any

from orchestrator.model.errors import StalePlanError
from orchestrator.model.host import HostState
from orchestrator.model.steps import StepGraph

_VOLATILE = {
    "boot_id",
    "memory_available_bytes",
    "memory_bytes",
    "capabilities",
    "workloads",
    "boot.entries",
}
"""Not compared at all, or (the last four) in a way of their own."""
_MEMORY_TOLERANCE = 0.01
"""What a kernel reserves differs a little from boot to boot."""


def staleness(graph: StepGraph, host: HostState) -> list[str]:
    """What differs between the host of the plan and the host now; empty: the plan is fresh.

    Lines read "kernel.release: 7.2.13 -> 7.3.4". Facts that come and go (boot id, pids, free
    memory, resident sizes) are not compared; of capabilities those that steps require, of
    workloads whether they run.
    """
    old, new = _flat(graph.host.model_dump(mode="json")), _flat(host.model_dump(mode="json"))
    lines = [
        f"{key}: {_say(old.get(key))} -> {_say(new.get(key))}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    ]
    return [
        *lines,
        *_memory(graph.host, host),
        *_capabilities(graph, host),
        *_workloads(graph.host, host),
    ]


def ensure_fresh(graph: StepGraph, host: HostState) -> None:
    """Hold the host to the plan.

    Raises:
        StalePlanError: with the differences in `details`.
    """
    lines = staleness(graph, host)
    if lines:
        raise StalePlanError(
            f'the host has changed since plan "{graph.name}" was made',
            state="nothing was changed",
            next_command="mkupgrade plan",
            details=tuple(lines),
        )


def _flat(value: Any, path: str = "") -> dict[str, Any]:
    """{"kernel.release": "7.2.13", …} without what is volatile; lists stay whole."""
    if path in _VOLATILE:
        return {}
    if not isinstance(value, dict):
        return {path: value}
    flat: dict[str, Any] = {}
    for key, inner in value.items():
        flat |= _flat(inner, f"{path}.{key}" if path else str(key))
    return flat


def _memory(old: HostState, new: HostState) -> list[str]:
    before, now = old.memory_bytes, new.memory_bytes
    if abs(before - now) <= before * _MEMORY_TOLERANCE:
        return []
    return [f"memory_bytes: {before} -> {now}"]


def _capabilities(graph: StepGraph, host: HostState) -> list[str]:
    required = sorted({cap for step in graph.steps for cap in step.requires})
    lines = []
    for cap in required:
        before, now = graph.host.can(cap), host.can(cap)
        if before.available != now.available:
            words = f"{_yes(before.available)} -> {_yes(now.available)} ({now.reason})"
            lines.append(f"capabilities.{cap.value}: {words}")
    return lines


def _workloads(old: HostState, new: HostState) -> list[str]:
    lines = []
    for name in sorted(old.workloads.keys() | new.workloads.keys()):
        before, now = _state(old, name), _state(new, name)
        if before != now:
            lines.append(f"workloads.{name}: {before} -> {now}")
    return lines


def _state(host: HostState, name: str) -> str:
    state = host.workloads.get(name)
    if state is None:
        return "not looked for"
    return "running" if state.pids and state.error is None else "not running"


def _yes(available: bool) -> str:
    return "available" if available else "not available"


def _say(value: Any) -> str:
    return "none" if value is None else str(value)
