"""Steps and the step graph: plain data, saved and diffed as JSON.

A graph has three *sections*:

- `forward`: from the old kernel to the new one and on to commit.
- `return`: run when something fails behind the pivot while the new kernel works: state is
  taken again and the host jumps back. Ends in a pivot of its own.
- `recover`: run in the old kernel after the host came back to it, through `return` or by
  itself (panic, watchdog, power): workloads are brought back from the best state there is.

Failure before the pivot needs no section: performed steps are reverted in reverse order.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any

from pydantic import Field

from orchestrator.model.base import Record, digest
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


class Step(Record):
    """One entry of the graph. `kind` and `params` mean something to drivers only."""

    id: str
    """Stable across runs of the planner: "<kind>/<object>", "return." or "recover." before
    it in those sections."""
    kind: str
    title: str
    """For people: "Load Linux 7.3.4 for kexec"."""
    section: Section = Section.FORWARD
    params: dict[str, Any] = {}
    reversibility: Reversibility = Reversibility.REVERSIBLE
    requires: list[Cap] = []
    resources: list[str] = []
    """Resources it uses one unit of while it runs, e.g. "kexec", "disk", "workload"."""
    estimate: float = 0.0
    """Expected duration, seconds."""
    deadline: float = 60.0
    """One attempt may take this long, seconds."""
    retry: RetryPolicy = RetryPolicy()
    blackout: bool = False
    """Workloads stand still while this step runs; summed up as the expected blackout."""


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
        return digest(self.model_dump(mode="json"))

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
