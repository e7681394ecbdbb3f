"""Checkpoint and restore steps: one of each per workload, in opposite orders.

There are four for each workload, so that their parameters (`in_place.Checkpoint` and
`in_place.Restore`) are put together from what the workload was dumped to once; a test holds them
to the models.
"""

from __future__ import annotations

from orchestrator.model.kinds import ChannelName, Kind
from orchestrator.model.spec import Workload
from orchestrator.model.steps import Section, Step
from orchestrator.planning import estimates, policies, requirements
from orchestrator.planning.builder import SectionBuilder
from orchestrator.planning.decisions import Decisions

RESOURCE = "workload"
"""Its limit is `strategy.parallel`."""


def add_checkpoints(b: SectionBuilder, d: Decisions) -> None:
    """One per workload; what others rest on is stopped last."""
    back = b.section is Section.RETURN
    steps = {w.name: _checkpoint(b, d, w, d.channel(w, back=back)) for w in d.spec.workloads}
    b.fan(steps, [(later, earlier) for earlier, later in d.after])


def add_restores(b: SectionBuilder, d: Decisions) -> None:
    """One per workload; what others rest on is back first."""
    back = b.section is Section.RECOVER
    steps = {w.name: _restore(b, d, w, d.channel(w, back=back)) for w in d.spec.workloads}
    b.fan(steps, d.after)


def _checkpoint(b: SectionBuilder, d: Decisions, w: Workload, channel: ChannelName) -> Step:
    restarts = w.migrate.method == "restart"
    spill = not restarts and d.spills(w, channel)
    estimate = estimates.checkpoint(w, channel, d.size(w), spill=spill)
    state = [] if restarts else requirements.for_state(channel, spill=spill)
    return b.make(
        Kind.CHECKPOINT,
        w.name,
        f"Stop {w.name}" if restarts else f"Checkpoint {w.name} ({_how(w, channel)})",
        {"workload": d.documents[w.name], "channel": channel, "spill": spill},
        estimate=estimate,
        deadline=policies.transfer(estimate, w.migrate.timeout),
        requires=[*requirements.for_workload(w), *state],
        resources=[RESOURCE],
        blackout=True,
    )


def _restore(b: SectionBuilder, d: Decisions, w: Workload, channel: ChannelName) -> Step:
    restarts = w.migrate.method == "restart"
    estimate = estimates.restore(w, channel, d.size(w))
    return b.make(
        Kind.RESTORE,
        w.name,
        f"Start {w.name}" if restarts else f"Restore {w.name} ({_how(w, channel)})",
        {
            "workload": d.documents[w.name],
            "channel": channel,
            "or_restart": b.section is Section.RECOVER,
        },
        estimate=estimate,
        deadline=policies.transfer(estimate, w.migrate.timeout),
        requires=requirements.for_workload(w),
        resources=[RESOURCE],
        blackout=True,
    )


def _how(workload: Workload, channel: ChannelName) -> str:
    return f"{workload.migrate.method}, {channel}"
