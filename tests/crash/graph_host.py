"""A host of bare effects under a random plan: held by the process, by the kernel or by the disk."""

from __future__ import annotations

from typing import Any

from orchestrator.engine.identity import Identity
from orchestrator.engine.state import Status, TransactionState
from orchestrator.model.errors import MkupgradeError
from orchestrator.model.outcomes import Outcome
from orchestrator.model.seams import StepContext
from orchestrator.model.steps import Inspected, Inspection, Section, Step
from tests.crash import graphs
from tests.crash.hosts import ABSENT, COMMIT, PARTIAL, PIVOT, PRESENT, Host
from tests.crash.invariants import Invariant, Violation, hold
from tests.crash.simulation import Simulation

_FOUND = {v: Inspected(verdict=v, reason=f"looked: {v.value}") for v in Inspection}


class GraphHost(Host):
    """Two kernels, `old` and `new`, and a third that nobody planned."""

    name = "graph"
    deadline = graphs.DEADLINE

    def __init__(self, sim: Simulation) -> None:
        super().__init__(sim, sim.choices.shared(graphs.random_graph))
        self.effects = {s.id: ABSENT for s in self.graph.steps}
        self._of_process = [s for s in self.effects if s.endswith("-held")]
        self._of_kernel = [s for s in self.effects if s.endswith(("-held", "-kernel"))]
        self.kernel_name, self.mark, self.boots, self.default = "old", "", 0, "old"
        self._identity = Identity(boot_id="boot-0", release="old", pid=1)
        self.jumped = self.by_hand = False
        n = sim.choices.below(2 * len(self.graph.steps))
        self.doomed = self.graph.steps[n - 1].id if 0 < n <= len(self.graph.steps) else None
        """A step that never works."""

    @property
    def in_third_kernel(self) -> bool:
        return self.kernel_name == "rescue"

    def identity(self) -> Identity:
        return self._identity

    # -- effects

    def do(self, step: Step, context: StepContext) -> dict[str, Any]:
        if step.reversibility is PIVOT:
            back = step.section is Section.RETURN
            self.default = "old" if back else self.default
            self._boot("old" if back else "new", _mark(step, context))
            self.jumped = True
            return {}
        if step.id == self.doomed:
            raise MkupgradeError("never")
        if step.reversibility is COMMIT:
            self.default = self.kernel_name
        self.effects[step.id] = PRESENT
        return {"of": step.id}

    def do_half(self, step: Step, context: StepContext) -> None:
        self.effects[step.id] = PARTIAL

    def undo(self, step: Step, context: StepContext) -> dict[str, Any]:
        self.effects[step.id] = ABSENT
        return {}

    def truth(self, step: Step) -> Inspection | None:
        return None if step.reversibility is PIVOT else self.effects[step.id]

    def look(self, step: Step, context: StepContext) -> Inspected:
        if step.reversibility is not PIVOT:
            return _FOUND[self.effects[step.id]]
        source, target = ("new", "old") if step.section is Section.RETURN else ("old", "new")
        if context.intended_boot_id == self._identity.boot_id:
            return _FOUND[ABSENT]
        if (self.kernel_name, self.mark) == (target, _mark(step, context)):
            return _FOUND[PRESENT]
        if self.kernel_name == source and not self.mark:
            return _FOUND[Inspection.LOST]
        return _FOUND[Inspection.UNKNOWN]

    # -- the machine

    def reset(self, kernel: str | None = None) -> None:
        self._boot(kernel or self.default, "")

    def boot_old(self) -> None:
        self.by_hand = True
        self._boot("old", "")

    def _boot(self, kernel: str, mark: str) -> None:
        self.boots += 1
        self.kernel_name, self.mark = kernel, mark
        self._identity = Identity(boot_id=f"boot-{self.boots}", release=kernel, pid=1)
        for step_id in self._of_kernel:
            self.effects[step_id] = ABSENT

    def process_died(self) -> None:
        for step_id in self._of_process:
            self.effects[step_id] = ABSENT

    def damage_payload(self, *, lost: bool) -> None:
        """Bare effects are not handed over: nothing to lose."""

    # -- what holds

    def check_now(self) -> None:
        if not self.commit_begun:
            hold(Invariant.BOOT_DEFAULT, self.default == "old", "the default before the commit")

    def check_end(self, state: TransactionState, *, died_after: bool) -> None:
        effects = self.effects
        match state.outcome:
            case Outcome.COMMITTED:
                hold(Invariant.COMMITTED, effects["commit"] is PRESENT, "without the commit")
                # Booted by hand behind the commit, the old kernel is the operator's own choice;
                # a reset still ends in the new one.
                lands = self.default == self.kernel_name or (self.by_hand and self.default == "new")
                hold(Invariant.COMMITTED, lands, "another default")
                for step_id in self._before_commit:
                    hold(Invariant.CHECKED, step_id in self.done, f"without {step_id}")
            case Outcome.ROLLED_BACK:
                hold(Invariant.ROLLED_BACK, self.kernel_name == "old", "not in the old kernel")
                # Booted by hand after a commit: what to do then is for the planner to know.
                known = self.default == "old" or (self.by_hand and self.commit_begun)
                hold(Invariant.ROLLED_BACK, known, "another boot default")
                self._check_effects(state, died_after)
            case Outcome.ROLLBACK_INCOMPLETE:
                pass
            case _:
                raise Violation(Invariant.ENDS, f"no end: {state.outcome} {state.reason}")

    def _check_effects(self, state: TransactionState, died_after: bool) -> None:
        recovered = any(
            s.attempt for s in state.steps.values() if s.step.section is Section.RECOVER
        )
        lost = "jump" in state.steps and state.steps["jump"].status is Status.LOST
        if not (recovered or lost or self.jumped):
            left = [s.id for s in self.graph.section(Section.FORWARD) if effects_left(self, s.id)]
            hold(Invariant.ROLLED_BACK, not left, f"left: {', '.join(left)}")
            return
        for step in self.graph.section(Section.RECOVER):
            held = died_after and step.id in self._of_kernel
            there = held or self.effects[step.id] is PRESENT
            hold(Invariant.ROLLED_BACK, there, f"without {step.id}")

    @property
    def _before_commit(self) -> set[str]:
        behind = self._behind("commit")
        forward = {s.id for s in self.graph.section(Section.FORWARD)}
        return forward - behind


def effects_left(host: GraphHost, step_id: str) -> bool:
    return host.effects[step_id] is not ABSENT


def _mark(step: Step, context: StepContext) -> str:
    return f"{context.transaction}/{step.section.value}"
