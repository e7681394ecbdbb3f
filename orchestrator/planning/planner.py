"""(spec, host state) -> step graph. Pure: equal inputs give an equal graph, byte for byte."""

from __future__ import annotations

from orchestrator.model.base import digest
from orchestrator.model.host import Cap, HostState
from orchestrator.model.spec import Instance, UpgradeSpec
from orchestrator.model.steps import Step, StepGraph
from orchestrator.planning import channels, cmdline, sections, summary, way_back
from orchestrator.planning.admission import check_admission, check_idle, check_workloads
from orchestrator.planning.artifacts import check_artifacts
from orchestrator.planning.decisions import Decisions
from orchestrator.planning.problems import Problems
from orchestrator.planning.references import check_references
from orchestrator.planning.requirements import check_requirements
from orchestrator.planning.schedule import makespan
from orchestrator.planning.soundness import check_shape
from orchestrator.planning.workload_steps import RESOURCE

NEXT = "mkupgrade doctor"


def plan(spec: UpgradeSpec, host: HostState) -> StepGraph:
    """Plan one upgrade of this host, or say that there is nothing to do.

    Returns:
        The graph; without steps, and with a note, where nothing differs.

    Raises:
        PlanError: no safe plan exists; `details` holds every cause, "<where>: <what>" a line.
    """
    _check_names(spec)
    problems = Problems()
    check_admission(spec, host, problems)
    problems.raise_if_any("this host cannot carry out this spec", next_command=NEXT)
    if spec.strategy.kind != "in-place":
        from orchestrator.planning import side_by_side

        graph = side_by_side.plan(spec, host, _intent(spec, spec.digest(), host))
        check_shape(graph)
        _check_deadline(graph)
        return graph
    instance = spec.instances[0]
    words = cmdline.wanted(host.kernel.cmdline, instance.cmdline)
    if nothing_differs(spec, instance, words, host):
        return _empty(spec, host, instance)
    decisions = _decide(spec, host, instance, words)
    graph = _graph(decisions)
    check_shape(graph)
    return graph


def nothing_differs(
    spec: UpgradeSpec, instance: Instance, words: cmdline.Words, host: HostState
) -> bool:
    """The release is the wanted one, and so is the command line. Of a NixOS system: it takes no
    other kernel than the one that is booted, and `init=`, which names a generation, is no matter.

    What an earlier upgrade added of its own (panic=, kho=on) is no difference.
    """
    if host.kernel.release != instance.kernel.release:
        return False
    running = cmdline.inherited(host.kernel.cmdline)
    toplevel = instance.kernel.toplevel
    if toplevel is not None:
        if host.systems[str(toplevel)].reasons:
            return False
        running, words = cmdline.without_init(running), cmdline.without_init(words)
    panic = spec.rollback.panic_timeout
    ours = (
        words,
        cmdline.completed(words, panic_timeout=panic, kho=False),
        cmdline.completed(words, panic_timeout=panic, kho=True),
    )
    return any(cmdline.same(running, it) for it in ours)


def _check_names(spec: UpgradeSpec) -> None:
    problems = Problems()
    check_references(spec, problems)
    problems.raise_if_any("the spec contradicts itself", next_command="mkupgrade validate")


def _decide(
    spec: UpgradeSpec, host: HostState, instance: Instance, words: cmdline.Words
) -> Decisions:
    problems = Problems()
    check_idle(host, problems)
    check_artifacts(instance, host, problems)
    check_workloads(spec, host, problems)
    problems.raise_if_any("this host cannot carry out this spec", next_command=NEXT)
    image = host.artifacts[str(instance.kernel.image)]
    against = channels.reasons_against_kho(host, image, words, instance.cmdline)
    chosen = channels.choose(spec, against, host, problems)
    full = cmdline.completed(words, panic_timeout=spec.rollback.panic_timeout, kho=chosen.uses_kho)
    if not cmdline.fits(full):
        problems.add(
            f"instances.{instance.name}.cmdline",
            f"{len(str(full))} characters; a kernel keeps {cmdline.LIMIT}, and "
            f"{cmdline.MARK_ROOM} of them are for the transaction's mark",
        )
    way = way_back.choose(spec, host, kho=chosen.uses_kho, problems=problems)
    problems.raise_if_any("this host cannot carry out this spec", next_command=NEXT)
    return Decisions(spec, host, instance, image, str(full), chosen, way)


def _graph(d: Decisions) -> StepGraph:
    forward = sections.forward(d)
    parts = (forward, sections.back(d), sections.recover(d))
    steps = [step for part in parts for step in part.steps]
    _check_steps(steps, d)
    spec_digest = digest(d.document)
    graph = StepGraph(
        name=d.spec.metadata.name,
        spec_digest=spec_digest,
        intent_digest=_intent(d.spec, spec_digest, d.host),
        state_dir=str(d.spec.host.state_dir),
        driver=d.host.driver,
        steps=steps,
        edges=[edge for part in parts for edge in part.edges],
        limits={RESOURCE: d.spec.strategy.parallel},
        deadline=d.spec.rollback.deadline,
        automatic_rollback=d.spec.rollback.automatic,
        changes=summary.changes(d),
        keeps=summary.keeps(d),
        notes=summary.notes(d),
        host=d.host,
        spec=d.spec,
    )
    _check_deadline(graph)
    return graph


def _check_steps(steps: list[Step], d: Decisions) -> None:
    problems = Problems()
    waived = {Cap.DURABLE_STATE} if d.spec.host.allow_volatile_state else set()
    check_requirements(steps, d.host, problems, waived=waived)
    problems.raise_if_any("this host lacks what the upgrade needs", next_command=NEXT)


def _check_deadline(graph: StepGraph) -> None:
    problems = Problems()
    expected = makespan(graph)
    if expected > graph.deadline:
        problems.add(
            "rollback.deadline",
            f"{graph.deadline:g}s for everything up to commit, but the steps (soak included) are "
            f"expected to take {expected:.0f}s",
        )
    problems.raise_if_any("the upgrade cannot end in time", next_command="mkupgrade validate")


def _empty(spec: UpgradeSpec, host: HostState, instance: Instance) -> StepGraph:
    return StepGraph(
        name=spec.metadata.name,
        spec_digest=spec.digest(),
        intent_digest=_intent(spec, spec.digest(), host),
        state_dir=str(spec.host.state_dir),
        driver=host.driver,
        deadline=spec.rollback.deadline,
        automatic_rollback=spec.rollback.automatic,
        notes=_nothing_to_do(host, instance),
        host=host,
        spec=spec,
    )


def _nothing_to_do(host: HostState, instance: Instance) -> list[str]:
    line = (
        f"nothing to do: instance {instance.name} runs Linux {host.kernel.release} with the "
        "command line that the spec asks for"
    )
    toplevel = instance.kernel.toplevel
    if toplevel is None or str(toplevel) == host.kernel.system:
        return [line]
    switch = f"a switch is enough: {toplevel}/bin/switch-to-configuration switch"
    return [line, f"NixOS system {toplevel} takes no other kernel than the booted one; {switch}"]


def _intent(spec: UpgradeSpec, spec_digest: str, host: HostState) -> str:
    """The spec and the files that it names: not the host, which an upgrade changes."""
    named = [
        str(path)
        for i in spec.instances
        for path in (i.kernel.image, i.kernel.initrd)
        if path is not None
    ]
    seen = {p: host.artifacts[p].sha256 if p in host.artifacts else None for p in named}
    return digest({"spec": spec_digest, "artifacts": seen})
