"""The seam for host models: what a schedule asks of a host, and what all hosts have in common.

A model is a `Host` with effects of its own, and with its own invariants in `check_now`,
`check_stop` and `check_end`. It is the engine's driver, too: the verbs here put faults and the
invariants that hold for every host around the model's `do`, `undo` and `look`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from orchestrator.engine.fold import MOST_CRASHES
from orchestrator.engine.identity import Identity
from orchestrator.engine.order import order_of
from orchestrator.engine.state import PERFORMED, Status, TransactionState
from orchestrator.model.errors import ErrorClass, MkupgradeError
from orchestrator.model.outcomes import Outcome
from orchestrator.model.seams import StepContext
from orchestrator.model.steps import (
    Inspected,
    Inspection,
    Reversibility,
    Section,
    Step,
    StepGraph,
)
from tests.crash.invariants import Invariant, Violation, hold
from tests.crash.simulation import Simulation

ABSENT, PRESENT, PARTIAL = Inspection.ABSENT, Inspection.PRESENT, Inspection.PARTIAL
UNKNOWN = Inspection.UNKNOWN
PIVOT, COMMIT = Reversibility.PIVOT, Reversibility.COMMIT
REVERSIBLE = Reversibility.REVERSIBLE
CLASSES = tuple(ErrorClass)
_THERE = frozenset({PRESENT, PARTIAL})
NOT_THERE = frozenset({Status.PENDING, Status.REVERTED, Status.GIVEN_UP})


class InjectedError(Exception):
    """A driver's bug on purpose. Any other exception that is no MkupgradeError is a real one."""


