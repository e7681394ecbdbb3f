"""What a channel is: the one interface of KHO, disk and stream.

In the source kernel: `send`, then the jump (or `discard`, to take it back). In the target kernel:
`receive`, which verifies everything, makes it durable and unpacks it, and only then `finish`.
Between the two the kernel holds the copy in memory; after `finish` it is gone there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from orchestrator.handover.manifest import Manifest
from orchestrator.model.errors import HandoverError
from orchestrator.model.seams import Control
from orchestrator.model.steps import Inspected, Section


class NothingSentError(HandoverError):
    """There is no state here, whole or damaged: this way none was sent."""


@dataclass(frozen=True)
class Head:
    """What a manifest says of the whole; names and digests are checked when it is sent."""

    transaction: str
    plan_digest: str
    section: Section
    """FORWARD or RETURN: the section in which the state was taken."""
    source_release: str
    source_boot_id: str
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Free-form results for the next kernel's report."""


@dataclass(frozen=True)
class Item:
    """One workload's state, ready to go."""

    name: str
    method: Literal["criu", "hooks", "restart"]
    meta: Mapping[str, Any]
    """What `Workloads.checkpoint` returned."""
    directory: Path | None
    """What `Workloads.checkpoint` left on disk; None: nothing but `meta` travels."""


@dataclass(frozen=True)
class Received:
    """A handover that arrived: every digest fits, but for those of `damaged`."""

    manifest: Manifest
    """As it was sent; it lists the damaged ones, too."""
    directories: Mapping[str, Path]
    """Workload name -> where its state was unpacked (0700); workloads with a payload only."""
    damaged: Mapping[str, str] = field(default_factory=dict)
    """Workload name -> why its payload cannot be used. Nothing of it was unpacked."""


class Channel(Protocol):
    """One handover of one section of one transaction, through one medium.

    Every method may raise `HandoverError`, `SystemCallError` and `DeadlineError`.
    """

    @property
    def name(self) -> str:
        """kho, disk or stream."""
        ...

    def send(self, head: Head, items: Sequence[Item], control: Control) -> Manifest:
        """Stream every item into the channel, the manifest last. All or nothing: after an error
        nothing is held. A second `send` replaces the first."""
        ...

    def inspect_sent(self) -> Inspected:
        """Is everything that was sent still there? ABSENT after the process that held a KHO
        session has died; PARTIAL for what a crash left half written on disk."""
        ...

    def discard(self) -> None:
        """Take `send` back, or clean up in the end: nothing of it is left, durable copies
        included; again is fine."""
        ...

    def receive(self, destination: Path, control: Control) -> Received:
        """Fetch and verify everything, make it durable in the state directory, and unpack it:

            DESTINATION/manifest                the frame, written last
            DESTINATION/state/<workload>/…      0700

        `destination` itself may be volatile; it is made, 0700. What an earlier call left
        complete there is verified and returned instead. One payload that is damaged does not
        keep the others from being received; where all of them are, it is an error."""
        ...

    def inspect_received(self, destination: Path) -> Inspected:
        """PRESENT: everything is in `destination` and fits the manifest there."""
        ...

    def finish(self) -> None:
        """After `receive`: memory that the kernel still holds for us may go. What is durable in
        the state directory stays until `discard`, since it is the way back."""
        ...

    def close(self) -> None:
        """Let go of descriptors. For KHO this discards what was sent and not yet taken over by
        a jump."""
        ...
