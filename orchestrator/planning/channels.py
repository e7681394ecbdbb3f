"""Which channel carries a workload's state, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from orchestrator.model.host import Artifact, Cap, HostState
from orchestrator.model.kinds import ChannelName
from orchestrator.model.spec import CommandLine, UpgradeSpec, Workload
from orchestrator.planning import cmdline
from orchestrator.planning.problems import Problems


@dataclass(frozen=True)
class Channels:
    """The decision for each workload that has state; the others are not in `by_workload`."""

    by_workload: Mapping[str, ChannelName]
    notes: tuple[str, ...]

    @property
    def uses_kho(self) -> bool:
        return "kho" in self.by_workload.values()


def carries_state(workload: Workload) -> bool:
    """False for workloads that are merely stopped and started."""
    return workload.migrate.method != "restart"


def reasons_against_kho(
    host: HostState, image: Artifact, words: cmdline.Words, edits: CommandLine
) -> list[str]:
    """Every reason why memory cannot be handed over; empty: it can."""
    reasons = [
        f"{cap.value} is not available: {host.can(cap).reason}"
        for cap in (Cap.KHO, Cap.LUO)
        if not host.can(cap).available
    ]
    if image.kho_config is False:
        reasons.append(
            "the new kernel is built without CONFIG_KEXEC_HANDOVER or CONFIG_LIVEUPDATE_MEMFD"
        )
    else:
        reasons += [f"ABI {line}" for line in host.kernel.abi.differences(image.abi)]
    refused = cmdline.kho_refused(words, edits)
    return [*reasons, refused] if refused else reasons


def choose(spec: UpgradeSpec, reasons: list[str], host: HostState, problems: Problems) -> Channels:
    """Pick a channel per workload; explicit `kho` that cannot be is a problem."""
    chosen: dict[str, ChannelName] = {}
    notes = []
    why_not = "; ".join(reasons)
    for workload in spec.workloads:
        if not carries_state(workload):
            notes.append(f"workload {workload.name} is stopped and started: no state is carried")
            continue
        channel, why = _channel(workload, reasons, why_not, host)
        if channel is None:
            for reason in reasons:
                problems.add(f"workloads.{workload.name}.channel", f"kho cannot be used: {reason}")
            continue
        chosen[workload.name] = channel
        notes.append(f"channel {channel} for {workload.name}: {why}")
    return Channels(chosen, tuple(notes))


def _channel(
    workload: Workload, reasons: list[str], why_not: str, host: HostState
) -> tuple[ChannelName | None, str]:
    if workload.channel == "disk":
        return "disk", "the spec asks for it"
    if not reasons:
        abi = host.kernel.abi
        return "kho", f"both kernels speak {abi.kho}, {abi.luo}, {abi.memfd}"
    if workload.channel == "kho":
        return None, why_not
    return "disk", why_not
