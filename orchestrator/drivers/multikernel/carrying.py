"""Step kinds that carry a workload's state between instances: carry-, take- and bring-workload.

The agents in the instances do it, and `orchestrator.drivers.carrying` has the rules; here is what a
multikernel host adds: the key of each generation, whether its kernel runs, and the power to halt
one whose agent is gone.
"""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.agent.client import About, AgentClient
from orchestrator.drivers.carrying.carry import Carrier
from orchestrator.drivers.carrying.ends import PATIENCE, Cargo, End
from orchestrator.drivers.multikernel import agents, living
from orchestrator.drivers.multikernel.parts import Handler, Job, named, status_of
from orchestrator.drivers.multikernel.seeing import Status
from orchestrator.handover.parcel import Parcel
from orchestrator.model.params.side_by_side import (
    BringWorkload,
    CarryWorkload,
    Reached,
    TakeWorkload,
)
from orchestrator.model.seams import Result
from orchestrator.model.spec.workloads import Workload
from orchestrator.model.steps import Inspected


class CarryHandler(Handler[CarryWorkload]):
    """Both generations run."""

    def perform(self, job: Job, params: CarryWorkload) -> Result:
        source, target = end(job, params.source), end(job, params.target, fenced=True)
        return _carrier(job, params.workload).carry(source, target)

    def inspect(self, job: Job, params: CarryWorkload) -> Inspected:
        source, target = end(job, params.source), end(job, params.target)
        return _carrier(job, params.workload).inspect(source, target)

    def revert(self, job: Job, params: CarryWorkload) -> Result:
        source, target = end(job, params.source), end(job, params.target, fenced=True)
        return _carrier(job, params.workload).undo(source, target)


class TakeHandler(Handler[TakeWorkload]):
    """The generation goes behind it, and boots anew before it is reverted."""

    def perform(self, job: Job, params: TakeWorkload) -> Result:
        return _carrier(job, params.workload).take(end(job, params.instance))

    def inspect(self, job: Job, params: TakeWorkload) -> Inspected:
        return _carrier(job, params.workload).inspect_take(end(job, params.instance))

    def revert(self, job: Job, params: TakeWorkload) -> Result:
        source = end(job, params.instance, patience=params.patience)
        return _carrier(job, params.workload).undo_take(source)


class BringHandler(Handler[BringWorkload]):
    """The generation came before it, and goes after it is reverted."""

    def perform(self, job: Job, params: BringWorkload) -> Result:
        return _carrier(job, params.workload).bring(end(job, params.instance))

    def inspect(self, job: Job, params: BringWorkload) -> Inspected:
        return _carrier(job, params.workload).inspect_bring(end(job, params.instance))

    def revert(self, job: Job, params: BringWorkload) -> Result:
        target = end(job, params.instance, fenced=True)
        return _carrier(job, params.workload).undo_bring(target)


def _carrier(job: Job, workload: Workload) -> Carrier:
    context = job.context
    return Carrier(context.state_dir, job.records, cargo(job, workload), context.control)


def cargo(job: Job, workload: Workload) -> Cargo:
    """It, on the way of this step's section."""
    context = job.context
    parcel = Parcel(context.transaction, context.section, workload.name)
    return Cargo(workload, parcel, context.plan_digest)


def end(job: Job, it: Reached, *, fenced: bool = False, patience: float = PATIENCE) -> End:
    """A generation, as it is reached.

    Args:
        fenced: it may be halted where its agent is gone.
    """
    one = it.generation

    def opened(remaining: Callable[[], float], about: About) -> AgentClient:
        key = agents.key_of(job.context.state_dir, one)
        return job.kernel.open_agent(one.id, it.port, key, remaining, about)

    def fence() -> None:
        job.say(f"halt {one.name}: its agent does not answer")
        living.halt(job.kernel, named(one), job.patience())

    return End(
        one.name,
        opened,
        lambda: status_of(job, one) is Status.ACTIVE,
        fence if fenced else None,
        patience,
        job.parts.now,
        job.parts.sleep,
    )
