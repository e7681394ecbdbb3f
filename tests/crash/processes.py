"""One life of a process: the real engine over the real journal, until it stops or dies."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from orchestrator.engine import reserve
from orchestrator.engine.fold import fold, start
from orchestrator.engine.interrupts import Interrupts
from orchestrator.engine.journal import Journal
from orchestrator.engine.queries import report_of
from orchestrator.engine.runner import Runner
from orchestrator.engine.state import TransactionState
from orchestrator.engine.transaction import Engine
from orchestrator.model.errors import LockedError, MkupgradeError
from orchestrator.model.steps import Reversibility, StepGraph
from tests.crash.invariants import Invariant, Violation, hold
from tests.crash.pool import VirtualPool
from tests.crash.simulation import Simulation, VirtualLock

STATE_DIR = Path("/nowhere")
PARALLEL = 4
GRACE = 1.0
JUMPS = (0.7, 50.0, 9000.0, 900_000.0)
"""Seconds by which a wall clock may be wrong."""
DECISIVE = {Reversibility.PIVOT, Reversibility.COMMIT}
COMPARED = (
    "section", "reverting", "outcome", "committed", "crossed", "lost", "results", "failure",
    "requested", "cause", "unknown", "interrupted", "waiting", "reason", "stopped_at",
)  # fmt: skip


class SimulatedJournal(Journal):
    """Tells the ledger of every commit that returned. Made by `Journal.over` as the real one."""

    sim: Simulation
    process: int

    parsed = True
    """Read the plan from the database at each start; else it is known (the tables are not read
    less for it: they hold it to its digest)."""

    def plan(self, transaction: str) -> tuple[StepGraph, str]:
        if self.parsed:
            return super().plan(transaction)
        rows = self._read("SELECT plan_digest FROM transactions WHERE id = ?", transaction)
        return self.sim.host.graph, rows[0][0]

    def _write(self, first: Any) -> Any:
        written = super()._write(first)
        self.sim.ledger.acknowledge(self.process, written)
        return written


class SimulatedEngine(Engine):
    """Keeps its runner to be looked at; numbers transactions instead of drawing their names."""

    runner: Runner
    with_report = True

    def _run(self, runner: Runner) -> Any:
        self.runner = runner
        if self.with_report:
            return super()._run(runner)
        try:
            runner.run()
        finally:
            self._abandoned = self._abandoned or runner.abandoned
        return None

    def _new_id(self) -> str:
        return "t1"


class Process:
    """A process that was started to `apply`, `resume` or `rollback`; see `live`."""

    def __init__(self, sim: Simulation, *, with_report: bool) -> None:
        self.sim = sim
        sim.process += 1
        sim.coverage.lives += 1
        sim.ledger.read(sim.disk.rows(), sim.disk.reader())
        self.whole = sim.with_report = with_report
        # A process in eight reads the log as a new one does, the others know it by its hashes.
        sim.read = {} if with_report else {e.hash: e for e in sim.ledger.log}
        self._pools: list[VirtualPool] = []
        self.journal = self._open_journal(sim.process)
        self.journal.parsed = with_report
        self.interrupts = Interrupts()
        self.engine = self._make_engine(self.journal, sim.process, self._wait)
        self.engine.with_report = with_report
        self.pool = self._pools[0]
        self._looking = False

    def _open_journal(self, process: int) -> SimulatedJournal:
        sim = self.sim
        connection = sim.disk.connect()
        reserve.CHECKPOINT_PAGES = sim.disk.checkpoint_pages
        if sim.disk.name == "memory":
            journal = SimulatedJournal(STATE_DIR / "journal.db", connection, readonly=False)
            journal.reload()
        else:
            journal = SimulatedJournal.over(STATE_DIR / "journal.db", connection)  # type: ignore[assignment]
        journal.sim, journal.process = sim, process
        return journal

    def _make_engine(
        self, journal: Journal, process: int, on_wait: Callable[[], None]
    ) -> SimulatedEngine:
        sim = self.sim
        pool = VirtualPool(sim, on_wait, (sim.host.deadline, GRACE))
        self._pools.append(pool)
        VirtualLock.process = process
        return SimulatedEngine(
            sim.host,
            journal,
            identity=sim.host.identity,
            clock=sim.clock,
            interrupts=self.interrupts,
            pool=pool,
            grace=GRACE,
            parallel=PARALLEL,
        )

    # -- the life

    def live(self, verb: str) -> TransactionState:
        """Until the transaction ends or stands still.

        Raises:
            Died: somewhere.
            MkupgradeError: as from the engine.
        """
        sim, engine = self.sim, self.engine
        sim.say("process", sim.process, verb, "in", sim.host.kernel_name)
        match sim.fault("start"):
            case "die":
                sim.die()
            case "clock-forward":
                sim.offset += sim.choices.pick(JUMPS)
            case "clock-back":
                sim.offset -= sim.choices.pick(JUMPS)
        if verb == "apply":
            verb = "run"
            engine.begin(sim.host.graph)
            match sim.fault("wait", 0.3):
                case "interrupt" | "abort":
                    self.interrupts.request()
                case "interrupt-twice":
                    self.interrupts.stop_now()
        report = (
            engine.rollback("t1", "wanted") if verb == "rollback" else getattr(engine, verb)("t1")
        )
        state = engine.runner.state
        if report is not None:
            same = report == report_of(self.journal, "t1")
            hold(Invariant.FOLD, same, "the report of the live state is another than the log's")
        self._check_fold(state)
        return state

    @property
    def abandoned(self) -> bool:
        """Calls were left to themselves: what they do is not known."""
        return self.engine.runner.abandoned

    def exit(self) -> None:
        """The process ends by itself. Calls that hang may die for it, or still have an effect."""
        self.engine.close()
        if self.pool.at_work:
            held = self.sim.lock_holder == self.sim.process
            hold(Invariant.ONE_RUNNER, held, "the lock was let go with calls still at work")
        self.pool.end_of_process()
        self.journal.close()
        self.sim.host.process_died()
        self.sim.lock_holder = None

    def _check_fold(self, state: TransactionState) -> None:
        log = self.journal.log("t1") if self.whole else self.sim.ledger.log
        again = fold(start(self.sim.host.graph, parallel=PARALLEL), log)
        for name in COMPARED:
            there, here = getattr(again, name), getattr(state, name)
            if there != here:
                raise Violation(Invariant.FOLD, f"{name}: {there!r} in the log, {here!r} alive")
        for step_id, s in again.steps.items():
            if s.status is not state.steps[step_id].status:
                live = state.steps[step_id].status
                raise Violation(Invariant.FOLD, f"{step_id}: {s.status} in the log, {live} alive")

    # -- between any two events

    def _wait(self) -> None:
        self._check_limits()
        sim = self.sim
        sim.host.check_now()
        match sim.fault("wait", 0.3):
            case "die":
                sim.die()
            case "interrupt":
                self.interrupts.request()
            case "interrupt-twice":
                self.interrupts.stop_now()
            case "abort":
                self._second("abort")
            case "second-resume":
                self._second("resume")
            case "second-apply":
                self._second("begin")

    def _check_limits(self) -> None:
        flights = self.engine.runner._flights
        if len(flights) < 2:
            return
        graph = self.sim.host.graph
        used: dict[str, int] = {}
        alone = False
        for f in flights:
            if f.verb != "inspect":
                alone = alone or (f.verb == "perform" and f.step.reversibility in DECISIVE)
                for name in f.step.resources:
                    used[name] = used.get(name, 0) + 1
        for name, units in used.items():
            hold(Invariant.LIMITS, units <= graph.limits.get(name, 1), f"{units} of {name} in use")
        if alone:
            together = ", ".join(f"{f.verb} {f.step.id}" for f in flights)
            raise Violation(Invariant.ALONE, f"in flight together: {together}")
        if sum(f.verb != "inspect" for f in flights) > PARALLEL:
            raise Violation(Invariant.LIMITS, f"{len(flights)} in flight")

    def _second(self, verb: str) -> None:
        """Another process wants to work on this host, too, and must be kept off."""
        sim, me = self.sim, self.sim.process
        other = self._make_engine(self._open_journal(-me), -me, lambda: None)
        try:
            if verb == "begin":
                other.begin(sim.host.graph)
            elif verb == "resume":
                other.resume("t1")
            else:
                hold(Invariant.ONE_RUNNER, other.abort("t1", "asked") is None, "two abort")
                return
        except LockedError:
            return
        except MkupgradeError as error:
            raise Violation(Invariant.ONE_RUNNER, f"a second {verb} got past the lock") from error
        raise Violation(Invariant.ONE_RUNNER, f"a second {verb} was let in")
