"""Everything that is decided about each instance before the first step is made."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from orchestrator.model.host import Artifact, HostState, InstanceState
from orchestrator.model.params.side_by_side import Generation, LoadedImage, Reached
from orchestrator.model.spec import Check, CommandLine, Instance, UpgradeSpec
from orchestrator.model.spec.workloads import RestartMigrate, Workload
from orchestrator.planning import cmdline
from orchestrator.planning.artifacts import check_artifacts
from orchestrator.planning.problems import Problems
from orchestrator.planning.side_by_side.capacity import Need, check_room, check_way_back, pick_cpus
from orchestrator.planning.side_by_side.devices import check_devices, differ
from orchestrator.planning.side_by_side.devices import wanted as wanted_devices
from orchestrator.planning.side_by_side.generations import (
    FIRST_ID,
    LAST_ID,
    Lineage,
    lineage,
    successors,
)
from orchestrator.planning.side_by_side.order import Order, ordered
from orchestrator.planning.side_by_side.pool import PoolChange, pool_change
from orchestrator.planning.side_by_side.resizing import (
    Resize,
    check_hot_plug,
    resize,
    with_cpus,
)
from orchestrator.planning.side_by_side.ways_back import IMAGE_MARK, image_mark, ways_back

CONSOLE = "console=mktty0"
GRANULE = 128 << 20
"""By which memory moves on x86 where there is no pool to say it."""


@dataclass(frozen=True)
class Choice:
    """One instance that gets a new generation."""

    instance: Instance
    old: Lineage
    new: Generation
    image: Artifact
    cpus: list[int]
    memory_bytes: int
    devices: list[str]
    cmdline: str
    back: LoadedImage | None
    """What the old generation is started from again; None: it does not go before the commit."""

    def old_reached(self) -> Reached:
        """The old generation and its agent."""
        state = self.old.running
        assert state is not None  # noqa: S101 - nobody asks where there is none
        return Reached(generation=Generation(name=state.name, id=state.id), port=state.agent or 0)

    def new_reached(self) -> Reached:
        """The new generation and its agent."""
        agent = self.instance.agent
        return Reached(generation=self.new, port=agent.port if agent else 0)

    def memory(self) -> int:
        """Bytes of the larger of the two."""
        old = self.old.running.memory_bytes if self.old.running else 0
        return max(self.memory_bytes, old)


@dataclass(frozen=True)
class Choices:
    spec: UpgradeSpec
    host: HostState
    changed: dict[str, Choice]
    """By instance of the spec, in its order."""
    same: list[str]
    """Instances that run what the spec asks for."""
    order: Order
    resized: list[Resize] = field(default_factory=list)
    """Those that only get or give CPUs or memory, as they run."""
    not_resized: dict[str, str] = field(default_factory=dict)
    """Those that get a new generation for their resources alone, and why."""
    pool: PoolChange = field(default_factory=PoolChange)

    def carries(self, it: Choice) -> bool:
        """Has one of its workloads state to be carried by the agents?"""
        return it.instance.name in self._carrying

    @cached_property
    def _carrying(self) -> set[str]:
        return {w.instance for w in self.spec.workloads if carried(w)}

    @property
    def nothing(self) -> bool:
        """Is there nothing to do?"""
        return not (self.changed or self.resized) and self.pool.nothing

    def ready(self, one: Generation) -> list[Check]:
        """What a new generation must pass before anything is moved to it; none: an old one."""
        return next(
            (it.instance.ready for it in self.changed.values() if it.new.name == one.name), []
        )

    def workloads(self) -> dict[str, dict[str, Workload]]:
        """Instance that is changed -> its workloads by name, in the spec's order."""
        found: dict[str, dict[str, Workload]] = {name: {} for name in self.changed}
        for workload in self.spec.workloads:
            if workload.instance in found:
                found[workload.instance][workload.name] = workload
        return found


