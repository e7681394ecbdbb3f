"""Everything that is decided about each instance before the first step is made."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.model.host import Artifact, HostState
from orchestrator.model.kinds import Generation
from orchestrator.model.spec import CommandLine, Instance, UpgradeSpec
from orchestrator.model.spec.workloads import RestartMigrate, Workload
from orchestrator.planning import cmdline
from orchestrator.planning.artifacts import check_artifacts
from orchestrator.planning.problems import Problems
from orchestrator.planning.side_by_side.capacity import Need, check_room, pick_cpus
from orchestrator.planning.side_by_side.generations import (
    FIRST_ID,
    LAST_ID,
    Lineage,
    lineage,
    successors,
)

IMAGE_MARK = "mkupgrade.image="
"""Kernel parameter with the first digits of the image's SHA-256: /proc/kimage gives back the
command line of what is loaded and not the image, and nobody tells the release of an instance."""
CONSOLE = "console=mktty0"
_NEEDS_STREAM = (
    "method {method} carries state from one running kernel to another, which needs the stream "
    "channel between instances, and that is not built; only method restart is moved"
)


@dataclass(frozen=True)
class Choice:
    """One instance that gets a new generation."""

    instance: Instance
    old: Lineage
    new: Generation
    image: Artifact
    cpus: list[int]
    memory_bytes: int
    cmdline: str


@dataclass(frozen=True)
class Choices:
    spec: UpgradeSpec
    host: HostState
    changed: dict[str, Choice]
    """By instance of the spec, in its order."""
    same: list[str]
    """Instances that run what the spec asks for."""


def choose(spec: UpgradeSpec, host: HostState, problems: Problems) -> Choices:
    """Decide; what cannot be is added to the problems, and the rest must not be used then."""
    lines = {it.name: lineage(it.name, host, problems) for it in spec.instances}
    needs: dict[str, Need] = {}
    words: dict[str, cmdline.Words] = {}
    same = []
    for instance in spec.instances:
        line = lines[instance.name]
        check_artifacts(instance, host, problems)
        _check_devices(instance, problems)
        need = _need(instance, line, problems)
        image = host.artifacts.get(str(instance.kernel.image))
        if need is None or image is None:
            continue
        wanted = _wanted(instance, line, image)
        if not cmdline.fits(wanted):
            problems.add(f"instances.{instance.name}.cmdline", "leaves no room for our marks")
        if _is_there(line, need, wanted):
            same.append(instance.name)
            continue
        needs[instance.name] = need
        words[instance.name] = wanted
    for workload in spec.workloads:
        if workload.instance not in same:
            _check_workload(workload, problems)
    kept = [it for line in lines.values() for it in line.stopped]
    if needs:
        check_room(needs, kept, host, problems)
        _check_ids(len(needs), host, problems)
    if problems.lines:
        return Choices(spec, host, {}, same)
    news = successors((lines[name] for name in needs), host)
    cpus = pick_cpus(needs, host)
    changed = {
        it.name: Choice(
            it,
            lines[it.name],
            news[it.name],
            host.artifacts[str(it.kernel.image)],
            cpus[it.name],
            needs[it.name].memory_bytes,
            str(words[it.name]),
        )
        for it in spec.instances
        if it.name in needs
    }
    return Choices(spec, host, changed, same)


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


def _check_devices(instance: Instance, problems: Problems) -> None:
    if instance.resources and instance.resources.devices:
        problems.add(
            f"instances.{instance.name}.resources.devices",
            "a device has one owner: giving it to a generation beside the old one is not built",
        )


def _check_workload(workload: Workload, problems: Problems) -> None:
    migrate, where = workload.migrate, f"workloads.{workload.name}.migrate"
    if not isinstance(migrate, RestartMigrate):
        problems.add(where, _NEEDS_STREAM.format(method=migrate.method))
    elif not (migrate.stop and migrate.start):
        problems.add(
            where,
            "stop and start are needed: they are run on the host and reach into the instance "
            "that $MKUPGRADE_INSTANCE names",
        )


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
    words.kernel.append(f"{IMAGE_MARK}{(image.sha256 or '')[:16]}")
    return words


def _is_there(line: Lineage, need: Need, wanted: cmdline.Words) -> bool:
    has = line.running
    if has is None or has.cmdline is None:
        return False
    fits = (len(has.cpus), has.memory_bytes) == (need.cpus, need.memory_bytes)
    return fits and cmdline.same(cmdline.inherited(has.cmdline), wanted)
