"""Names in a spec: used once, pointing at something, and without rings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from graphlib import CycleError, TopologicalSorter

from orchestrator.model.spec import UpgradeSpec
from orchestrator.planning.problems import Problems


def check_references(spec: UpgradeSpec, problems: Problems) -> None:
    """Add a line for every name used twice, every unknown name and one for every ring."""
    instances = [i.name for i in spec.instances]
    workloads = [w.name for w in spec.workloads]
    _names_once("instances", instances, problems)
    _names_once("workloads", workloads, problems)
    theirs = [c for w in spec.workloads for c in w.checks]
    theirs += [c for i in spec.instances for c in i.ready]
    _names_once("checks", [c.name for c in (*spec.checks, *theirs)], problems)
    known = set(instances)
    for workload in spec.workloads:
        if workload.instance not in known:
            hint = problems.hint(workload.instance, known)
            problems.add(
                f"workloads.{workload.name}.instance",
                f'there is no instance "{workload.instance}"{hint}',
            )
    _check_after("instances", {i.name: i.after for i in spec.instances}, problems)
    _check_after("workloads", {w.name: w.after for w in spec.workloads}, problems)


def rings(after: Mapping[str, Iterable[str]]) -> list[list[str]]:
    """One ring per knot of names that wait for each other, e.g. [["a", "b"]]: a -> b -> a."""
    with suppress(CycleError):
        TopologicalSorter(after).prepare()
        return []
    import networkx as nx  # a fifth of the time to start with, and rings are rare

    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_edges_from((name, other) for name, others in after.items() for other in others)
    found = []
    for knot in nx.strongly_connected_components(graph):
        start = min(knot)
        if len(knot) > 1 or graph.has_edge(start, start):
            ring = nx.find_cycle(graph.subgraph(knot), start)
            found.append([edge[0] for edge in ring])
    return sorted(found)


def _names_once(where: str, names: Sequence[str], problems: Problems) -> None:
    for name, count in Counter(names).items():
        if count > 1:
            problems.add(f"{where}.{name}", f"the name is used {count} times")


def _check_after(where: str, after: Mapping[str, Sequence[str]], problems: Problems) -> None:
    kind = where.removesuffix("s")
    for name, others in after.items():
        for other in others:
            if other not in after:
                hint = problems.hint(other, after)
                problems.add(f"{where}.{name}.after", f'there is no {kind} "{other}"{hint}')
    for ring in rings(after):
        way = " -> ".join([*ring, ring[0]])
        problems.add(f"{where}.{ring[0]}.after", f"waits for itself: {way}")
