"""Bugs put in on purpose: a simulator that does not find them is missing something."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Any

from orchestrator.drivers.carrying import carry
from orchestrator.drivers.carrying.ends import End
from orchestrator.drivers.carrying.requests import Verb
from orchestrator.drivers.multikernel import asking, placing, running
from orchestrator.drivers.multikernel.changing import ChangeFailedError
from orchestrator.drivers.simulated import kernels, states
from orchestrator.drivers.simulated.jobs import absent
from orchestrator.engine import core, doubts, events, fold, transaction
from orchestrator.engine.agenda import Agenda, Fitness
from orchestrator.engine.journal import Journal
from orchestrator.engine.runner import Runner
from orchestrator.engine.state import Status
from orchestrator.engine.transaction import Engine
from orchestrator.engine.workers import describe
from orchestrator.model.errors import DeadlineError
from orchestrator.model.steps import Inspection
from tests.crash.instance_plans import NEW, SUMS
from tests.crash.simulation import patched


@dataclass(frozen=True)
class Mutant:
    """One bug, and the schedules that are to find it (`schedule.SETUPS`)."""

    put_in: Callable[[], AbstractContextManager[None]]
    setup: str = "fast"


MUTANTS: dict[str, Mutant] = {}


def _mutant(setup: str = "fast") -> Callable[[Any], Any]:
    """Register a function that returns the changes for `patched`."""

    def register(changes: Callable[[], tuple[tuple[Any, str, Any], ...]]) -> Any:
        name = changes.__name__.strip("_").replace("_", "-")
        MUTANTS[name] = Mutant(lambda: patched(*changes()), setup)
        return changes

    return register


def _event(kind: str, instead: Any) -> tuple[Any, str, Any]:
    """The fold of an event type, replaced in a copy of the table."""
    return (fold, "_APPLY", {**fold._APPLY, kind: instead})


def _verdict(wrong: Inspection, believed: Inspection) -> tuple[Any, str, Any]:
    def inspected(state: Any, event: events.StepInspected, at: Any) -> None:
        if event.verdict is wrong:
            event = replace(event, verdict=believed)
        real(state, event, at)

    real = fold._APPLY["inspected"]
    return _event("inspected", inspected)


# -- the runner and the journal


@_mutant()
def _effect_before_its_intention_is_durable() -> Any:
    def turn(self: Runner, first: Any) -> None:
        if self._over:
            return
        self._collect(first)
        self._commit()  # of the turn before: its calls were made already
        for command in self._listen_and_decide():
            self._dispatch(command)
        if self.state.stopped:
            self._commit()

    return ((Runner, "_turn", turn),)


@_mutant()
def _failed_commit_believed() -> Any:
    @contextmanager
    def writing(self: Journal) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

    return ((Journal, "_writing", writing),)


@_mutant()
def _fsync_after_a_failed_one_believed() -> Any:
    return ((Journal, "take_over", Journal.reload),)


@_mutant()
def _hash_of_the_wrong_predecessor() -> Any:
    def stage(self: Journal, *rest: Any) -> Any:
        before = self._head
        envelope = real(self, *rest)
        if len(self._staged) == 2:
            self._head = before
        return envelope

    real = Journal.stage
    return ((Journal, "stage", stage),)


@_mutant()
def _lock_ignored() -> Any:
    def take_lock(self: Engine, verb: str, transaction: str | None = None) -> None:
        self._journal.take_over()

    return ((Engine, "_take_lock", take_lock),)


@_mutant()
def _lock_let_go_with_calls_at_work() -> Any:
    return ((Runner, "abandoned", property(lambda self: bool(self._flights))),)


@_mutant()
def _deadline_taken_for_no_effect() -> Any:
    def leave_alone(self: Runner, flight: Any) -> None:
        step = flight.step.id
        if flight.verb != "inspect":
            failed = events.StepFailed if flight.verb == "perform" else events.RevertFailed
            error = describe(DeadlineError("too long", where=step))
            self._stage(failed(step=step, attempt=flight.attempt, error=error, seconds=0.0))
        verdict = Inspection.ABSENT
        self._stage(events.StepInspected(step=step, verdict=verdict, reason="too long"))

    return ((Runner, "_leave_alone", leave_alone),)


# -- the fold and the core


@_mutant()
def _no_inspection_after_a_crash() -> Any:
    def raise_all(state: Any, boot_id: str, *, crashed: bool) -> None:
        doubts.forget(state)
        state.unknown = None
        for s in state.of_section():
            if s.status in {Status.INTENDED, Status.FAILED}:
                s.status = Status.PENDING

    return ((doubts, "raise_all", raise_all),)


@_mutant()
def _unknown_rounded_up_to_done() -> Any:
    return (_verdict(Inspection.UNKNOWN, Inspection.PRESENT),)


@_mutant()
def _failed_believed_to_be_done() -> Any:
    def failed(state: Any, event: events.StepFailed, at: Any) -> None:
        state.release(event.step)
        fold._now_performed(state, state.steps[event.step], {})

    return (_event("failed", failed),)


@_mutant()
def _revert_order_reversed() -> Any:
    def agenda(state: Any) -> Agenda:
        steps = (s.step for s in state.of_section())
        return Agenda(
            steps, state.before, state.after, lambda step: core._of_revert(state.steps[step.id])
        )

    return ((core, "_agenda_of_reverts", agenda),)


def _agenda_of_starts(alone: Callable[[Any], bool]) -> Callable[[Any], Agenda]:
    """As `core._agenda_of_starts`, but for what must run alone."""

    def agenda(state: Any) -> Agenda:
        made = real(state)
        fitness = made._fitness

        def changed(step: Any) -> Fitness:
            found = fitness(step)
            return "start" if found == "alone" and not alone(state.steps[step.id]) else found

        made._fitness = changed
        return made

    real = core._agenda_of_starts
    return agenda


@_mutant()
def _pivot_not_alone() -> Any:
    return ((core, "_agenda_of_starts", _agenda_of_starts(lambda s: s.is_commit)),)


@_mutant()
def _commit_before_the_checks() -> Any:
    def start(graph: Any, **rest: Any) -> Any:
        state = real(graph, **rest)
        state.before = dict(state.before)
        state.after = {s: [*later] for s, later in state.after.items()}
        for s in state.steps.values():
            if s.is_commit:
                pivots = [b for b in state.before[s.step.id] if state.steps[b].is_pivot]
                for earlier in state.before[s.step.id]:
                    if earlier not in pivots:
                        state.after[earlier].remove(s.step.id)
                state.before[s.step.id] = pivots
        return state

    real = fold.start
    return (
        (fold, "start", start),
        (transaction, "start", start),
        (core, "_agenda_of_starts", _agenda_of_starts(lambda s: s.is_pivot)),
    )


@_mutant()
def _lost_pivot_taken_as_present() -> Any:
    return (_verdict(Inspection.LOST, Inspection.PRESENT),)


@_mutant()
def _retry_over_a_partial_effect() -> Any:
    return (_verdict(Inspection.PARTIAL, Inspection.ABSENT),)


@_mutant()
def _recovery_forgets_reverting() -> Any:
    def resumed(state: Any, event: Any, at: Any) -> None:
        real(state, event, at)
        state.reverting = False

    real = fold._APPLY["resumed"]
    return (_event("resumed", resumed),)


# -- the simulated driver


@_mutant("driver")
def _boot_default_set_before_the_commit() -> Any:
    def perform(self: Any, world: Any, p: Any, job: Any) -> Any:
        result = real(self, world, p, job)
        world.entries["early"] = world.kernel
        world.default = "early"
        return result

    real = kernels.Jump.perform
    return ((kernels.Jump, "perform", perform),)


@_mutant("driver")
def _state_dropped_before_its_copy_is_durable() -> Any:
    def perform(self: Any, world: Any, p: Any, job: Any) -> Any:
        result = real(self, world, p, job)
        name = p.workload.name
        staged = world.staged[job.key]
        staged[name] = staged[name].model_copy(update={"durable": False})
        world.spilled.get(job.key, {}).pop(name, None)
        world.workloads[name].status = "gone"
        return result

    real = states.Checkpoint.perform
    return ((states.Checkpoint, "perform", perform),)


@_mutant("driver")
def _half_of_a_way_back_called_absent() -> Any:
    def inspect(self: Any, world: Any, p: Any, job: Any) -> Any:
        found = real(self, world, p, job)
        return absent("lapsed") if found.verdict is Inspection.PARTIAL else found

    real = kernels.ArmFallback.inspect
    return ((kernels.ArmFallback, "inspect", inspect),)


# -- the multikernel driver: what only `resources-conserved` sees


@_mutant("instances")
def _old_generation_made_again_in_part_believed() -> Any:
    def revert(self: Any, job: Any, params: Any) -> Any:
        try:
            return real(self, job, params)
        except ChangeFailedError:
            return {}

    real = placing.RemoveHandler.revert
    return (
        (placing, "_TRIES", 1),
        (placing.RemoveHandler, "revert", revert),
    )


@_mutant("instances")
def _old_generation_gets_the_new_image() -> Any:
    def revert(self: Any, job: Any, params: Any) -> Any:
        image = {"image": NEW, "image_sha256": SUMS[NEW]}
        back = params.back and params.back.model_copy(update=image)
        return real(self, job, params.model_copy(update={"back": back}))

    real = running.UnloadHandler.revert
    return ((running.UnloadHandler, "revert", revert),)


@_mutant("instances")
def _workload_taken_as_moved_by_an_earlier_boot() -> Any:
    return ((asking.proc, "boot_id", lambda: "any"),)


# -- state that agents carry between instances


@_mutant("carrying")
def _lost_answer_of_a_restore_taken_for_none() -> Any:
    return ((carry, "_ASKED", ("ended",)),)


@_mutant("carrying")
def _target_without_an_agent_left_running() -> Any:
    def emptied(self: Any, target: End, *rest: Any) -> Any:
        return real(self, replace(target, fence=lambda: None), *rest)

    real = carry.Carrier._emptied
    return ((carry.Carrier, "_emptied", emptied),)


@_mutant("carrying")
def _state_dropped_by_the_host_once_it_is_passed_on() -> Any:
    def bring(self: carry.Carrier, target: End) -> Any:
        parcel = self._newest(self._records.read(self._took) or {})
        self._make_room(target)
        self._ahead.pass_on(target, parcel)
        for it in (parcel, parcel.copied_ahead()):
            it.channel(self._state_dir).discard()
        note = {"section": parcel.section.value}
        self._records.write(self._brought, {**note, "phase": "asked"})
        restored = target.work(Verb.BRING, self._cargo, parcel, self._control)
        self._records.write(self._brought, {**note, "phase": "ended"})
        return {"pids": restored["pids"]}

    return ((carry.Carrier, "bring", bring),)
