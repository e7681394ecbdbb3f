"""The engine's front: begin, run, resume, roll back, and look at transactions.

with Engine(driver, journal, reporter=...) as engine:
    transaction = engine.begin(graph)
    report = engine.run(transaction)
"""

from __future__ import annotations

import secrets
import time
from typing import Any

from orchestrator.engine import events, interrupts
from orchestrator.engine.fold import apply, start
from orchestrator.engine.identity import Clock, IdentityProvider, local_identity, steady_clock
from orchestrator.engine.interrupts import Interrupts
from orchestrator.engine.journal import Journal
from orchestrator.engine.lock import HostLock, current_holder
from orchestrator.engine.order import order_of
from orchestrator.engine.pool import ThreadPool
from orchestrator.engine.queries import (
    RolledBack,
    rolled_back_before,
    unfinished,
    unsettled,
)
from orchestrator.engine.report import Story, TransactionReport
from orchestrator.engine.runner import Runner, Surroundings
from orchestrator.engine.state import TransactionState
from orchestrator.engine.workers import Pool
from orchestrator.model.errors import ErrorClass, LockedError, MkupgradeError
from orchestrator.model.outcomes import Outcome
from orchestrator.model.seams import Driver, Reporter
from orchestrator.model.steps import Section, Step, StepGraph

GRACE = 15.0
PARALLEL = 16


class NullReporter:
    """Tells nobody."""

    def event(self, event: Any) -> None:
        pass

    def progress(self, step: Step, text: str, fraction: float | None) -> None:
        pass


