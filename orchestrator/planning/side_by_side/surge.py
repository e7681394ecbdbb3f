"""Strategy surge: every new generation beside its old one, switched together.

forward:
    check/before;
    per instance, side by side where `after` allows: check-artifacts, create, load, start, await;
    hooks before, workloads moved, check/after, soak, hooks after, COMMIT;
    per instance, side by side: the old generation halted, and kept or taken away

Until the commit the old generations run on untouched, so nothing is a pivot: what was performed is
reverted in reverse order. There is no `return` and no `recover`.
"""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.model import kinds
from orchestrator.model.base import Record
from orchestrator.model.host import Cap, HostState, InstanceState
from orchestrator.model.kinds import Generation, Kind
from orchestrator.model.quantities import format_duration, format_size
from orchestrator.model.spec import Check, UpgradeSpec
from orchestrator.model.spec.workloads import RestartMigrate, Workload
from orchestrator.model.steps import Reversibility, Section, Step, StepGraph
from orchestrator.planning import estimates, host_steps, policies
from orchestrator.planning.builder import SectionBuilder
from orchestrator.planning.decisions import count
from orchestrator.planning.problems import Problems
from orchestrator.planning.requirements import check_requirements
from orchestrator.planning.side_by_side.choices import Choice, Choices, choose
from orchestrator.planning.workload_steps import RESOURCE

AGENT_PORT = 1023
LOCK = "kexec"
"""Changes of instances and calls for their kernels share one lock in the kernel."""
HALT_DEADLINE = 120.0
"""Seconds: the kernel waits 30 for an answer, and force comes after it."""
_NEEDS = [Cap.ROOT, Cap.SIDE_BY_SIDE]
NEXT = "mkupgrade doctor"


def plan(spec: UpgradeSpec, host: HostState, intent: str) -> StepGraph:
    """Raises: PlanError with every cause."""
    problems = Problems()
    choices = choose(spec, host, problems)
    problems.raise_if_any("this host cannot carry out this spec", next_command=NEXT)
    b = SectionBuilder(Section.FORWARD, spec.retry)
    if choices.changed:
        _forward(b, choices)
    check_requirements(
        b.steps,
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
        steps=b.steps,
        edges=b.edges,
        limits={RESOURCE: spec.strategy.parallel},
        deadline=spec.rollback.deadline,
        automatic_rollback=spec.rollback.automatic,
        changes=[_change(it) for it in choices.changed.values()],
        keeps=list(_keeps(choices)),
        notes=_notes(choices),
        host=host,
        spec=spec,
    )


def _forward(b: SectionBuilder, c: Choices) -> None:
    spec, changed = c.spec, c.changed
    host_steps.checks(b, "before", _checks(c, "before"), "before the upgrade")
    after = [(e, i.name) for i in spec.instances for e in i.after if {e, i.name} <= changed.keys()]
    b.strands({name: _spawn(b, c, it) for name, it in changed.items()}, after)
    host_steps.run_hooks(b, spec.hooks.before)
    _move_workloads(b, c)
    host_steps.checks(b, "after", _checks(c, "after"), "with the new generations")
    host_steps.soak_with(b, spec.metadata.name, spec.soak, _checks(c, "soak"))
    host_steps.run_hooks(b, spec.hooks.after)
    b.then(
        Kind.COMMIT_INSTANCES,
        spec.metadata.name,
        f"Commit to {count(changed, 'new generation')}",
        kinds.CommitInstances(generations=[it.new for it in changed.values()]),
        estimate=estimates.QUICK,
        reversibility=Reversibility.COMMIT,
        requires=_NEEDS,
    )
    b.strands({name: _retire(b, c, it) for name, it in changed.items()})


def _spawn(b: SectionBuilder, c: Choices, it: Choice) -> list[Step]:
    kernel, new = it.instance.kernel, it.new
    initrd = c.host.artifacts.get(str(kernel.initrd)) if kernel.initrd else None
    reading = estimates.reading(it.image.size + (initrd.size if initrd else 0))
    checked = kinds.CheckArtifacts(
        instance=it.instance.name,
        image=str(kernel.image),
        image_sha256=it.image.sha256 or "",
        initrd=str(kernel.initrd) if kernel.initrd else None,
        initrd_sha256=initrd.sha256 if initrd else None,
        modules=str(kernel.modules) if kernel.modules else None,
        release=kernel.release,
        signature=kernel.signature,
    )
    loaded = kinds.LoadInstance(
        generation=new,
        image=checked.image,
        image_sha256=checked.image_sha256,
        initrd=checked.initrd,
        cmdline=it.cmdline,
        release=kernel.release,
    )
    size = f"{count(it.cpus, 'CPU')} and {format_size(it.memory_bytes)}"
    created = kinds.CreateInstance(generation=new, cpus=it.cpus, memory_bytes=it.memory_bytes)
    started = kinds.StartInstance(generation=new)
    waited = kinds.AwaitInstance(generation=new, port=AGENT_PORT)
    boot = c.spec.rollback.boot_deadline
    return [
        b.make(
            Kind.CHECK_ARTIFACTS,
            it.instance.name,
            f"Check the files of Linux {kernel.release}",
            checked,
            estimate=reading,
            deadline=policies.transfer(reading),
        ),
        _step(b, Kind.CREATE_INSTANCE, new, f"Create {new.name} with {size}", created),
        b.make(
            Kind.LOAD_INSTANCE,
            new.name,
            f"Load Linux {kernel.release} into {new.name}",
            loaded,
            estimate=reading,
            deadline=policies.transfer(reading),
            requires=_NEEDS,
            resources=[LOCK],
        ),
        _step(b, Kind.START_INSTANCE, new, f"Start {new.name}", started),
        b.make(
            Kind.AWAIT_INSTANCE,
            new.name,
            f"Wait until {new.name} answers",
            waited,
            estimate=estimates.KEXEC_BOOT,
            deadline=boot,
            requires=_NEEDS,
        ),
    ]


