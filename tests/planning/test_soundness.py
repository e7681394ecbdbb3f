"""Graphs that must not run, whoever made them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator import planning
from orchestrator.model.errors import PlanError
from orchestrator.model.steps import Reversibility, Section


@pytest.fixture
def graph(make_spec, make_host):
    spec = make_spec()
    return planning.plan(spec, make_host(spec))


def refused(graph, **changes) -> str:
    with pytest.raises(PlanError) as caught:
        planning.check_graph(graph.model_copy(update=changes))
    return "\n".join(caught.value.details)


def only(graph, *sections):
    steps = [s for s in graph.steps if s.section in sections]
    ids = {s.id for s in steps}
    return {"steps": steps, "edges": [e for e in graph.edges if set(e) <= ids]}


def changed(graph, step_id, **update):
    return [replace(s, **update) if s.id == step_id else s for s in graph.steps]


def test_a_planned_graph_is_sound(graph):
    planning.check_graph(graph)


def test_a_pivot_without_a_way_back_is_refused(graph):
    said = refused(graph, **only(graph, Section.FORWARD))
    assert "section return has 0 pivots, not one" in said
    assert "section recover is empty" in said


def test_a_return_that_does_not_end_in_its_pivot_is_refused(graph):
    edges = [*graph.edges, ("return.jump/host", "return.restore-boot-default/host")]
    edges = [e for e in edges if e[0] != "return.restore-boot-default/host"]
    assert "must be its end" in refused(graph, edges=edges)


def test_rings_are_refused(graph):
    edges = [*graph.edges, ("clean-up/host", "preflight/host")]
    assert "section forward: a ring: " in refused(graph, edges=edges)


def test_unknown_ends_of_edges_are_refused_with_the_nearest_step(graph):
    said = refused(graph, edges=[("preflight/host", "load-kernel/hots")])
    assert 'there is no step "load-kernel/hots" (did you mean "load-kernel/host"?)' in said


def test_edges_between_sections_are_refused(graph):
    edges = [*graph.edges, ("jump/host", "recover.clean-up/host")]
    assert "leads from one section into another" in refused(graph, edges=edges)


def test_ids_used_twice_are_refused(graph):
    assert "the id is used 2 times" in refused(graph, steps=[*graph.steps, graph.steps[0]])


def test_unknown_kinds_and_foreign_parameters_are_refused(graph):
    steps = changed(graph, "jump/host", kind="jmp")
    assert 'there is no kind of step "jmp" (did you mean "jump"?)' in refused(graph, steps=steps)
    steps = changed(graph, "jump/host", params={"method": "teleport"})
    assert "step jump/host: params.method: " in refused(graph, steps=steps)


def test_a_second_pivot_and_a_commit_before_the_pivot_are_refused(graph):
    steps = changed(graph, "soak/host", reversibility=Reversibility.PIVOT)
    assert "a second pivot" in refused(graph, steps=steps)
    steps = changed(graph, "load-kernel/host", reversibility=Reversibility.COMMIT)
    said = refused(graph, steps=steps)
    assert "a second commit" in said
    assert "commits before the pivot" in said


def test_a_step_that_could_run_beside_the_pivot_is_refused(graph):
    edges = [e for e in graph.edges if e != ("check-artifacts/host", "preflight/host")]
    assert "step check-artifacts/host: could run beside the pivot" in refused(graph, edges=edges)


@pytest.mark.parametrize("value", [float("inf"), float("nan"), -1.0, 0.0, 1e300])
def test_times_that_are_no_times_are_refused(graph, value):
    steps = changed(graph, "soak/host", deadline=value)
    assert "step soak/host: a deadline of" in refused(graph, steps=steps)
    assert "deadline: " in refused(graph, deadline=value)
    if value:
        steps = changed(graph, "soak/host", estimate=value)
        assert "step soak/host: an estimate of" in refused(graph, steps=steps)


def test_more_units_than_anybody_needs_cost_nothing(graph):
    plenty = graph.model_copy(update={"limits": {"workload": 10**15}})
    planning.check_graph(plenty)
    assert planning.schedule(plenty) == planning.schedule(graph)


def test_a_resource_without_units_is_refused(graph):
    assert "limits.workload: 0 units" in refused(graph, limits={"workload": 0})


def test_a_hostile_graph_of_wrong_names_is_refused_quickly(graph):
    edges = [(f"x{n}", f"y{n}") for n in range(3000)]
    assert refused(graph, edges=edges).count("there is no step") == 6000
