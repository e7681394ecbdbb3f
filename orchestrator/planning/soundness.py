"""Is a step graph safe to run? Asked of every graph that is made, and of every one that is read."""

from __future__ import annotations

from collections import Counter

from pydantic import ValidationError

from orchestrator.model.kinds import Kind
from orchestrator.model.params import params_of
from orchestrator.model.quantities import MAX_DURATION
from orchestrator.model.steps import Reversibility, Section, Step, StepGraph
from orchestrator.planning.problems import Problems, did_you_mean


def check_graph(graph: StepGraph) -> None:
    """Hold a graph to the rules that the engine and the drivers rely on.

    Parameters fit their kind, and everything that `check_shape` says.

    Raises:
        PlanError: with one line per rule that is broken.
    """
    problems = Problems()
    for step in graph.steps:
        _check_params(step, problems)
    problems.raise_if_any("the steps cannot be read", next_command="mkupgrade plan")
    check_shape(graph)


def check_shape(graph: StepGraph) -> None:
    """Hold a graph whose parameters are known to be good to the other rules.

    Ids are unique, edges stay in their section and make no ring, `forward` has at most one pivot
    with the commit behind it, and where there is a pivot there is a way back: a `return` that ends
    in a pivot of its own, and a `recover`.

    Raises:
        PlanError: with one line per rule that is broken.
    """
    problems = Problems()
    _check_ids(graph, problems)
    _check_times(graph, problems)
    _check_edges(graph, problems)
    problems.raise_if_any("the step graph is broken", next_command="mkupgrade plan")
    order = _Order(graph)
    if order.has_ring():
        for section in Section:
            _name_ring(graph, section, problems)
    _check_way_back(graph, order, problems)
    problems.raise_if_any("the step graph is not safe to run", next_command="mkupgrade plan")


def _check_ids(graph: StepGraph, problems: Problems) -> None:
    for step_id, count in Counter(s.id for s in graph.steps).items():
        if count > 1:
            problems.add(f"step {step_id}", f"the id is used {count} times")


def _check_times(graph: StepGraph, problems: Problems) -> None:
    """Times are finite, and none is so short that nothing could run."""
    for name, units in graph.limits.items():
        if units < 1:
            problems.add(f"limits.{name}", f"{units} units let no step run")
    if not 0 < graph.deadline <= MAX_DURATION:
        problems.add("deadline", f"{graph.deadline} is no time to finish in")
    for step in graph.steps:
        if not 0 <= step.estimate <= MAX_DURATION:
            problems.add(f"step {step.id}", f"an estimate of {step.estimate} s")
        if not 0 < step.deadline <= MAX_DURATION:
            problems.add(f"step {step.id}", f"a deadline of {step.deadline} s")


def _check_edges(graph: StepGraph, problems: Problems) -> None:
    sections = {s.id: s.section for s in graph.steps}
    for earlier, later in graph.edges:
        section = sections.get(earlier)
        if section is not None and section is sections.get(later):
            continue
        for end in (earlier, later):
            if end not in sections:
                problems.add(
                    f"edge {earlier} -> {later}",
                    f'there is no step "{end}"{problems.hint(end, sections)}',
                )
        if sections.get(earlier, later) != sections.get(later, later):
            problems.add(f"edge {earlier} -> {later}", "leads from one section into another")


class _Order:
    """The edges as lists of neighbours. networkx takes five times as long to build as this,
    and is asked only when there is a ring to be named."""

    def __init__(self, graph: StepGraph) -> None:
        self.earlier: dict[str, list[str]] = {s.id: [] for s in graph.steps}
        self.later: dict[str, list[str]] = {s: [] for s in self.earlier}
        for a, b in graph.edges:
            self.later[a].append(b)
            self.earlier[b].append(a)

    def has_ring(self) -> bool:
        waits = {s: len(found) for s, found in self.earlier.items()}
        free = [s for s, count in waits.items() if not count]
        for step in free:  # grows while it is walked
            for follower in self.later[step]:
                waits[follower] -= 1
                if not waits[follower]:
                    free.append(follower)
        return len(free) < len(waits)


def _reach(step: str, neighbours: dict[str, list[str]]) -> set[str]:
    """All that can be reached from the step, which is not among them."""
    seen = {step}
    todo = [step]
    while todo:
        for other in neighbours[todo.pop()]:
            if other not in seen:
                seen.add(other)
                todo.append(other)
    return seen - {step}


def _name_ring(graph: StepGraph, section: Section, problems: Problems) -> None:
    import networkx as nx

    dag = graph.as_networkx(section)
    if not nx.is_directed_acyclic_graph(dag):
        ring = [edge[0] for edge in nx.find_cycle(dag)]
        problems.add(f"section {section.value}", f"a ring: {' -> '.join([*ring, ring[0]])}")


def _check_params(step: Step, problems: Problems) -> None:
    try:
        params_of(Kind(step.kind)).model_validate(step.params)
    except ValueError as error:
        problems.add(f"step {step.id}", _first_line(step, error))


def _first_line(step: Step, error: ValueError) -> str:
    if not isinstance(error, ValidationError):
        return f'there is no kind of step "{step.kind}"{did_you_mean(step.kind, Kind)}'
    first = error.errors(include_url=False, include_input=False)[0]
    path = ".".join(str(part) for part in first["loc"])
    return f"params.{path}: {first['msg']}"


def _check_way_back(graph: StepGraph, order: _Order, problems: Problems) -> None:
    forward = graph.section(Section.FORWARD)
    pivots = _with(forward, Reversibility.PIVOT)
    commits = _with(forward, Reversibility.COMMIT)
    _check_pivot(forward, order, pivots, commits, problems)
    if not pivots:
        return
    back = _with(graph.section(Section.RETURN), Reversibility.PIVOT)
    if len(back) != 1:
        problems.add(
            f"step {pivots[0].id}",
            f"a pivot needs a way back: section return has {len(back)} pivots, not one",
        )
    elif order.later[back[0].id]:
        problems.add(f"step {back[0].id}", "the pivot of section return must be its end")
    recover = graph.section(Section.RECOVER)
    if not recover:
        problems.add(f"step {pivots[0].id}", "a pivot needs a way back: section recover is empty")
    for step in recover:
        if step.reversibility is not Reversibility.REVERSIBLE:
            problems.add(f"step {step.id}", f"section recover may hold no {step.reversibility}")


def _check_pivot(
    forward: list[Step],
    order: _Order,
    pivots: list[Step],
    commits: list[Step],
    problems: Problems,
) -> None:
    """At most one of each, and every other step of `forward` before or behind the pivot."""
    for name, found in (("pivot", pivots), ("commit", commits)):
        if len(found) > 1:
            problems.add(f"step {found[1].id}", f"a second {name} in section forward")
    if len(pivots) != 1:
        return
    pivot = pivots[0].id
    before, behind = _reach(pivot, order.earlier), _reach(pivot, order.later)
    for step in forward:
        if step.id != pivot and step.id not in before and step.id not in behind:
            problems.add(f"step {step.id}", "could run beside the pivot")
    for commit in commits:
        if commit.id in before:
            problems.add(f"step {commit.id}", "commits before the pivot")


def _with(steps: list[Step], reversibility: Reversibility) -> list[Step]:
    return [s for s in steps if s.reversibility is reversibility]
