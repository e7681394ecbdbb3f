"""Pictures of a plan, in every form."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from xml.etree import ElementTree as ET

import networkx as nx
import pytest

from orchestrator import planning
from orchestrator.model.errors import NotSupportedError
from orchestrator.planning.layout import BOX_HEIGHT, sections_of

NASTY = '"]; <b> & \\ -->\x07\n'


@pytest.fixture
def graph(make_spec, make_host, workload_data):
    workloads = [workload_data("db"), workload_data("web", after=["db"]), workload_data("x")]
    spec = make_spec(workloads=workloads)
    return planning.plan(spec, make_host(spec))


@pytest.fixture
def wide(make_spec, make_host, workload_data):
    spec = make_spec(workloads=[workload_data(f"w{n}") for n in range(500)])
    return planning.plan(spec, make_host(spec))


def parsed(svg):
    return ET.fromstring(svg)  # noqa: S314 (our own output)


def nasty(graph):
    return graph.model_copy(update={"steps": [replace(s, title=NASTY) for s in graph.steps]})


def test_the_json_form_is_read_by_networkx(graph):
    # Before 3.4 that was what the edges are called, and could not be said so.
    words = {"edges": "links"} if tuple(map(int, nx.__version__.split(".")[:2])) >= (3, 4) else {}
    dag = nx.node_link_graph(json.loads(planning.draw(graph, "json")), **words)
    assert set(dag.nodes) == {s.id for s in graph.steps}
    assert set(dag.edges) == set(graph.edges)
    assert dag.nodes["jump/host"]["reversibility"] == "pivot"


def test_dot_and_mermaid_have_every_step_and_edge(graph):
    dot, mermaid = planning.draw(graph, "dot"), planning.draw(graph, "mermaid")
    assert dot.count(" -> ") == mermaid.count(" --> ") == len(graph.edges)
    for step in graph.steps:
        assert f'"{step.id}" [label=' in dot
        assert step.title in mermaid


def test_titles_cannot_break_out_of_any_form(graph):
    dot, mermaid = (planning.draw(nasty(graph), form) for form in ("dot", "mermaid"))
    assert "<b>" not in mermaid
    assert dot.count("\n") == planning.draw(graph, "dot").count("\n")
    assert mermaid.count("\n") == planning.draw(graph, "mermaid").count("\n")
    parsed(planning.draw(nasty(graph), "svg"))


def test_the_picture_is_whole_and_needs_nothing_from_outside(graph):
    svg = planning.draw(graph, "svg")
    root = parsed(svg)
    assert root.tag.endswith("svg")
    texts = [t for t in root.itertext() if t.strip()]
    for word in ("forward", "return", "recover", "Jump into Linux 7.3.4", "jump/host  ·  10.0 s"):
        assert word in texts
    assert "http" not in svg.replace("http://www.w3.org/2000/svg", "")


def test_boxes_of_a_layer_do_not_overlap_and_wires_run_downwards(graph):
    for layout in sections_of(graph).values():
        rows = {}
        for box in layout.boxes:
            rows.setdefault(box.y, []).append(box)
        for row in rows.values():
            row.sort(key=lambda box: box.x)
            for left, right in pairwise(row):
                assert left.left + left.width < right.left
        for wire in layout.wires:
            heights = [y for _, y in wire]
            assert heights == sorted(heights)
        assert max(b.y for b in layout.boxes) + BOX_HEIGHT == pytest.approx(layout.height)


def test_many_workloads_are_folded(wide):
    svg = planning.draw(wide, "svg")
    assert "… and 496 more" in svg
    assert svg.count("<rect") < 120


def test_an_empty_plan_is_a_picture_that_says_so(make_spec, make_host):
    spec = make_spec()
    graph = planning.plan(spec, make_host(spec, kernel__release="7.3.4"))
    for form in ("svg", "dot", "mermaid", "json"):
        assert planning.draw(graph, form)
    assert "nothing to do" in planning.draw(graph, "svg")


def test_an_unknown_form_is_refused(graph):
    with pytest.raises(NotSupportedError, match='no form "png"'):
        planning.draw(graph, "png")