def _step(b: SectionBuilder, kind: Kind, about: Generation, title: str, params: Record) -> Step:
    return b.make(
        kind,
        about.name,
        title,
        params,
        estimate=estimates.QUICK,
        deadline=HALT_DEADLINE,
        requires=_NEEDS,
        resources=[LOCK],
    )


def _move_workloads(b: SectionBuilder, c: Choices) -> None:
    """In the order of `after`: what others rest on is moved first. Each waits for its own new
    generation only, unless hooks come before all of them."""
    moved = {w.name: w for w in c.spec.workloads if w.instance in c.changed}
    pairs = [(e, w.name) for w in moved.values() for e in w.after if e in moved]
    steps = {name: _move(b, c, w) for name, w in moved.items()}
    own = {
        name: f"{Kind.AWAIT_INSTANCE.value}/{c.changed[w.instance].new.name}"
        for name, w in moved.items()
    }
    b.fan(steps, list(dict.fromkeys(pairs)), None if c.spec.hooks.before else own)


def _move(b: SectionBuilder, c: Choices, w: Workload) -> Step:
    it, migrate = c.changed[w.instance], w.migrate
    assert isinstance(migrate, RestartMigrate)  # noqa: S101 - choices.py refuses others
    running = it.old.running
    params = kinds.MoveWorkload(
        workload=w.name,
        stop=migrate.stop or [],
        start=migrate.start or [],
        source=running.name if running else None,
        target=it.new.name,
        timeout=migrate.timeout,
    )
    return b.make(
        Kind.MOVE_WORKLOAD,
        w.name,
        f"Stop {w.name} and start it in {it.new.name}",
        params,
        estimate=2 * estimates.RESTART_BASE,
        deadline=2 * migrate.timeout + policies.SLACK,
        resources=[RESOURCE],
        blackout=True,
    )


def _retire(b: SectionBuilder, c: Choices, it: Choice) -> list[Step]:
    """The old generation stops; it stays loaded, or goes at once where nothing is to be kept.
    What was kept before it goes, for there is one way back."""
    steps = []
    if it.old.running is not None:
        old = _generation(it.old.running)
        halted = kinds.HaltInstance(generation=old)
        steps.append(_step(b, Kind.HALT_INSTANCE, old, f"Halt {old.name}", halted))
    gone = list(it.old.stopped)
    if it.old.running is not None and c.spec.rollback.keep_old_kernel <= 0:
        gone.append(it.old.running)
    for state in gone:
        steps += _take_away(b, _generation(state))
    return steps


def _take_away(b: SectionBuilder, old: Generation) -> Sequence[Step]:
    unloaded, removed = kinds.UnloadInstance(generation=old), kinds.RemoveInstance(generation=old)
    return (
        _step(b, Kind.UNLOAD_INSTANCE, old, f"Unload {old.name}", unloaded),
        _step(b, Kind.REMOVE_INSTANCE, old, f"Remove {old.name}", removed),
    )


def _generation(state: InstanceState) -> Generation:
    return Generation(name=state.name, id=state.id)


def _checks(c: Choices, phase: str) -> list[Check]:
    theirs = [check for w in c.spec.workloads if w.instance in c.changed for check in w.checks]
    return [check for check in (*c.spec.checks, *theirs) if phase in check.when]


def _change(it: Choice) -> str:
    old = it.old.running.name if it.old.running else "none"
    size = f"{count(it.cpus, 'CPU')}, {format_size(it.memory_bytes)}"
    return (
        f"instance {it.instance.name}: {old} -> {it.new.name} (id {it.new.id}), "
        f"Linux {it.instance.kernel.release}, {size}"
    )


def _keeps(c: Choices) -> Sequence[str]:
    time = c.spec.rollback.keep_old_kernel
    if time <= 0:
        return []
    return [
        f"{it.old.running.name}: halted and loaded, with its CPUs and memory, for "
        f"{format_duration(time)} at least; the next upgrade of {name} takes it away"
        for name, it in c.changed.items()
        if it.old.running is not None
    ]


def _notes(c: Choices) -> list[str]:
    notes = [f"nothing to do for instance {n}: it runs what the spec asks for" for n in c.same]
    if c.changed:
        notes.append(
            "way back until the commit: the old generations run on; the new ones are taken away"
        )
    return notes