class Engine:
    """Runs transactions on this host, one at a time.

    Takes the host lock with the first verb that changes something and keeps it until
    `close`, or, if calls to the driver had to be left running, until the process ends.

    Args:
        driver: carries out the steps; closed by its owner, not by the engine.
        journal: opened for writing.
        reporter: hears of events (as `events.Envelope`) and progress, from one thread at a
            time.
        identity: boot, kernel and process that events are stamped with; for a pretend host,
            that host's.
        clock: unix seconds, steady.
        interrupts: the signal handlers' side of Ctrl-C.
        grace: seconds that a call may go on after its deadline; after that its effect is
            unknown.
        parallel: how many steps may be in flight at once.
    """

    def __init__(
        self,
        driver: Driver,
        journal: Journal,
        *,
        reporter: Reporter | None = None,
        identity: IdentityProvider = local_identity,
        clock: Clock | None = None,
        interrupts: Interrupts | None = None,
        pool: Pool | None = None,
        grace: float = GRACE,
        parallel: int = PARALLEL,
    ) -> None:
        self._journal = journal
        self._parallel = parallel
        self._lock = HostLock(journal.state_dir)
        self._abandoned = False
        self._around = Surroundings(
            driver=driver,
            journal=journal,
            reporter=reporter or NullReporter(),
            identity=identity,
            clock=clock or steady_clock(),
            interrupts=interrupts or Interrupts(),
            pool=pool or ThreadPool(),
            grace=grace,
        )

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the lock and the threads. The journal is closed by its owner."""
        self._around.pool.close()
        if not self._abandoned:
            self._lock.release()

    # -- verbs

    def begin(self, graph: StepGraph, *, again: bool = False) -> str:
        """Record a new transaction, durably; nothing is performed yet.

        Args:
            again: allow a plan that was rolled back before, and a host where the last
                transaction ended unknown or with an incomplete rollback.

        Returns:
            The transaction id: sortable by time, safe in file names.

        Raises:
            LockedError: another transaction is being run on this host.
            PlanError: the graph cannot be executed.
            MkupgradeError: one is unfinished or left the host unsettled, or this plan was rolled
                back before.
        """
        order_of(graph)  # or it cannot be executed
        self._take_lock("apply")
        self._refuse_if_unfinished()
        if not again:
            self._refuse_if_unsettled()
        before = rolled_back_before(self._journal, graph.intent_digest)
        if before is not None and not again:
            raise _rolled_back_before(before)
        transaction = self._new_id()
        self._lock.name_transaction(transaction)
        interrupts.clear_abort(self._journal.state_dir)
        self._journal.begin(transaction, graph, self._stamp())
        return transaction

    def run(self, transaction: str) -> TransactionReport:
        """Run a transaction that `begin` has recorded until it ends or stands still.

        Returns:
            The report; its `exit_code` is the shell's.

        Raises:
            JournalError: the journal cannot be written any more.
        """
        return self._run(self._runner("apply", transaction))

    def resume(self, transaction: str) -> TransactionReport:
        """Go on after a crash, a jump, an interrupt, or after an operator has looked at an
        outcome that was unknown or incomplete. What the journal believes is inspected first."""
        runner = self._runner("resume", transaction)
        self._refuse_if_over(runner.state, transaction)
        runner.note(events.Resumed(reason="resume"))
        return self._run(runner)

    def rollback(self, transaction: str, reason: str) -> TransactionReport:
        """Bring the host back to the kernel from before the transaction.

        Unfinished: what was performed is reverted, or behind the pivot the way back is
        taken. Committed: the plan's way back is taken, as long as the old kernel is kept.
        """
        runner = self._runner("rollback", transaction)
        if runner.state.outcome is Outcome.COMMITTED:
            if not runner.state.graph.section(Section.RETURN):
                raise MkupgradeError(
                    "the plan of this transaction holds no way back",
                    where=transaction,
                    state="nothing was changed",
                    error_class=ErrorClass.INVALID,
                )
            self._refuse_if_unfinished()
        else:
            self._refuse_if_over(runner.state, transaction)
            runner.note(events.Resumed(reason="rollback"))
        runner.note(events.RollbackRequested(reason=reason, by="operator"))
        return self._run(runner)

    def abort(self, transaction: str, reason: str) -> TransactionReport | None:
        """Roll an unfinished transaction back, whoever runs it.

        Returns:
            None: another process runs it and was asked to roll it back.
        """
        try:
            self._take_lock("abort", transaction)
        except LockedError:
            holder = current_holder(self._journal.state_dir)
            if holder is not None and holder.transaction != transaction:
                raise
            interrupts.write_abort(self._journal.state_dir, transaction, reason)
            return None
        return self.rollback(transaction, reason)

    # -- inside

    def _runner(self, verb: str, transaction: str) -> Runner:
        self._take_lock(verb, transaction)
        graph, plan_digest = self._journal.plan(transaction)
        state, story = start(graph, parallel=self._parallel), Story()
        for envelope in self._journal.log(transaction):
            story.see(state, envelope)
            apply(state, envelope)
        return Runner(transaction, plan_digest, state, self._around, story)

    def _run(self, runner: Runner) -> TransactionReport:
        try:
            runner.run()
        finally:
            self._abandoned = self._abandoned or runner.abandoned
        return runner.report()

    def _take_lock(self, verb: str, transaction: str | None = None) -> None:
        fresh = not self._lock.held
        self._lock.acquire(verb, transaction)
        if fresh:
            self._journal.take_over()

    def _stamp(self) -> events.Stamp:
        identity = self._around.identity()
        return events.Stamp(time=self._around.clock(), **identity.model_dump())

    def _new_id(self) -> str:
        """UTC to the second, and four characters against two in one second."""
        when = time.strftime("%Y%m%d-%H%M%S", time.gmtime(self._around.clock()))
        return f"{when}-{''.join(secrets.choice(_ALPHABET) for _ in range(4))}"

    def _refuse_if_unfinished(self) -> None:
        other = unfinished(self._journal)
        if other is not None:
            raise MkupgradeError(
                f"transaction {other} is not finished",
                where=str(self._journal.path),
                state="nothing was changed by this command",
                next_command=f"mkupgrade resume {other}",
                error_class=ErrorClass.BUSY,
            )

    def _refuse_if_unsettled(self) -> None:
        """What a transaction left behind must not be taken for the host as it was."""
        other = unsettled(self._journal)
        if other is not None:
            raise MkupgradeError(
                f"the last transaction {other} left the host as nobody knows, or half-way back",
                where=str(self._journal.path),
                state="nothing was changed by this command",
                next_command=f"mkupgrade resume {other}",
                details=(
                    "mkupgrade resume inspects it again and goes on; if you have looked, and the "
                    "host is as you want it, `mkupgrade apply --again` begins all the same",
                ),
                error_class=ErrorClass.REFUSED,
            )

    def _refuse_if_over(self, state: TransactionState, transaction: str) -> None:
        if state.outcome in {Outcome.COMMITTED, Outcome.ROLLED_BACK}:
            raise MkupgradeError(
                f"the transaction is over: {state.outcome.value}",
                where=transaction,
                state="nothing was changed",
                next_command=f"mkupgrade history {transaction}",
                error_class=ErrorClass.INVALID,
            )
        if state.outcome is not None:
            self._refuse_if_unfinished()


_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"


def _rolled_back_before(before: RolledBack) -> MkupgradeError:
    return MkupgradeError(
        f"this upgrade was rolled back before, by transaction {before.transaction}",
        where=before.name,
        state="nothing was changed",
        next_command="mkupgrade apply --again",
        details=(before.reason,),
        error_class=ErrorClass.REFUSED,
    )
