"""What holds for every spec: order, a way back, stable ids, the same plan again."""

from __future__ import annotations

import random

import networkx as nx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator import planning
from orchestrator.model.base import canonical_json
from orchestrator.model.kinds import Kind
from orchestrator.model.params import params_of
from orchestrator.model.spec import UpgradeSpec
from orchestrator.model.steps import Reversibility, Section, StepGraph
from tests.support.profile import examples

few = settings(max_examples=examples(40))
METHODS = (
    {"method": "criu"},
    {"method": "hooks", "save": ["s"], "load": ["l"]},
    {"method": "restart", "start": ["r"]},
)


@st.composite
def workload_lists(draw):
    """Workloads that form a DAG, in any order of writing."""
    count = draw(st.integers(0, 10))
    workloads = []
    for n in range(count):
        after = draw(st.lists(st.integers(0, n - 1), unique=True, max_size=3)) if n else []
        workloads.append(
            {
                "name": f"w{n}",
                "instance": "host",
                "find": {"cmdline": f"w{n}"},
                "migrate": draw(st.sampled_from(METHODS)),
                "channel": draw(st.sampled_from(["auto", "kho", "disk"])),
                "spill": draw(st.booleans()),
                "after": [f"w{m}" for m in after],
            }
        )
    return draw(st.permutations(workloads))


@st.composite
def specs(draw):
    names = draw(st.lists(st.sampled_from("abcd"), unique=True))
    hooks = [{"name": n, "run": ["r"], "undo": draw(st.sampled_from([None, ["u"]]))} for n in names]
    cut = draw(st.integers(0, len(hooks)))
    when = st.lists(st.sampled_from(["before", "after", "soak"]), unique=True)
    checks = [
        {"name": f"c{n}", "kind": "tcp", "port": 80, "when": draw(when)}
        for n in range(draw(st.integers(0, 3)))
    ]
    return {
        "workloads": draw(workload_lists()),
        "checks": checks,
        "hooks": {"before": hooks[:cut], "after": hooks[cut:]},
        "strategy": {"parallel": draw(st.integers(1, 5))},
        "soak": {"duration": draw(st.sampled_from(["0s", "1m"]))},
    }


@pytest.fixture(scope="session")
def planned(session_makers):
    """(changes to the spec, way back by kexec?) -> (spec, host, graph)."""
    make_spec, make_host, without = session_makers

    def plan(changes, *, by_kexec=True):
        spec: UpgradeSpec = make_spec(**changes)
        host = make_host(spec)
        host = host if by_kexec else without(host, "old-kernel")
        return spec, host, planning.plan(spec, host)

    return plan


def before(graph, section):
    """step id -> everything that must come before it."""
    dag = graph.as_networkx(section)
    return {node: nx.ancestors(dag, node) for node in dag}


@few
@given(specs(), st.booleans())
def test_workloads_stop_in_one_order_and_go_on_in_the_opposite_one(planned, changes, by_kexec):
    spec, _, graph = planned(changes, by_kexec=by_kexec)
    earlier = {}
    for section in Section:
        earlier |= before(graph, section)
    for workload in spec.workloads:
        for other in workload.after:
            for prefix in ("", "return."):
                ids = (f"{prefix}checkpoint/{n}" for n in (workload.name, other))
                first, then = ids
                assert first in earlier[then]
            for prefix in ("", "recover."):
                first, then = (f"{prefix}restore/{n}" for n in (other, workload.name))
                assert first in earlier[then]


@few
@given(specs(), st.booleans())
def test_every_pivot_has_a_way_back_and_divides_its_section(planned, changes, by_kexec):
    spec, _, graph = planned(changes, by_kexec=by_kexec)
    planning.check_graph(graph)
    for section in (Section.FORWARD, Section.RETURN):
        (pivot,) = [s for s in graph.section(section) if s.reversibility is Reversibility.PIVOT]
        earlier = before(graph, section)
        for workload in spec.workloads:
            prefix = "" if section is Section.FORWARD else "return."
            assert f"{prefix}checkpoint/{workload.name}" in earlier[pivot.id]
    for workload in spec.workloads:
        assert "jump/host" in before(graph, Section.FORWARD)[f"restore/{workload.name}"]
        assert graph.step(f"recover.restore/{workload.name}")


@few
@given(specs())
def test_the_same_spec_and_host_give_the_same_plan_to_the_letter(planned, changes):
    _, _, once = planned(changes)
    _, _, twice = planned(changes)
    assert planning.save(once) == planning.save(twice)


@few
@given(specs(), st.randoms(use_true_random=False))
def test_ids_do_not_depend_on_the_order_of_writing(planned, changes, shuffle: random.Random):
    _, _, graph = planned(changes)
    again = {
        **changes,
        "workloads": shuffle.sample(changes["workloads"], len(changes["workloads"])),
    }
    _, _, other = planned(again)
    assert {s.id for s in graph.steps} == {s.id for s in other.steps}
    assert set(graph.edges) == set(other.edges)


@few
@given(specs(), st.booleans())
def test_what_is_made_without_validation_is_what_validation_would_make(planned, changes, by_kexec):
    """Steps are plain dataclasses, and the parameters of workloads are put together by hand."""
    spec, _, graph = planned(changes, by_kexec=by_kexec)
    validated = StepGraph.model_validate(graph.model_dump(mode="json"))
    assert repr(validated.steps) == repr(graph.steps)
    for step in graph.steps:
        model = params_of(Kind(step.kind)).model_validate(step.params)
        assert canonical_json(model.model_dump(mode="json")) == canonical_json(step.params)
    assert graph.spec_digest == spec.digest()


@few
@given(specs(), st.booleans())
def test_a_saved_plan_is_read_back_whole_and_is_fresh(planned, changes, by_kexec):
    _, host, graph = planned(changes, by_kexec=by_kexec)
    read = planning.load(planning.save(graph))
    assert read == graph
    assert read.digest() == graph.digest()
    assert planning.staleness(read, host) == []


@few
@given(specs())
def test_the_expected_times_keep_order_and_limits(planned, changes):
    _, _, graph = planned(changes)
    slots = planning.schedule(graph)
    assert slots.keys() == {s.id for s in graph.section(Section.FORWARD)}
    for a, b in graph.edges:
        if a in slots:
            assert slots[a].end <= slots[b].start
    parallel = graph.limits["workload"]
    busy = [s for s in slots.values() if "workload" in s.step.resources]
    for slot in busy:
        at_once = [s for s in busy if s.start <= slot.start < s.end]
        assert len(at_once) <= parallel


@few
@given(specs())
def test_every_plan_can_be_drawn(planned, changes):
    _, _, graph = planned(changes)
    for form in ("svg", "dot", "mermaid", "json"):
        assert planning.draw(graph, form)


@few
@given(specs())
def test_a_host_that_was_upgraded_has_nothing_left_to_do(planned, changes):
    spec, host, graph = planned(changes)
    line = graph.step("load-kernel/host").params["cmdline"]
    kernel = host.kernel.model_copy(
        update={"release": "7.3.4", "cmdline": f"{line} mkupgrade.transaction=t1/forward"}
    )
    assert planning.plan(spec, host.model_copy(update={"kernel": kernel})).is_empty
