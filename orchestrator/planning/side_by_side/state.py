"""Steps that carry the state of a workload between two instances, by the agents in them.

Its size is not known on the host, which does not look into instances: the blackout is announced for
`estimates.CARRIED` bytes, and the deadline is that of a workload as large as its instance, all of
which is written to again while it is copied ahead.
"""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.model.base import Record
from orchestrator.model.host import Cap
from orchestrator.model.kinds import Kind
from orchestrator.model.params import side_by_side
from orchestrator.model.params.side_by_side import Reached
from orchestrator.model.spec import Workload
from orchestrator.model.steps import Step
from orchestrator.planning import estimates, policies
from orchestrator.planning.builder import SectionBuilder
from orchestrator.planning.workload_steps import RESOURCE

NEEDS = [Cap.ROOT, Cap.SIDE_BY_SIDE, Cap.INSTANCE_VSOCK, Cap.DURABLE_STATE]
"""State is on the host's disk in between."""


def try_out(b: SectionBuilder, about: str, tried: Sequence[tuple[Workload, Reached, int]]) -> None:
    """A checkpoint of each, one after the other, before anything is changed; none: no step.

    Args:
        tried: workload, the generation that it runs in, and the bytes that it has at most.
    """
    if not tried:
        return
    params = side_by_side.TryWorkloads(
        workloads=[side_by_side.Tried(workload=w, instance=one) for w, one, _ in tried]
    )
    what = tried[0][0].name if len(tried) == 1 else f"{len(tried)} workloads"
    b.then(
        Kind.TRY_WORKLOADS,
        about,
        f"Try a checkpoint of {what}, and let it run on",
        params,
        estimate=round(sum(estimates.trial(min(m, estimates.CARRIED)) for *_, m in tried), 3),
        deadline=policies.transfer(
            sum(estimates.trial(m) for *_, m in tried), sum(w.migrate.timeout for w, *_ in tried)
        ),
        requires=NEEDS,
    )


def admit(b: SectionBuilder, one: Reached, workloads: Sequence[Workload]) -> list[Step]:
    """The generation that came is asked about all that is to be carried there; none: no step."""
    if not workloads:
        return []
    params = side_by_side.AdmitWorkloads(instance=one, workloads=list(workloads))
    what = workloads[0].name if len(workloads) == 1 else f"{len(workloads)} workloads"
    step = b.make(
        Kind.ADMIT_WORKLOADS,
        one.generation.name,
        f"Ask {one.generation.name} whether {what} can be restored there",
        params,
        estimate=round(len(workloads) * estimates.WORKER, 3),
        deadline=policies.transfer(len(workloads) * estimates.WORKER),
        requires=NEEDS,
    )
    return [step]


def carry(b: SectionBuilder, w: Workload, source: Reached, target: Reached, most: int) -> Step:
    """From one that runs to one that runs.

    Args:
        most: bytes that it has at most.
    """
    params = side_by_side.CarryWorkload(workload=w, source=source, target=target)
    title = f"Carry {w.name} to {target.generation.name} ({w.migrate.method})"

    def seconds(size: int) -> float:
        return round(estimates.take(size) + estimates.bring(size), 3)

    estimate = seconds(min(most, estimates.CARRIED))
    deadline = policies.transfer(seconds(_moved(w, most)), 2 * w.migrate.timeout)
    return _step(b, Kind.CARRY_WORKLOAD, w, title, params, estimate=estimate, deadline=deadline)


def take(b: SectionBuilder, w: Workload, one: Reached, most: int, patience: float) -> Step:
    """Out of one that goes.

    Args:
        patience: seconds that it may take to boot anew.
    """
    params = side_by_side.TakeWorkload(workload=w, instance=one, patience=patience)
    title = f"Checkpoint {w.name} in {one.generation.name} ({w.migrate.method})"
    deadline = patience + policies.transfer(estimates.take(_moved(w, most)), w.migrate.timeout)
    estimate = estimates.take(min(most, estimates.CARRIED))
    return _step(b, Kind.TAKE_WORKLOAD, w, title, params, estimate=estimate, deadline=deadline)


def bring(b: SectionBuilder, w: Workload, one: Reached, most: int) -> Step:
    """Into one that came."""
    params = side_by_side.BringWorkload(workload=w, instance=one)
    title = f"Restore {w.name} in {one.generation.name} ({w.migrate.method})"
    deadline = policies.transfer(estimates.bring(_moved(w, most)), w.migrate.timeout)
    estimate = estimates.bring(min(most, estimates.CARRIED))
    return _step(b, Kind.BRING_WORKLOAD, w, title, params, estimate=estimate, deadline=deadline)


def _moved(w: Workload, most: int) -> int:
    """Bytes, at most, of a workload that has so many."""
    return 2 * most if w.migrate.method == "criu" else most


def _step(
    b: SectionBuilder,
    kind: Kind,
    w: Workload,
    title: str,
    params: Record,
    *,
    estimate: float,
    deadline: float,
) -> Step:
    return b.make(
        kind,
        w.name,
        title,
        params,
        estimate=estimate,
        deadline=deadline,
        requires=NEEDS,
        resources=[RESOURCE],
        blackout=True,
    )
