"""A plan for instances, by the strategy of the spec.

Nothing is a pivot: before the commit each step can be taken back, and what was performed is
reverted in reverse order. `return` and `recover` are for `mkupgrade rollback` behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from orchestrator.model.host import Cap, HostState
from orchestrator.model.kinds import Kind
from orchestrator.model.params import side_by_side
from orchestrator.model.quantities import format_duration, format_size
from orchestrator.model.spec import UpgradeSpec
from orchestrator.model.steps import Reversibility, Section, StepGraph
from orchestrator.planning import estimates, host_steps
from orchestrator.planning.builder import SectionBuilder, Strand
from orchestrator.planning.decisions import count
from orchestrator.planning.problems import Problems
from orchestrator.planning.requirements import check_requirements
from orchestrator.planning.side_by_side import expected, in_turn, resize_steps, steps, surge
from orchestrator.planning.side_by_side.choices import Choice, Choices, choose
from orchestrator.planning.side_by_side.going_back import going_back
from orchestrator.planning.workload_steps import RESOURCE

NEXT = "mkupgrade doctor"
STRATEGIES: Mapping[str, Callable[[SectionBuilder, Choices], None]] = {
    "surge": surge.bring,
    "blue-green": surge.bring,
    "replace": in_turn.replace,
    "rolling": in_turn.rolling,
    "canary": in_turn.canary,
}
"""What brings all new generations up, with the workloads in them."""


def plan(spec: UpgradeSpec, host: HostState, intent: str) -> StepGraph:
    """Raises: PlanError with every cause."""
    problems = Problems()
    choices = choose(spec, host, problems)
    problems.raise_if_any("this host cannot carry out this spec", next_command=NEXT)
    b = SectionBuilder(Section.FORWARD, spec.retry)
    if not choices.nothing:
        _forward(b, choices)
    parts = (b, *going_back(choices))
    found = [step for part in parts for step in part.steps]
    check_requirements(
        found,
        host,
        problems,
        waived={Cap.DURABLE_STATE} if spec.host.allow_volatile_state else (),
    )
    problems.raise_if_any("this host lacks what the upgrade needs", next_command=NEXT)
    return StepGraph(
        name=spec.metadata.name,
        spec_digest=spec.digest(),
        intent_digest=intent,
        state_dir=str(spec.host.state_dir),
        driver=host.driver,
        steps=found,
        edges=[edge for part in parts for edge in part.edges],
        limits={RESOURCE: spec.strategy.parallel},
        deadline=spec.rollback.deadline,
        automatic_rollback=spec.rollback.automatic,
        changes=[
            *choices.pool.changes(),
            *(it.change() for it in choices.resized),
            *(_change(it) for it in choices.changed.values()),
        ],
        keeps=list(_keeps(choices)),
        notes=_notes(choices),
        host=host,
        spec=spec,
    )


def _forward(b: SectionBuilder, c: Choices) -> None:
    spec, changed = c.spec, c.changed
    host_steps.checks(b, "before", steps.checks(c, "before"), "before the upgrade")
    steps.try_out(b, c)
    resize_steps.put(b, c.resized, c.pool)
    if changed:
        STRATEGIES[spec.strategy.kind](b, c)
    where = "with the new generations" if changed else "with the new sizes"
    host_steps.checks(b, "after", steps.checks(c, "after"), where)
    host_steps.soak_with(b, spec.metadata.name, spec.soak, steps.checks(c, "soak"))
    if changed:
        host_steps.run_hooks(b, spec.hooks.after)
    b.then(
        Kind.COMMIT_INSTANCES,
        spec.metadata.name,
        f"Commit to {_commits(c)}",
        side_by_side.CommitInstances(
            generations=[
                *(it.generation for it in c.resized),
                *(it.new for it in changed.values()),
            ],
            kept=[steps.old_place(it).generation for it in _kept(c)],
            keep_old_kernel=spec.rollback.keep_old_kernel,
        ),
        estimate=estimates.QUICK,
        reversibility=Reversibility.COMMIT,
        requires=steps.NEEDS,
    )
    rows = {name: steps.retire(b, c, it) for name, it in changed.items()}
    b.strands({name: Strand.of(row) for name, row in rows.items() if row})


def _commits(c: Choices) -> str:
    news = [count(c.changed, "new generation")] if c.changed else []
    sizes = [count(c.resized, "new size")] if c.resized else []
    pool = ["the new pool"] if not c.pool.nothing else []
    return " and ".join([*news, *sizes, *pool])


def _change(it: Choice) -> str:
    old = it.old.running.name if it.old.running else "none"
    size = f"{count(it.cpus, 'CPU')}, {format_size(it.memory_bytes)}"
    return (
        f"instance {it.instance.name}: {old} -> {it.new.name} (id {it.new.id}), "
        f"Linux {it.instance.kernel.release}, {size}"
    )


def _kept(c: Choices) -> list[Choice]:
    """Those whose old generation stays loaded."""
    if c.spec.rollback.keep_old_kernel <= 0:
        return []
    return [it for it in c.changed.values() if it.old.running is not None and it.back is None]


def _keeps(c: Choices) -> Sequence[str]:
    time = format_duration(c.spec.rollback.keep_old_kernel)
    return [
        f"{steps.old_place(it).generation.name}: halted and loaded, with its CPUs and memory, for "
        f"{time}, or until the next upgrade of {it.instance.name}"
        for it in _kept(c)
    ]


def _notes(c: Choices) -> list[str]:
    notes = [f"nothing to do for instance {n}: it runs what the spec asks for" for n in c.same]
    notes += [
        f"instance {name} gets a new generation for its resources: {why}"
        for name, why in c.not_resized.items()
    ]
    strategy = c.spec.strategy
    if c.changed and strategy.kind in ("rolling", "canary"):
        most, of = strategy.max_unavailable, count(c.changed, "instance")
        notes.append(f"at most {most} of {of} taken at once: {', '.join(c.order.names)}")
    if strategy.kind == "canary" and len(c.changed) > strategy.first:
        first = ", ".join(c.order.names[: strategy.first])
        notes.append(f"{first} first; the others once the checks have gone on passing")
    notes += expected.notes(c)
    if not c.nothing:
        notes += _ways_back(c)
    return notes


def _ways_back(c: Choices) -> list[str]:
    notes, rollback = [], c.spec.rollback
    replaced = [it for it in c.changed.values() if it.back is not None]
    image = rollback.kernel.image if rollback.kernel else ""
    if replaced:
        notes.append(
            f"way back until the commit: {count(replaced, 'old generation')} made again and "
            f"started from {image}"
        )
    if len(replaced) < len(c.changed):
        notes.append(
            "way back until the commit: the old generations run on; the new ones are taken away"
        )
    if rollback.keep_old_kernel <= 0:
        notes.append("way back behind the commit: none (rollback.keep_old_kernel is 0s)")
    elif len(replaced) == len(c.changed) and replaced:
        notes.append(
            f"way back behind the commit: mkupgrade rollback, as before it, as long as {image} is "
            "there"
        )
    else:
        time = format_duration(rollback.keep_old_kernel)
        notes.append(f"way back behind the commit: mkupgrade rollback, for {time}")
    return notes
