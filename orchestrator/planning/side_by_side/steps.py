"""Steps of one instance, of which every strategy is put together."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from typing import Any

from orchestrator.model.base import Record
from orchestrator.model.host import Artifact, Cap, InstanceState
from orchestrator.model.kinds import Kind
from orchestrator.model.params import in_place, side_by_side
from orchestrator.model.params.side_by_side import (
    AwaitedAgent,
    CreateInstance,
    Generation,
    LoadedImage,
    LoadInstance,
)
from orchestrator.model.quantities import format_size
from orchestrator.model.spec import Check, Workload
from orchestrator.model.spec.checks import Phase
from orchestrator.model.spec.workloads import RestartMigrate
from orchestrator.model.steps import Step
from orchestrator.planning import estimates, host_steps, policies
from orchestrator.planning.builder import SectionBuilder
from orchestrator.planning.decisions import count
from orchestrator.planning.side_by_side import state
from orchestrator.planning.side_by_side.choices import Choice, Choices, carried
from orchestrator.planning.workload_steps import RESOURCE

AGENT_PORT = 1023
LOCK = "kexec"
"""Changes of instances and calls for their kernels share one lock in the kernel."""
HALT_DEADLINE = 120.0
"""Seconds: the kernel waits 30 for an answer, and force comes after it."""
OLD_FILES = "rollback:kernel"
"""No instance can be named so."""
NEEDS = [Cap.ROOT, Cap.SIDE_BY_SIDE]


def check_files(b: SectionBuilder, c: Choices, it: Choice) -> Step:
    """Of the new kernel."""
    kernel = it.instance.kernel
    initrd = c.host.artifacts.get(str(kernel.initrd)) if kernel.initrd else None
    params = host_steps.artifact_params(it.instance, it.image, initrd)
    return _check_files(b, it.instance.name, params, it.image, initrd)


def check_old_files(b: SectionBuilder, c: Choices) -> None:
    """Of the kernel that old generations come back with; before anything is changed."""
    old = c.spec.rollback.kernel
    if old is None or all(it.back is None for it in c.changed.values()):
        return
    image = c.host.artifacts[str(old.image)]
    initrd = c.host.artifacts.get(str(old.initrd)) if old.initrd else None
    params = in_place.CheckArtifacts(
        instance=OLD_FILES,
        image=str(old.image),
        image_sha256=image.sha256 or "",
        initrd=str(old.initrd) if old.initrd else None,
        initrd_sha256=initrd.sha256 if initrd else None,
        release=image.release or "",
        signature="if-enforced",
    )
    b.put(_check_files(b, OLD_FILES, params, image, initrd))


def new_place(c: Choices, it: Choice) -> tuple[CreateInstance, LoadInstance]:
    """What a new generation is made of."""
    kernel, new = it.instance.kernel, it.new
    created = CreateInstance(
        generation=new, cpus=it.cpus, memory_bytes=it.memory_bytes, devices=it.devices
    )
    loaded = LoadInstance(
        generation=new,
        image=str(kernel.image),
        image_sha256=it.image.sha256 or "",
        initrd=str(kernel.initrd) if kernel.initrd else None,
        cmdline=it.cmdline,
        release=kernel.wanted_release,
        agent=it.instance.agent.port if it.instance.agent else None,
    )
    return created, loaded


def old_place(it: Choice) -> CreateInstance:
    """What an old generation has."""
    state = it.old.running
    assert state is not None  # noqa: S101 - nobody asks where there is none
    return CreateInstance(
        generation=generation(state),
        cpus=state.cpus,
        memory_bytes=state.memory_bytes,
        devices=state.devices,
    )


def come_up(
    b: SectionBuilder,
    c: Choices,
    created: CreateInstance,
    loaded: LoadInstance,
    *,
    dark: bool,
    agent: AwaitedAgent | None = None,
) -> list[Step]:
    """A generation, until it answers.

    Args:
        dark: its workloads stand still meanwhile.
        agent: the one in it, which says when it is ready.
    """
    one = created.generation
    files = [c.host.artifacts.get(it) for it in (loaded.image, loaded.initrd) if it is not None]
    reading = estimates.reading(sum(it.size for it in files if it is not None))
    size = f"{count(created.cpus, 'CPU')} and {format_size(created.memory_bytes)}"
    return [
        _step(b, Kind.CREATE_INSTANCE, one, f"Create {one.name} with {size}", created, dark=dark),
        b.make(
            Kind.LOAD_INSTANCE,
            one.name,
            f"Load Linux {loaded.release} into {one.name}",
            loaded,
            estimate=reading,
            deadline=policies.transfer(reading),
            requires=NEEDS,
            resources=[LOCK],
            blackout=dark,
        ),
        *start_up(b, c, one, dark=dark, agent=agent),
    ]


def awaited(c: Choices, it: Choice) -> AwaitedAgent | None:
    """What the agent in a new generation has to say; None: it has none."""
    agent, release = it.instance.agent, it.instance.kernel.release
    if agent is None:
        return None
    return AwaitedAgent(port=agent.port, release=release, works=c.carries(it))


def awaited_again(c: Choices, it: Choice, release: str | None) -> AwaitedAgent | None:
    """The same of the old generation, which runs again; None: nothing is carried back to it, and
    whether its agent answers is its own affair."""
    port = it.old.running.agent if it.old.running else None
    if port is None or not c.carries(it):
        return None
    return AwaitedAgent(port=port, release=release, works=True)


def start_up(
    b: SectionBuilder,
    c: Choices,
    one: Generation,
    *,
    dark: bool,
    agent: AwaitedAgent | None = None,
) -> list[Step]:
    """A generation that is loaded, until it answers, or its agent and the checks of a new one say
    that it is ready."""
    ready = c.ready(one)
    more = policies.ready(ready)
    started = side_by_side.StartInstance(generation=one)
    port = agent.port if agent else AGENT_PORT
    waited = side_by_side.AwaitInstance(
        generation=one, port=port, agent=agent, ready=ready, ready_seconds=more
    )
    return [
        _step(b, Kind.START_INSTANCE, one, f"Start {one.name}", started, dark=dark),
        b.make(
            Kind.AWAIT_INSTANCE,
            one.name,
            f"Wait until {one.name} {'is ready' if agent or ready else 'answers'}",
            waited,
            estimate=estimates.KEXEC_BOOT,
            deadline=c.spec.rollback.boot_deadline + more,
            requires=[*NEEDS, Cap.INSTANCE_VSOCK] if agent else NEEDS,
            blackout=dark,
        ),
    ]


def give_way(
    b: SectionBuilder, c: Choices, created: CreateInstance, image: LoadedImage, *, dark: bool
) -> list[Step]:
    """A generation halted, unloaded and removed, each with what makes it as it was."""
    one = created.generation
    unloaded = side_by_side.UnloadInstance(generation=one, back=image)
    removed = side_by_side.RemoveInstance(generation=one, back=created)
    return [
        halt(b, c, one, dark=dark),
        _step(b, Kind.UNLOAD_INSTANCE, one, f"Unload {one.name}", unloaded, dark=dark),
        _step(b, Kind.REMOVE_INSTANCE, one, f"Remove {one.name}", removed, dark=dark),
    ]


def halt(b: SectionBuilder, c: Choices, one: Generation, *, dark: bool = False) -> Step:
    """A generation halted, so that it can be started again."""
    alive = side_by_side.AwaitInstance(generation=one, port=AGENT_PORT)
    halted = side_by_side.HaltInstance(generation=one, back=alive)
    boot = c.spec.rollback.boot_deadline
    return _step(b, Kind.HALT_INSTANCE, one, f"Halt {one.name}", halted, more=boot, dark=dark)


def take_out(b: SectionBuilder, one: Generation) -> list[Step]:
    """A generation halted and taken away for good."""
    halted = side_by_side.HaltInstance(generation=one)
    return [_step(b, Kind.HALT_INSTANCE, one, f"Halt {one.name}", halted), *take_away(b, one)]


def retire(b: SectionBuilder, c: Choices, it: Choice) -> list[Step]:
    """Behind the commit, what still is there of old generations: the last one stops; it stays
    loaded, or goes at once where nothing is to be kept. What was kept before it goes, for there is
    one way back."""
    steps = []
    last = it.old.running if it.back is None else None
    if last is not None:
        old = generation(last)
        halted = side_by_side.HaltInstance(generation=old)
        steps.append(_step(b, Kind.HALT_INSTANCE, old, f"Halt {old.name}", halted))
    gone = list(it.old.stopped)
    if last is not None and c.spec.rollback.keep_old_kernel <= 0:
        gone.append(last)
    for kept in gone:
        steps += take_away(b, generation(kept))
    return steps


def try_out(b: SectionBuilder, c: Choices) -> None:
    """Of all workloads with state, in the generations that they run in."""
    theirs = c.workloads()
    tried = [
        (w, it.old_reached(), it.memory())
        for name, it in c.changed.items()
        for w in theirs[name].values()
        if carried(w)
    ]
    state.try_out(b, c.spec.metadata.name, tried)


def admit(b: SectionBuilder, it: Choice, workloads: Iterable[Workload]) -> list[Step]:
    """Of those with state, by the new generation, which runs beside the old one."""
    return state.admit(b, it.new_reached(), [w for w in workloads if carried(w)])


def move(b: SectionBuilder, it: Choice, w: Workload) -> Step:
    """From the old generation to the new one, both of which run."""
    if carried(w):
        return state.carry(b, w, it.old_reached(), it.new_reached(), it.memory())
    return _move(b, w, it.old.running.name if it.old.running else None, it.new.name)


def move_back(b: SectionBuilder, it: Choice, w: Workload) -> Step:
    """From the new generation to the old one, which runs again."""
    if carried(w):
        return state.carry(b, w, it.new_reached(), it.old_reached(), it.memory())
    return _move(b, w, it.new.name, old_place(it).generation.name)


def _move(b: SectionBuilder, w: Workload, source: str | None, target: str) -> Step:
    params = side_by_side.MoveWorkload(**_commands(w), source=source, target=target)
    migrate = w.migrate
    return b.make(
        Kind.MOVE_WORKLOAD,
        w.name,
        f"Stop {w.name} and start it in {target}",
        params,
        estimate=2 * estimates.RESTART_BASE,
        deadline=2 * migrate.timeout + policies.SLACK,
        resources=[RESOURCE],
        blackout=True,
    )


def stop(b: SectionBuilder, c: Choices, it: Choice, w: Workload, *, old: bool) -> Step:
    """In the generation that goes: the old one, or the new one on the way back."""
    one = it.old_reached() if old else it.new_reached()
    if carried(w):
        return state.take(b, w, one, it.memory(), c.spec.rollback.boot_deadline)
    instance = one.generation.name
    params = side_by_side.StopWorkload(**_commands(w), instance=instance)
    return _command(b, Kind.STOP_WORKLOAD, w, f"Stop {w.name} in {instance}", params)


def start(b: SectionBuilder, it: Choice, w: Workload, *, old: bool) -> Step:
    """In the generation that came."""
    one = it.old_reached() if old else it.new_reached()
    if carried(w):
        return state.bring(b, w, one, it.memory())
    instance = one.generation.name
    params = side_by_side.StartWorkload(**_commands(w), instance=instance)
    return _command(b, Kind.START_WORKLOAD, w, f"Start {w.name} in {instance}", params)


def checks(c: Choices, phase: Phase, instances: Container[str] | None = None) -> list[Check]:
    """Of the host, and of all workloads in these instances (default: all that are changed or
    resized)."""
    among = {*c.changed, *(it.name for it in c.resized)} if instances is None else instances
    return c.spec.checks_of(phase, among)


def _check_files(
    b: SectionBuilder,
    about: str,
    params: in_place.CheckArtifacts,
    image: Artifact,
    initrd: Artifact | None,
) -> Step:
    whom = "the way back" if about == OLD_FILES else about
    reading = estimates.reading(image.size + (initrd.size if initrd else 0))
    return b.make(
        Kind.CHECK_ARTIFACTS,
        about,
        f"Check the files of Linux {params.release} for {whom}",
        params,
        estimate=reading,
        deadline=policies.transfer(reading),
    )


def _step(
    b: SectionBuilder,
    kind: Kind,
    about: Generation,
    title: str,
    params: Record,
    *,
    more: float = 0.0,
    dark: bool = False,
) -> Step:
    return b.make(
        kind,
        about.name,
        title,
        params,
        estimate=estimates.QUICK,
        deadline=HALT_DEADLINE + more,
        requires=NEEDS,
        resources=[LOCK],
        blackout=dark,
    )


def _commands(w: Workload) -> dict[str, Any]:
    assert isinstance(w.migrate, RestartMigrate)  # noqa: S101 - choices.py refuses others
    return {
        "workload": w.name,
        "stop": w.migrate.stop or [],
        "start": w.migrate.start or [],
        "timeout": w.migrate.timeout,
    }


def _command(b: SectionBuilder, kind: Kind, w: Workload, title: str, params: Record) -> Step:
    return b.make(
        kind,
        w.name,
        title,
        params,
        estimate=estimates.RESTART_BASE,
        deadline=w.migrate.timeout + policies.SLACK,
        resources=[RESOURCE],
        blackout=True,
    )


def take_away(b: SectionBuilder, old: Generation) -> Sequence[Step]:
    """A generation that does not run taken away for good."""
    unloaded, removed = (
        side_by_side.UnloadInstance(generation=old),
        side_by_side.RemoveInstance(generation=old),
    )
    return (
        _step(b, Kind.UNLOAD_INSTANCE, old, f"Unload {old.name}", unloaded),
        _step(b, Kind.REMOVE_INSTANCE, old, f"Remove {old.name}", removed),
    )


def generation(state: InstanceState) -> Generation:
    """The one that was seen."""
    return Generation(name=state.name, id=state.id)