class Host(ABC):
    """A pretend host under a plan, as the driver of the real engine."""

    name: str
    kernel_name: str
    """`uname -r`, for the trace."""
    deadline = 2.0
    """Seconds that a step may take, for drawing what is too long."""

    def __init__(self, sim: Simulation, graph: StepGraph) -> None:
        self.sim, self.graph = sim, graph
        self.steps = {s.id: s for s in graph.steps}
        order = order_of(graph)
        self.before, self.after = order.before, order.after
        self.done: set[str] = set()
        """Steps whose whole effect was brought about and not taken back: what the host saw,
        not what the engine was told."""
        self.unrevertible: set[str] = set()
        self.doubted: list[str] = []
        """Steps of which this process was told that nobody knows."""
        self.commit_begun = False

    # -- what a model is made of

    @abstractmethod
    def identity(self) -> Identity: ...

    @abstractmethod
    def do(self, step: Step, context: StepContext) -> dict[str, Any]:
        """The whole effect; of a pivot: the jump into the target kernel."""

    @abstractmethod
    def do_half(self, step: Step, context: StepContext) -> None:
        """Such that `truth` says PARTIAL; of a step that can be whole or not at all: nothing."""

    @abstractmethod
    def undo(self, step: Step, context: StepContext) -> dict[str, Any]: ...

    @abstractmethod
    def look(self, step: Step, context: StepContext) -> Inspected: ...

    @abstractmethod
    def truth(self, step: Step) -> Inspection | None:
        """Is its effect there? None: it has none that could be seen, or is a pivot."""

    def is_goal(self, step: Step) -> bool:
        """It may be there without the step's doing: a state of the host that is wanted."""
        return False

    @abstractmethod
    def reset(self, kernel: str | None = None) -> None:
        """Power cut, panic: through the firmware into the default, or into a third kernel."""

    @abstractmethod
    def boot_old(self) -> None:
        """By hand, in the firmware's menu: the kernel from before the transaction."""

    @abstractmethod
    def process_died(self) -> None: ...

    @abstractmethod
    def damage_payload(self, *, lost: bool) -> None:
        """Of what is handed over and just arrived: one is missing, or not whole."""

    def look_after(self) -> None:  # noqa: B027 (a hook)
        """The operator was told `unknown`, looks, and sets right what is wrong."""

    def check_now(self) -> None:  # noqa: B027 (a hook)
        """Whatever holds between any two events."""

    def check_stop(self, state: TransactionState) -> None:  # noqa: B027 (a hook)
        """Whatever holds where the process stands still, besides `KNOWN`."""

    @abstractmethod
    def check_end(self, state: TransactionState, *, died_after: bool) -> None:
        """Whatever holds for the outcome. `died_after`: the end was on the disk, then the
        process died."""

    @property
    @abstractmethod
    def in_third_kernel(self) -> bool: ...

    # -- the driver

    def observe(self, spec: Any) -> Any:
        raise NotImplementedError

    def close(self) -> None:  # noqa: B027 (a hook)
        pass

    def perform(self, step: Step, context: StepContext) -> dict[str, Any]:
        with _no_other_bugs:
            return self._perform(step, context)

    def inspect(self, step: Step, context: StepContext) -> Inspected:
        with _no_other_bugs:
            return self._inspect(step, context)

    def revert(self, step: Step, context: StepContext) -> dict[str, Any]:
        with _no_other_bugs:
            return self._revert(step, context)

    def _perform(self, step: Step, context: StepContext) -> dict[str, Any]:
        sim = self.sim
        sim.ledger.use("perform", step.id, context.attempt)
        self._may_perform(step, context)
        if sim.trace is not None:
            sim.say("  perform", step.id)
        if step.reversibility is PIVOT:
            return self._jump(step, context)
        match sim.fault("perform"):
            case "die-before":
                sim.die()
            case "die-halfway":
                self.do_half(step, context)
                sim.die()
            case "die-after":
                self._do(step, context)
                sim.die()
            case "error":
                raise MkupgradeError("no", error_class=sim.choices.pick(CLASSES))
            case "error-halfway":
                self.do_half(step, context)
                raise MkupgradeError("half", error_class=ErrorClass.BUSY)
            case "error-done":
                self._do(step, context)
                raise MkupgradeError("yet it is there", error_class=ErrorClass.TIMEOUT)
            case "bug":
                raise InjectedError("oops")
        return self._do(step, context)

    def _do(self, step: Step, context: StepContext) -> dict[str, Any]:
        if step.reversibility is COMMIT:
            self.commit_begun = True
        result = self.do(step, context)
        self.done.add(step.id)
        return result

    def _may_perform(self, step: Step, context: StepContext) -> None:
        there = None if self.is_goal(step) else self.truth(step)
        if there in _THERE:
            raise Violation(Invariant.NO_EFFECT_TWICE, f"{step.id} performed while {there}")
        if step.id in context.results:
            raise Violation(Invariant.KNOWN, f"{step.id} has a result and no effect")
        for earlier in self.before[step.id]:
            if earlier not in self.done:
                other = self.steps[earlier]
                reached = self.is_goal(other) and self.truth(other) is PRESENT
                hold(Invariant.ORDER, reached, f"{step.id} came before {earlier}")
        if step.reversibility is not REVERSIBLE:
            self._may_decide(step)

    def _may_decide(self, step: Step) -> None:
        """Pivot and commit: all others of the section are done, but those behind it."""
        behind = self._behind(step.id)
        for other in self.graph.steps:
            if other.section is step.section and other.id not in behind and other.id != step.id:
                done = other.id in self.done or self.is_goal(other)
                hold(Invariant.ALONE, done, f"{step.id} ran before {other.id}")

    def _behind(self, step_id: str) -> set[str]:
        todo = list(self.after[step_id])
        for later in todo:
            todo += self.after[later]
        return set(todo)

    def _jump(self, step: Step, context: StepContext) -> dict[str, Any]:
        sim = self.sim
        match sim.fault("pivot", 4.0):
            case "error":
                raise MkupgradeError("busy", error_class=ErrorClass.BUSY)
            case "die-before":
                sim.die()
            case "no-return":
                self._do(step, context)
                self._cut_off()
            case "panic":
                self.reset()
                self._cut_off()
            case "third-kernel":
                self.reset("rescue")
                self._cut_off()
            case "payload-lost" | "payload-torn" as kind:
                self._do(step, context)
                self.damage_payload(lost=kind == "payload-lost")
                self._cut_off()
        return self._do(step, context)

    def _cut_off(self) -> None:
        """A kexec, too, leaves nothing of the process, and of the disk only what was synced."""
        self.sim.say("  cut off by the jump, now in", self.kernel_name)
        self.sim.disk.cut()
        self.sim.gone()

    def _inspect(self, step: Step, context: StepContext) -> Inspected:
        sim = self.sim
        match sim.fault("inspect"):
            case "die":
                sim.die()
            case "unknown":
                return self._seen(step, Inspected(verdict=Inspection.UNKNOWN, reason="cannot tell"))
            case "busy":
                raise MkupgradeError("busy", error_class=ErrorClass.BUSY)
            case "bug":
                self.doubted.append(step.id)
                raise InjectedError("oops")
        return self._seen(step, self.look(step, context))

    def _seen(self, step: Step, found: Inspected) -> Inspected:
        if found.verdict is UNKNOWN:
            self.doubted.append(step.id)
        if self.sim.trace is not None:
            self.sim.say("  inspect", step.id, found.verdict.value)
        return found

    def _revert(self, step: Step, context: StepContext) -> dict[str, Any]:
        sim = self.sim
        sim.ledger.use("revert", step.id, context.attempt)
        self._may_revert(step)
        if sim.trace is not None:
            sim.say("  revert", step.id)
        match sim.fault("revert"):
            case "die-before":
                sim.die()
            case "die-halfway":
                self.do_half(step, context)
                sim.die()
            case "die-after":
                self._undo(step, context)
                sim.die()
            case "error":
                self.unrevertible.add(step.id)
                raise MkupgradeError("no", error_class=ErrorClass.FAILED)
            case "error-halfway":
                self.do_half(step, context)
                self.unrevertible.add(step.id)
                raise MkupgradeError("half", error_class=ErrorClass.BUSY)
            case "error-done":
                self._undo(step, context)
                raise MkupgradeError("yet it is gone", error_class=ErrorClass.TIMEOUT)
            case "bug":
                self.unrevertible.add(step.id)
                raise InjectedError("oops")
        return self._undo(step, context)

    def _may_revert(self, step: Step) -> None:
        hold(Invariant.ORDER, step.reversibility is not PIVOT, "a pivot cannot be reverted")
        if self.truth(step) is not PRESENT:
            return  # a part of it goes away wherever it is found
        for later in self.after[step.id]:
            other = self.steps[later]
            if later in self.unrevertible or self.truth(other) is not PRESENT:
                continue
            if self.is_goal(other) and later not in self.done:
                continue  # there without its doing
            given_up = self.sim.ledger.died_reverting(later) >= MOST_CRASHES
            hold(Invariant.ORDER, given_up, f"{step.id} reverted before {later}")

    def _undo(self, step: Step, context: StepContext) -> dict[str, Any]:
        result = self.undo(step, context)
        self.done.discard(step.id)
        return result

    # -- what holds for every host

    def check_known(self, state: TransactionState) -> None:
        """Where a process stands still, what it believes of the running section is so."""
        if state.unknown is not None or state.doubts or state.lost is not None:
            return  # it did not come to look at everything
        steps = state.of_section()
        if state.interrupted and any(s.is_pivot and s.status is Status.FAILED for s in steps):
            return  # nor here: where the failed jump has led is what the next one looks at
        for s in steps:
            if s.behind or s.doubt or s.is_pivot:
                continue
            truth = self.truth(s.step)
            if truth is None:
                continue
            if s.status is PERFORMED and truth is not PRESENT:
                raise Violation(
                    Invariant.KNOWN, f"{s.step.id} counts as done, and is {truth.value}"
                )
            if s.status in NOT_THERE and truth in _THERE and not self.is_goal(s.step):
                what = f"{s.step.id} counts as {s.status.value}, and is {truth.value}"
                raise Violation(Invariant.KNOWN, what)

    def check_doubt(self, state: TransactionState, *, abandoned: bool) -> None:
        """Whatever could not be told stopped the transaction."""
        if state.outcome is Outcome.UNKNOWN:
            told = bool(self.doubted) or abandoned or state.unknown is not None
            hold(Invariant.UNKNOWN_STOPS, told, "unknown, and nobody had said so")
        elif self.doubted and not state.interrupted:
            # The one thing that may follow: another pivot knew the kernel.
            pivots = [s.id for s in self.graph.section(Section.RETURN) if s.reversibility is PIVOT]
            known = any(p in self.doubted for p in pivots)
            what = f"nobody knows of {self.doubted[0]}, and the outcome is {state.outcome}"
            hold(Invariant.UNKNOWN_STOPS, known, what)


class _NoOtherBugs:
    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: Any, trace: Any) -> None:
        ours = kind is None or issubclass(kind, (MkupgradeError, InjectedError))
        if not ours and isinstance(error, Exception):
            raise Violation(Invariant.NO_BUG, f"{kind.__name__}: {error}") from error


_no_other_bugs = _NoOtherBugs()
