"""Steps and the step graph: plain data, saved and diffed as JSON.

A graph has three *sections*:

- `forward`: from the old kernel to the new one and on to commit.
- `return`: run when something fails behind the pivot while the new kernel works: state is
  taken again and the host jumps back. Ends in a pivot of its own.
- `recover`: run in the old kernel after the host came back to it, through `return` or by
  itself (panic, watchdog, power): workloads are brought back from the best state there is.

A graph without a pivot is reverted until its commit; `return` and `recover` are then for a rollback
that is asked for behind it, and hold no pivot either.

Failure before the pivot needs no section: performed steps are reverted in reverse order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, Field

from orchestrator.model.base import Plain, Record, canonical_json, json_string
from orchestrator.model.errors import PlanError
from orchestrator.model.host import Cap, HostState
from orchestrator.model.spec.document import UpgradeSpec
from orchestrator.model.spec.policy import RetryPolicy

if TYPE_CHECKING:
    import networkx as nx


class Section(StrEnum):
    FORWARD = "forward"
    RETURN = "return"
    RECOVER = "recover"


class Reversibility(StrEnum):
    REVERSIBLE = "reversible"
    """`driver.revert` takes the effect back."""
    PIVOT = "pivot"
    """No undoing afterwards: from here on the way back is a section."""
    COMMIT = "commit"
    """Irreversible by decision: once performed, the transaction counts as committed, and
    what fails after it is reported but changes nothing back."""


_POLICIES: dict[str, RetryPolicy] = {}
_MOST_POLICIES = 64
_ONCE = RetryPolicy.model_construct()


def _one_of_each(policy: RetryPolicy) -> RetryPolicy:
    """The same object for equal policies: a plan has few different ones and many steps."""
    if len(_POLICIES) > _MOST_POLICIES:
        _POLICIES.clear()
    return _POLICIES.setdefault(repr(policy), policy)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step(Plain):
    """One entry of the graph. `kind` and `params` mean something to drivers only."""

    id: str
    """Stable across runs of the planner: "<kind>/<object>", "return." or "recover." before
    it in those sections."""
    kind: str
    title: str
    """For people: "Load Linux 7.3.4 for kexec"."""
    section: Section = Section.FORWARD
    params: dict[str, Any] = field(default_factory=dict)
    reversibility: Reversibility = Reversibility.REVERSIBLE
    requires: list[Cap] = field(default_factory=list)
    resources: list[str] = field(default_factory=list)
    """Resources it uses one unit of while it runs, e.g. "kexec", "disk", "workload"."""
    estimate: float = 0.0
    """Expected duration, seconds."""
    deadline: float = 60.0
    """One attempt may take this long, seconds."""
    retry: Annotated[RetryPolicy, AfterValidator(_one_of_each)] = _ONCE
    blackout: bool = False
    """Workloads stand still while this step runs; summed up as the expected blackout."""

    def as_dict(self) -> dict[str, Any]:
        content = {name: getattr(self, name) for name in self.__slots__}
        return {**content, "retry": self.retry.model_dump(mode="json")}


class StepGraph(Record):
    """A plan: everything the engine needs, and everything a reader wants to know."""

    format: str = "mkupgrade-plan/v1"
    name: str
    spec_digest: str
    intent_digest: str
    """Spec plus artifacts: equal for "the same upgrade again" on a changed host."""
    state_dir: str
    driver: str
    steps: list[Step] = []
    edges: list[tuple[str, str]] = []
    """(earlier, later), both in the same section."""
    limits: dict[str, int] = {}
    """Units per resource; a resource that is not named has one."""
    deadline: float = 3600.0
    """Seconds from the start until commit."""
    automatic_rollback: bool = True
    changes: list[str] = []
    """What changes from what to what, one line each; empty with no steps: nothing to do."""
    keeps: list[str] = []
    notes: list[str] = []
    """Decisions and their reasons: "channel disk for counter: …"."""
    host: HostState
    """What the plan was made from; compared again before it is applied."""
    spec: UpgradeSpec | None = None
    """The spec that it was made from, so that the host can be observed again in the same way."""

    def digest(self) -> str:
        """SHA-256 over the whole plan: the plan's identity."""
        found = hashlib.sha256()
        for piece in self.pieces():
            found.update(piece.encode())
        return found.hexdigest()

    def pieces(self) -> Iterator[str]:
        """The canonical JSON of the plan, in pieces: as a whole, in dicts and lists, it takes
        ten times the room of its text."""
        rest = self.model_dump(mode="json", exclude={"steps", "edges"})
        before = "{"
        for name in sorted([*rest, "steps", "edges"]):
            yield f'{before}"{name}":'
            before = ","
            if name == "steps":
                yield from _listed(self._step_texts())
            elif name == "edges":
                texts = (f"[{json_string(a)},{json_string(b)}]" for a, b in self.edges)
                yield from _listed(texts)
            else:
                yield canonical_json(rest[name])
        yield "}"

    def _step_texts(self) -> Iterator[str]:
        policies: dict[int, str] = {}
        for step in self.steps:
            retry = policies.get(id(step.retry))
            if retry is None:
                retry = canonical_json(step.retry.model_dump(mode="json"))
                policies[id(step.retry)] = retry
            yield _step_text(step, retry)

    def step(self, step_id: str) -> Step:
        for step in self.steps:
            if step.id == step_id:
                return step
        raise PlanError(f'no step "{step_id}" in plan "{self.name}"')

    def section(self, section: Section) -> list[Step]:
        return [s for s in self.steps if s.section is section]

    def as_networkx(self, section: Section | None = None) -> nx.DiGraph[str]:
        """Nodes: step ids with attribute `step`; edges: earlier -> later."""
        import networkx as nx  # behind a jump, workloads stand still while we import

        graph: nx.DiGraph[str] = nx.DiGraph()
        wanted = self.steps if section is None else self.section(section)
        graph.add_nodes_from((s.id, {"step": s}) for s in wanted)
        graph.add_edges_from((a, b) for a, b in self.edges if a in graph and b in graph)
        return graph

    @property
    def is_empty(self) -> bool:
        return not self.steps


def _listed(texts: Iterator[str]) -> Iterator[str]:
    before = "["
    for text in texts:
        yield before + text
        before = ","
    yield "]" if before == "," else "[]"


def _step_text(step: Step, retry: str) -> str:
    """The canonical JSON of a step; a test holds it to what pydantic dumps."""
    lists = (
        f'"params":{canonical_json(step.params) if step.params else "{}"},'
        f'"requires":{canonical_json(step.requires) if step.requires else "[]"},'
        f'"resources":{canonical_json(step.resources) if step.resources else "[]"}'
    )
    return (
        f'{{"blackout":{"true" if step.blackout else "false"},'
        f'"deadline":{float(step.deadline)!r},"estimate":{float(step.estimate)!r},'
        f'"id":{json_string(step.id)},"kind":{json_string(step.kind)},{lists},"retry":{retry},'
        f'"reversibility":"{step.reversibility.value}","section":"{step.section.value}",'
        f'"title":{json_string(step.title)}}}'
    )


class Inspection(StrEnum):
    """What a driver says of an effect when it looks."""

    ABSENT = "absent"
    PRESENT = "present"
    PARTIAL = "partial"
    LOST = "lost"
    """Of a pivot only: it happened, and the host is in the source kernel again."""
    UNKNOWN = "unknown"


class Inspected(Record):
    verdict: Inspection
    reason: str
    """What was looked at and seen. Never empty: it ends up in front of the operator."""
    result: dict[str, Any] = Field(default_factory=dict)
    """With PRESENT: what `perform` would have returned."""
