"""Strategies replace, rolling and canary: instances in turn, each with its workloads (units.py).

replace   all at once, where nothing orders them
rolling   max_unavailable at once
canary    the first ones, rolling; their checks, soak; the others, rolling
"""

from __future__ import annotations

from orchestrator.planning import host_steps
from orchestrator.planning.builder import SectionBuilder
from orchestrator.planning.side_by_side import steps
from orchestrator.planning.side_by_side.choices import Choices
from orchestrator.planning.side_by_side.units import one_place_at_a_time, units

CANARY = "canary:first"
"""In ids of steps; nothing else can be named so."""


def replace(b: SectionBuilder, c: Choices) -> None:
    _begin(b, c)
    _take(b, c, c.order.names, len(c.changed))


def rolling(b: SectionBuilder, c: Choices) -> None:
    _begin(b, c)
    _take(b, c, c.order.names, c.spec.strategy.max_unavailable)


def canary(b: SectionBuilder, c: Choices) -> None:
    strategy = c.spec.strategy
    first, rest = c.order.names[: strategy.first], c.order.names[strategy.first :]
    _begin(b, c)
    _take(b, c, first, strategy.max_unavailable)
    if rest:
        checks = steps.checks(c, "after", set(first))
        host_steps.checks(b, "after", checks, f"with {', '.join(first)}", CANARY)
        host_steps.soak_with(b, CANARY, c.spec.soak, steps.checks(c, "soak", set(first)))
        _take(b, c, rest, strategy.max_unavailable)


def _begin(b: SectionBuilder, c: Choices) -> None:
    steps.check_old_files(b, c)
    host_steps.run_hooks(b, c.spec.hooks.before)


def _take(b: SectionBuilder, c: Choices, names: list[str], at_once: int) -> None:
    """Each waits for the one that many places before it, so that no more are under way."""
    among = set(names)
    pairs = [(e, name) for e, name in c.order.pairs if e in among and name in among]
    pairs += zip(names, names[at_once:], strict=False)
    b.strands(units(b, c, names), dict.fromkeys(pairs))
    one_place_at_a_time(b, c, names)