@dataclass
class _Wishes:
    """What becomes of each instance of the spec, by what its running generation is and has."""

    needs: dict[str, Need] = field(default_factory=dict)
    """A new generation of this size."""
    words: dict[str, cmdline.Words] = field(default_factory=dict)
    """The command lines of new generations."""
    same: list[str] = field(default_factory=list)
    resized: dict[str, Resize] = field(default_factory=dict)
    not_resized: dict[str, str] = field(default_factory=dict)

    def moved(self, pool: PoolChange) -> Need:
        """What instances that run on and the host get, less what they give."""
        return Need(
            sum(it.more_cpus - len(it.fewer) for it in self.resized.values())
            + pool.fewer_cpus
            - len(pool.more),
            sum(it.more_memory - it.less_memory for it in self.resized.values())
            + pool.less_memory
            - pool.more_memory,
        )


def choose(spec: UpgradeSpec, host: HostState, problems: Problems) -> Choices:
    """Decide; what cannot be is added to the problems, and the rest must not be used then."""
    _check_strategy(spec, problems)
    kind = spec.strategy.kind
    in_turn = kind in ("replace", "rolling", "canary")
    gives_way = kind == "replace" or (in_turn and spec.strategy.each == "replace")
    lines = {it.name: lineage(it.name, host, problems) for it in spec.instances}
    wishes = _Wishes()
    for instance in spec.instances:
        check_artifacts(instance, host, problems)
        _wish(wishes, instance, lines[instance.name], host, problems)
    needs, resized = wishes.needs, wishes.resized
    instances = {it.name: it for it in spec.instances}
    for workload in spec.workloads:
        if workload.instance not in wishes.same and workload.instance not in resized:
            name = workload.instance
            _check_workload(workload, lines[name], instances[name], problems)
    devices = {i.name: wanted_devices(i, lines[i.name]) for i in spec.instances if i.name in needs}
    check_devices(devices, lines, host, problems, gives_way=gives_way)
    kept = [it for line in lines.values() for it in line.stopped]
    olds = {name: old for name in needs if (old := lines[name].running) is not None}
    going = olds if gives_way else {}
    backs = ways_back(going, spec, host, problems)
    order = ordered(spec, needs, problems) if in_turn else Order([], [])
    pool = pool_change(spec, host, problems)
    if needs or resized or not pool.nothing:
        else_do = "choose replace" if olds and not gives_way else "grow the pool"
        moved = wishes.moved(pool)
        check_room(needs, going, host, problems, moved=moved, kept=kept, else_do=else_do)
        check_hot_plug(resized.values(), host, problems)
        check_way_back(needs, going, problems)
        _check_ids(len(needs), host, problems)
    if problems.lines:
        for name, why in wishes.not_resized.items():
            problems.add(
                f"instances.{name}.resources", f"cannot be had without a new generation: {why}"
            )
        return Choices(spec, host, {}, wishes.same, order)
    news = successors((lines[name] for name in needs), host)
    freed = [cpu for it in resized.values() for cpu in it.fewer]
    free = iter([*sorted(host.pool.free_cpus if host.pool else ()), *freed])
    grown = list(with_cpus(resized.values(), free))
    left = [*free, *pool.more]
    cpus = pick_cpus(needs, going, iter(left))
    taken = {cpu for it in cpus.values() for cpu in it}
    pool = pool.with_fewer([cpu for cpu in left if cpu not in taken])
    changed = {
        it.name: Choice(
            it,
            lines[it.name],
            news[it.name],
            host.artifacts[str(it.kernel.image)],
            cpus[it.name],
            needs[it.name].memory_bytes,
            devices[it.name],
            str(wishes.words[it.name]),
            backs.get(it.name),
        )
        for it in spec.instances
        if it.name in needs
    }
    return Choices(spec, host, changed, wishes.same, order, grown, wishes.not_resized, pool)


def _wish(
    wishes: _Wishes, instance: Instance, line: Lineage, host: HostState, problems: Problems
) -> None:
    name, has = instance.name, line.running
    need = _need(instance, line, problems)
    image = host.artifacts.get(str(instance.kernel.image))
    if need is None or image is None:
        return
    wanted = _wanted(instance, line, image)
    if not cmdline.fits(wanted):
        problems.add(f"instances.{name}.cmdline", "leaves no room for our marks")
    if has is not None and _runs(has, wanted) and differ(instance, has):
        wishes.not_resized[name] = "devices are given to new generations only"
    elif has is not None and _runs(has, wanted):
        if (len(has.cpus), has.memory_bytes) == (need.cpus, need.memory_bytes):
            wishes.same.append(name)
            return
        found = resize(name, has, need, host.pool.granule if host.pool else GRANULE)
        if isinstance(found, Resize):
            wishes.resized[name] = found
            return
        wishes.not_resized[name] = found
    wishes.needs[name] = need
    wishes.words[name] = wanted


