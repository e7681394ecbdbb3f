"""What a spec asks for against what this host and its driver can do at all."""

from __future__ import annotations

from orchestrator.model.host import Cap, HostState, ProfileState, SystemState
from orchestrator.model.spec import UpgradeSpec, Workload
from orchestrator.planning.problems import Problems


def check_admission(spec: UpgradeSpec, host: HostState, problems: Problems) -> None:
    """Strategy, number of instances and systems: refused with the reason where they cannot be
    had."""
    kind = spec.strategy.kind
    _check_systems(spec, host, problems)
    side_by_side = host.can(Cap.SIDE_BY_SIDE)
    if kind not in host.strategies:
        can = ", ".join(host.strategies) or "none"
        problems.add(
            "strategy.kind",
            f'driver {host.driver} cannot do "{kind}" (it can: {can}): {side_by_side.reason}',
        )
    if spec.host.pool is not None and kind == "in-place":
        problems.add(
            "host.pool",
            f"strategy {kind} has no pool: only drivers that run kernels side by side set "
            "something aside for them",
        )
    if len(spec.instances) == 1 or (kind != "in-place" and kind in host.strategies):
        return
    names = ", ".join(i.name for i in spec.instances)
    if side_by_side.available:
        why = f'plans of strategy "{kind}" for several instances on one host are not built'
    else:
        why = f"driver {host.driver} runs one kernel at a time: {side_by_side.reason}"
    problems.add("instances", f"{len(spec.instances)} of them ({names}): {why}")


def _check_systems(spec: UpgradeSpec, host: HostState, problems: Problems) -> None:
    """NixOS systems: looked up, the host's own, and read by the driver."""
    for instance in spec.instances:
        where, kernel = f"instances.{instance.name}.kernel", instance.kernel
        toplevel = str(kernel.toplevel) if kernel.toplevel is not None else None
        if kernel.initrd_secrets is not None and spec.strategy.kind != "in-place":
            problems.add(
                f"{where}.initrd_secrets",
                f"strategy {spec.strategy.kind} appends no secrets to the initrds of instances",
            )
        if kernel.nixos is not None:
            problems.add(f"{where}.nixos", "was not looked up on this host")
        elif toplevel is not None and spec.strategy.kind != "in-place":
            problems.add(
                f"{where}.toplevel",
                "only a host's own kernel is that of a NixOS system: strategy "
                f"{spec.strategy.kind} runs kernels beside it",
            )
        elif toplevel is not None:
            state = host.systems.get(toplevel)
            why = state.error if state else f"driver {host.driver} did not look at it"
            if why is not None:
                problems.add(toplevel, why)
            elif state is not None and state.profile is not None:
                _check_profile(state, state.profile, problems)


def _check_profile(state: SystemState, profile: ProfileState, problems: Problems) -> None:
    """Until commit a reset must end in the old system, which is what the menu was made from."""
    if profile.leads_to is None or profile.generation is None:
        problems.add(profile.link, "leads to no system, so that nothing could be put back")
    elif profile.leads_to not in state.active and state.reasons and profile.back is None:
        wanted = "the wanted system" if profile.leads_to == state.toplevel else profile.leads_to
        old = state.active[-1] if state.active else "OLD"
        problems.add(
            profile.link,
            f"leads to {wanted} already (generation {profile.generation}), which neither runs nor "
            "is current, and no generation of it leads to one that does: a new kernel that dies "
            "could not end in the old system. Make a generation of that (`nix-env -p "
            f"{profile.link} --set {old}`, then `{old}/bin/switch-to-configuration boot`)",
        )


def check_idle(host: HostState, problems: Problems) -> None:
    """An image that somebody else has loaded would be thrown away, or jumped into."""
    if host.kexec_loaded:
        problems.add(
            "kexec", "a kernel is loaded already, and not by us; unload it first (kexec -u)"
        )


def check_workloads(spec: UpgradeSpec, host: HostState, problems: Problems) -> None:
    """A workload whose state is to be carried must be running now."""
    for workload in spec.workloads:
        why = why_not_running(workload, host)
        if workload.name not in host.workloads:
            problems.add(f"workloads.{workload.name}", f"driver {host.driver} did not look for it")
        elif why and workload.migrate.method != "restart":
            problems.add(
                f"workloads.{workload.name}",
                f"{why}; method {workload.migrate.method} carries the state of a running one",
            )


def why_not_running(workload: Workload, host: HostState) -> str | None:
    """In words, or None where it runs."""
    state = host.workloads.get(workload.name)
    if state is None:
        return "not looked for"
    if state.error is not None:
        return state.error
    return None if state.pids else "not running"
