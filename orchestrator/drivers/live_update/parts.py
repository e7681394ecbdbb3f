"""The parts of a host that the step kinds stand on, as narrow as they use them.

Everything dangerous sits behind these protocols, so that the step kinds can be held to their
rules against doubles, on any machine. `real.py` has the one real implementation of each.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn, Protocol

from orchestrator.handover.channels import Channel
from orchestrator.handover.disk import DiskChannel
from orchestrator.handover.kho import Keeper, KhoChannel, OpenDevice
from orchestrator.model.host import BootState, ProfileState
from orchestrator.model.landing import Place
from orchestrator.model.params.in_place import NixosProfile
from orchestrator.model.seams import Control
from orchestrator.model.steps import Section
from orchestrator.workloads.facade import Workloads


class Machine(Protocol):
    """The running kernel, and what changes it."""

    def place(self) -> Place:
        """Where we are."""
        ...

    def objections(self) -> list[str]:
        """Why the guard would refuse to change this machine; empty: it would not."""
        ...

    def unused_pid(self) -> int:
        """Where the next kernel can begin to give out process ids, far from those in use."""
        ...

    def kexec_loaded(self) -> bool:
        """Is any kernel loaded for kexec?"""
        ...

    def load_kernel(self, image: Path, sha256: str, initrd: Path | None, cmdline: str) -> None:
        """Load the very bytes that have this digest, in the place of what is loaded."""
        ...

    def unload_kernel(self) -> None:
        """Drop what is loaded; nothing loaded is fine."""
        ...

    def sync(self) -> None:
        """Write out all file systems."""
        ...

    def jump(self) -> NoReturn:
        """Into the loaded kernel. Comes back only by an error, and then nothing happened."""
        ...

    def reset(self) -> NoReturn:
        """Through the firmware. Comes back only by an error, and then nothing happened."""
        ...


class Boot(Protocol):
    """What a reset ends in."""

    def state(self) -> BootState: ...

    def set_default(self, entry: str) -> None:
        """Make an entry the default, durably. Again is fine."""
        ...

    def entry_for(self, release: str) -> str | None:
        """Id of the entry that boots this release, if exactly one does."""
        ...


class Nixos(Protocol):
    """The system profile of a NixOS host, and the boot menu that is made from it."""

    def check(self, params: NixosProfile, control: Control) -> None:
        """Have the new system's own pre-switch checks say whether it may be switched to."""
        ...

    def state(self) -> ProfileState:
        """What the profile leads to."""
        ...

    def arm(self, params: NixosProfile, control: Control) -> None:
        """Keep both systems from being collected, and the old one what the menu starts by default,
        also where another one is pending. Again is fine."""
        ...

    def disarm(self, params: NixosProfile, control: Control) -> None:
        """Hold the new system no longer, and what was pending is so again. Again is fine."""
        ...

    def install(self, params: NixosProfile, control: Control) -> None:
        """The new system is what the profile leads to, then what the menu starts by default."""
        ...

    def put_back(self, params: NixosProfile, control: Control) -> None:
        """The old one is, in the opposite order. Again is fine, and so is a partial `install`."""
        ...


class Watchdog(Protocol):
    """The hardware that resets a machine which went silent; one for the whole driver."""

    def arm(self, device: Path, seconds: float) -> None:
        """Open it and keep it alive from now on. Again is fine."""
        ...

    def held(self, device: Path) -> bool:
        """Is it armed by this process?"""
        ...

    def keep_alive(self) -> None:
        """Once more before the jump, if armed: from here the new kernel has all of its time."""
        ...

    def disarm(self, device: Path) -> None:
        """Stop it, also one that a dead process of ours left running; what somebody else has
        open is left to them."""
        ...

    def close(self) -> None:
        """Stop what this process holds: it ends in an orderly way."""
        ...


class Channels:
    """The channels of the transaction at hand. Those through memory are kept: they hold the
    session, and one that was made here lives no longer than this process."""

    def __init__(self, open_device: OpenDevice, keeper: Keeper) -> None:
        """
        Args:
            keeper: holds a session that was retrieved, until its state is durable.
        """
        self.open_device = open_device
        self._keeper = keeper
        self._kho: dict[tuple[Path, str, Section], Channel] = {}

    def kho(self, state_dir: Path, transaction: str, taken_in: Section) -> Channel:
        """The same one each time. `taken_in`: FORWARD or RETURN, also for `receive`."""
        key = (state_dir, transaction, taken_in)
        if key not in self._kho:
            self._kho[key] = KhoChannel(self.open_device, self._keeper, *key)
        return self._kho[key]

    @staticmethod
    def disk(state_dir: Path, transaction: str, taken_in: Section) -> Channel:
        """What was sent through the disk."""
        return DiskChannel(state_dir, transaction, taken_in)

    @staticmethod
    def copy(state_dir: Path, transaction: str, taken_in: Section) -> Channel:
        """What came through memory and was made durable by its receiver."""
        return DiskChannel(state_dir, transaction, taken_in, "received")

    def close(self) -> None:
        """Let go of the sessions: what was sent and not taken over by a jump is discarded."""
        while self._kho:
            self._kho.popitem()[1].close()


@dataclass
class Parts:
    """All of them. `runtime_dir` is on a file system in memory: /run/mkupgrade."""

    machine: Machine
    boot: Boot
    nixos: Nixos
    watchdog: Watchdog
    channels: Channels
    workloads: Workloads
    runtime_dir: Path
    restored: set[tuple[Section, str]] = field(default_factory=set)
    """Workloads that this process has brought back."""