def _need(instance: Instance, line: Lineage, problems: Problems) -> Need | None:
    """What the spec says, else what the running generation has."""
    asked, has = instance.resources, line.running
    cpus = asked.cpus if asked and asked.cpus else (len(has.cpus) if has else 0)
    memory = asked.memory if asked and asked.memory else (has.memory_bytes if has else 0)
    if cpus and memory:
        return Need(cpus, memory)
    problems.add(
        f"instances.{instance.name}.resources",
        "cpus and memory are needed: no generation of it runs whose size could be kept",
    )
    return None


def _check_strategy(spec: UpgradeSpec, problems: Problems) -> None:
    kind = spec.strategy.kind
    if kind == "blue-green" and not spec.hooks.before:
        problems.add(
            "hooks.before",
            "is needed: blue-green turns the traffic once, by these hooks, when all new "
            "generations are up",
        )
    checks = [*spec.checks, *(check for w in spec.workloads for check in w.checks)]
    if kind == "canary" and spec.soak.duration <= 0 and not any("soak" in c.when for c in checks):
        problems.add(
            "soak.duration",
            "canary soaks the first instances before the others are taken: it must be more than "
            "0s, or a check must be for the soak",
        )


def carried(workload: Workload) -> bool:
    """Has it state that goes from the one instance to the other?"""
    return not isinstance(workload.migrate, RestartMigrate)


def _check_workload(
    workload: Workload, line: Lineage, instance: Instance, problems: Problems
) -> None:
    migrate, where = workload.migrate, f"workloads.{workload.name}.migrate"
    if not isinstance(migrate, RestartMigrate):
        why_not = _why_not_carried(instance, line)
        if why_not is not None:
            problems.add(
                where,
                f"method {migrate.method} carries state by the agents in both generations: "
                f"{why_not}",
            )
        if workload.channel == "kho":
            problems.add(
                f"workloads.{workload.name}.channel",
                "kho does not reach an instance beside the host's kernel; leave it at auto",
            )
    elif not (migrate.stop and migrate.start):
        problems.add(
            where,
            "stop and start are needed: they are run on the host and reach into the instance "
            "that $MKUPGRADE_INSTANCE names",
        )


def _why_not_carried(instance: Instance, line: Lineage) -> str | None:
    name, old = instance.name, line.running
    if instance.agent is None:
        return f"instances.{name}.agent is needed"
    if old is None:
        return f"no generation of {name} runs that there could be state of; choose restart"
    if old.agent is None:
        return (
            f"this host has no key of an agent in {old.name}, which no plan with agent has loaded; "
            "upgrade it once with method restart"
        )
    return None


def _check_ids(count: int, host: HostState, problems: Problems) -> None:
    taken = sum(FIRST_ID <= it.id <= LAST_ID for it in host.instances.values())
    left = LAST_ID - FIRST_ID + 1 - taken
    if count > left:
        problems.add("instances", f"{count} new ids are needed, {left} are left below {LAST_ID}")


def _wanted(instance: Instance, line: Lineage, image: Artifact) -> cmdline.Words:
    running = (line.running.cmdline if line.running else None) or ""
    edits = instance.cmdline
    ours = CommandLine(
        inherit=edits.inherit, append=edits.append, remove=[*edits.remove, IMAGE_MARK]
    )
    words = cmdline.wanted(running, ours)
    if not any(word.startswith("console=") for word in words.kernel):
        words.kernel.append(CONSOLE)
    words.kernel.append(image_mark(image))
    return words


def _runs(has: InstanceState, wanted: cmdline.Words) -> bool:
    """Is its image the wanted one, with the wanted command line?"""
    return has.cmdline is not None and cmdline.same(cmdline.inherited(has.cmdline), wanted)
