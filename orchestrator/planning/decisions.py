"""Everything that is decided before the first step is made."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any

from orchestrator.model.host import Artifact, Cap, HostState, KernelState
from orchestrator.model.kinds import ChannelName
from orchestrator.model.params.in_place import NixosProfile, PendingGeneration
from orchestrator.model.spec import Check, Instance, UpgradeSpec, Workload
from orchestrator.model.spec.checks import KernelCheck, Phase
from orchestrator.planning.channels import Channels
from orchestrator.planning.way_back import WayBack

BOOTED_SYSTEM = "nixos-booted-system"
"""Name of the check that a plan for a NixOS system has of its own."""


@dataclass(frozen=True)
class Decisions:
    """What the sections are built from. All of it was found sound."""

    spec: UpgradeSpec
    host: HostState
    instance: Instance
    image: Artifact
    cmdline: str
    """Of the new kernel."""
    channels: Channels
    way_back: WayBack

    @property
    def from_release(self) -> str:
        return self.host.kernel.release

    @property
    def to_release(self) -> str:
        return self.instance.kernel.wanted_release

    @property
    def boot_default(self) -> str | None:
        """The entry to go back to, where it can be set at all."""
        return self.host.boot.default if self.sets_boot_default else None

    @property
    def sets_boot_default(self) -> bool:
        """By its entry. The boot menu of a NixOS host is made from its profile instead."""
        return self.profile is None and self.host.can(Cap.BOOT_DEFAULT).available

    @cached_property
    def profile(self) -> NixosProfile | None:
        """What commit does to a NixOS host's profile; None: it is none, or has none."""
        toplevel = self.instance.kernel.toplevel
        state = self.host.systems[str(toplevel)] if toplevel is not None else None
        found = state.profile if state is not None else None
        if state is None or found is None or found.leads_to is None or found.generation is None:
            return None
        previous, generation, pending = found.leads_to, found.generation, None
        if found.leads_to not in state.active and found.back_to and found.back is not None:
            pending = PendingGeneration(toplevel=found.leads_to, generation=found.generation)
            previous, generation = found.back_to, found.back
        return NixosProfile(
            link=found.link,
            toplevel=str(toplevel),
            previous=previous,
            generation=generation,
            last=found.last,
            pending=pending,
        )

    @cached_property
    def document(self) -> dict[str, Any]:
        """The spec as JSON. Shared by what is made from it: not to be changed."""
        return self.spec.model_dump(mode="json")

    @cached_property
    def documents(self) -> dict[str, dict[str, Any]]:
        """Each workload's part of it, by name."""
        return {w["name"]: w for w in self.document["workloads"]}

    @cached_property
    def carried(self) -> list[str]:
        """Names of the workloads whose state travels."""
        return [w.name for w in self.spec.workloads if w.name in self.channels.by_workload]

    @cached_property
    def names(self) -> list[str]:
        return [w.name for w in self.spec.workloads]

    @cached_property
    def after(self) -> list[tuple[str, str]]:
        """(earlier, later) in the order of restoring; each pair once."""
        pairs = ((other, w.name) for w in self.spec.workloads for other in w.after)
        return list(dict.fromkeys(pairs))

    def channel(self, workload: Workload, *, back: bool = False) -> ChannelName:
        """What carries it; a reset empties the memory, so that only the disk is left."""
        if back and self.way_back.method == "reset":
            return "disk"
        return self.channels.by_workload.get(workload.name, "disk")

    def channel_map(self, *, back: bool = False) -> dict[str, ChannelName]:
        return {
            w.name: self.channel(w, back=back)
            for w in self.spec.workloads
            if w.name in self.channels.by_workload
        }

    def spills(self, workload: Workload, channel: ChannelName) -> bool:
        return channel == "kho" and workload.spill

    def size(self, workload: Workload) -> int:
        """Bytes of state to expect."""
        return self.host.workloads[workload.name].memory_bytes

    def sizes(self, channels: dict[str, ChannelName], channel: ChannelName) -> int:
        states = self.host.workloads
        return sum(states[name].memory_bytes for name, c in channels.items() if c == channel)

    def checks(self, phase: Phase) -> list[Check]:
        """The spec's and every workload's checks of a phase."""
        ours = self._booted_system() if phase == "after" else []
        return [*ours, *self.spec.checks_of(phase)]

    def _booted_system(self) -> list[Check]:
        """On NixOS a release does not say which system it is that came up."""
        toplevel = self.instance.kernel.toplevel
        if toplevel is None:
            return []
        check: dict[str, Any] = {"name": BOOTED_SYSTEM, "kind": "kernel", "system": str(toplevel)}
        only = {"not_tainted": False, "log_excludes": [], "when": ["after"]}
        return [KernelCheck.model_validate(check | only)]

    def checks_in_old_kernel(self) -> list[Check]:
        """The "after" checks, with those of the kernel turned to the old one."""
        return [_for_kernel(c, self.host.kernel) for c in self.checks("after")]


def _for_kernel(check: Check, kernel: KernelState) -> Check:
    if not isinstance(check, KernelCheck):
        return check
    system = PurePosixPath(kernel.system) if kernel.system is not None else None
    return check.model_copy(
        update={
            "release": kernel.release if check.release is not None else None,
            "system": system if check.system is not None else None,
        }
    )


def count(things: Iterable[object], word: str) -> str:
    """ "1 check", "3 checks"."""
    number = sum(1 for _ in things)
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
