"""Steps that carry the state of a workload between two instances, by the agents in them.

Its size is not known on the host, which does not look into instances, nor is what it writes while
it is copied ahead: the blackout is announced for `estimates.CARRIED` bytes, of which the part
`estimates.REWRITTEN` is written to again, and `expected` says so in the plan. The deadline is that
of a workload as large as its instance, all of which is written to again.
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
    size = min(most, estimates.CARRIED)
    ran_on = estimates.copied_ahead(size) if goes_ahead(w) else 0.0
    params = side_by_side.CarryWorkload(
        workload=w, source=source, target=target, ran_on_seconds=ran_on
    )
    title = f"Carry {w.name} to {target.generation.name} ({w.migrate.method})"
    estimate = round(ran_on + standing_still(w, size), 3)
    whole = estimates.take(_moved(w, most)) + estimates.bring(_moved(w, most))
    deadline = policies.transfer(round(whole, 3), 2 * w.migrate.timeout)
    return _step(b, Kind.CARRY_WORKLOAD, w, title, params, estimate=estimate, deadline=deadline)


def take(b: SectionBuilder, w: Workload, one: Reached, most: int, patience: float) -> Step:
    """Out of one that goes.

    Args:
        patience: seconds that it may take to boot anew.
    """
    size = min(most, estimates.CARRIED)
    ran_on = estimates.copied_to_host(size) if goes_ahead(w) else 0.0
    params = side_by_side.TakeWorkload(
        workload=w, instance=one, patience=patience, ran_on_seconds=ran_on
    )
    title = f"Checkpoint {w.name} in {one.generation.name} ({w.migrate.method})"
    deadline = patience + policies.transfer(estimates.take(_moved(w, most)), w.migrate.timeout)
    estimate = round(ran_on + estimates.take(_left(w, size, estimates.REWRITTEN)), 3)
    return _step(b, Kind.TAKE_WORKLOAD, w, title, params, estimate=estimate, deadline=deadline)


def bring(b: SectionBuilder, w: Workload, one: Reached, most: int) -> Step:
    """Into one that came: what was copied ahead could not be sent there before."""
    params = side_by_side.BringWorkload(workload=w, instance=one)
    title = f"Restore {w.name} in {one.generation.name} ({w.migrate.method})"
    deadline = policies.transfer(estimates.bring(_moved(w, most)), w.migrate.timeout)
    size = min(most, estimates.CARRIED)
    sent = _left(w, size, estimates.REWRITTEN) + (size if goes_ahead(w) else 0)
    estimate = estimates.bring(sent)
    return _step(b, Kind.BRING_WORKLOAD, w, title, params, estimate=estimate, deadline=deadline)


def goes_ahead(w: Workload) -> bool:
    """Is its memory copied while it runs on?"""
    return w.migrate.method == "criu"


def standing_still(w: Workload, size: int, part: float = estimates.REWRITTEN) -> float:
    """Seconds between two that run.

    Args:
        part: of what is copied ahead, that it writes to meanwhile.
    """
    left = _left(w, size, part)
    found = estimates.take(left) + estimates.bring(left) + estimates.mapped(size - left)
    return round(found, 3)


def _left(w: Workload, size: int, part: float) -> int:
    """Bytes of it that are carried while it stands still."""
    return int(part * size) if goes_ahead(w) else size


def _moved(w: Workload, most: int) -> int:
    """Bytes, at most, of a workload that has so many."""
    return 2 * most if goes_ahead(w) else most


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
