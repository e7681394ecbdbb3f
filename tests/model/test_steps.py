"""Steps are made without validation; what is made is what would have been validated."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from orchestrator.model.base import canonical_json, digest
from orchestrator.model.host import Cap, HostState, KernelState
from orchestrator.model.spec.policy import RetryPolicy
from orchestrator.model.steps import Reversibility, Section, Step, StepGraph

HOST = HostState(
    driver="d",
    machine_id="m",
    hostname="h",
    boot_id="b",
    kernel=KernelState(release="1", cmdline=""),
)
STEPS = [
    Step(id="a", kind="k", title="t"),
    Step(
        id='b/"ü"\n',
        kind="k",
        title="<\\>",
        section=Section.RETURN,
        params={"z": [1, None, 2.5], "a": {"y": "ü", "x": True}},
        reversibility=Reversibility.PIVOT,
        requires=[next(iter(Cap))],
        resources=["kexec", "disk"],
        estimate=1,
        deadline=1e-7,
        retry=RetryPolicy(attempts=3, deadline="90s"),  # type: ignore[arg-type]
        blackout=True,
    ),
]


def graph(steps: list[Step], edges: Any = ()) -> StepGraph:
    return StepGraph(
        name="n",
        spec_digest="s",
        intent_digest="i",
        state_dir="/x",
        driver="d",
        steps=steps,
        edges=list(edges),
        host=HOST,
    )


@pytest.mark.parametrize("made", [graph([]), graph(STEPS), graph(STEPS[:1], [("a", "a")])])
def test_the_pieces_of_a_plan_are_its_canonical_json(made: StepGraph) -> None:
    text = "".join(made.pieces())
    assert text == canonical_json(made.model_dump(mode="json"))
    assert made.digest() == digest(made.model_dump(mode="json"))
    assert StepGraph.model_validate_json(text) == made


def test_steps_read_back_share_their_policies() -> None:
    first, second = StepGraph.model_validate_json("".join(graph(STEPS[:1] * 2).pieces())).steps
    assert first.retry is second.retry


@pytest.mark.parametrize(
    "change", [{"deadline": "soon"}, {"section": "sideways"}, {"more": 1}, {"requires": ["magic"]}]
)
def test_a_step_that_is_read_is_validated(change: dict[str, Any]) -> None:
    adapter = TypeAdapter(Step)
    content = json.loads(adapter.dump_json(STEPS[1]))
    assert adapter.validate_python(content) == STEPS[1]
    with pytest.raises(ValidationError):
        adapter.validate_python(content | change)
