"""Any workloads, in any dependence on each other, come through and come back."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.model.steps import Inspection, Section
from tests.support.profile import examples

METHODS = (
    {"method": "criu"},
    {"method": "hooks", "save": ["s"], "load": ["l"]},
    {"method": "restart", "start": ["r"]},
)


@st.composite
def workload_lists(draw):
    workloads = []
    for n in range(draw(st.integers(0, 6))):
        after = draw(st.lists(st.integers(0, n - 1), unique=True, max_size=2)) if n else []
        workloads.append(
            {
                "name": f"w{n}",
                "migrate": draw(st.sampled_from(METHODS)),
                "channel": draw(st.sampled_from(["auto", "disk"])),
                "spill": draw(st.booleans()),
                "after": [f"w{m}" for m in after],
            }
        )
    return workloads


@pytest.fixture(scope="session")
def walk_of(make_place):
    """workloads -> a walk on a host of its own."""
    with tempfile.TemporaryDirectory() as root:
        numbers = iter(range(10**6))

        def walk(workloads):
            directory = Path(root) / str(next(numbers))
            directory.mkdir(mode=0o700)
            return make_place(directory).walk(workloads)

        yield walk


def assert_kept(walk, workloads, before):
    after = walk.running()
    assert after.keys() == before.keys()
    for workload in workloads:
        name = workload["name"]
        if workload["migrate"]["method"] != "restart":
            assert after[name][0] == before[name][0], "it was started anew"
            assert after[name][1] >= before[name][1], "it lost what it had counted"


@settings(max_examples=examples(15))
@given(workload_lists())
def test_forward_keeps_every_workload(walk_of, workloads):
    walk = walk_of(workloads)
    before = walk.running()
    walk.run(Section.FORWARD)
    assert walk.driver.world().kernel.release == "7.3.4"
    assert_kept(walk, workloads, before)


@settings(max_examples=examples(15))
@given(workload_lists(), st.data())
def test_the_way_back_keeps_every_workload_wherever_forward_stopped(walk_of, workloads, data):
    walk = walk_of(workloads)
    before = walk.running()
    order = walk.order(Section.FORWARD)
    behind = order[order.index("jump/host") + 1 : order.index("clean-up/host")]
    until = data.draw(st.sampled_from([s for s in behind if not s.startswith("retrieve/")]))
    walk.run(Section.FORWARD, until=until)
    walk.run(Section.RETURN)
    walk.run(Section.RECOVER)
    assert walk.driver.world().kernel.release == "7.2.13"
    assert_kept(walk, workloads, before)


@settings(max_examples=examples(15))
@given(workload_lists(), st.data())
def test_undoing_before_the_jump_keeps_every_workload_where_it_is(walk_of, workloads, data):
    walk = walk_of(workloads)
    before = walk.running()
    order = walk.order(Section.FORWARD)
    up_to_jump = order[: order.index("jump/host") + 1]
    until = data.draw(st.sampled_from(up_to_jump))
    walk.run(Section.FORWARD, until=until)
    walk.revert_all(Section.FORWARD)
    assert walk.driver.world().boots == 1
    assert_kept(walk, workloads, before)
    for step_id in up_to_jump:
        assert walk.inspect(step_id).verdict is Inspection.ABSENT, step_id
