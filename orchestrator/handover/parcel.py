"""Which handover of how many: its name, on the wire to an agent and on both ends' disks."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from orchestrator.handover.disk import DiskChannel, Part
from orchestrator.model.errors import ErrorClass, HandoverError
from orchestrator.model.steps import Section

_NAMES = re.compile(
    r"(?P<section>forward|return)"
    r"( (?P<transaction>[A-Za-z0-9][A-Za-z0-9._-]{0,51})"
    r" (?P<workload>[a-z0-9]([a-z0-9._-]{0,46}[a-z0-9])?)(?P<ahead> ahead)?)?"
)


@dataclass(frozen=True)
class Parcel:
    """One handover."""

    transaction: str
    section: Section
    """FORWARD: the state was taken in the old kernel, RETURN: in the new one."""
    workload: str | None = None
    """None: of all workloads that travel together."""
    ahead: bool = False
    """Not its state, but what was copied of it while it ran on: the state may go on from there."""

    def copied_ahead(self) -> Parcel:
        """The one that goes ahead of this one."""
        return replace(self, ahead=True)

    def back(self) -> Parcel:
        """The one that goes the other way."""
        other = Section.RETURN if self.section is Section.FORWARD else Section.FORWARD
        return Parcel(self.transaction, other, self.workload)

    def channel(self, state_dir: Path, part: Part = "sent") -> DiskChannel:
        """Where it lies below a state directory."""
        return DiskChannel(
            state_dir, self.transaction, self.section, part, self.workload, ahead=self.ahead
        )

    def text(self) -> str:
        """`SECTION`, or `SECTION TRANSACTION WORKLOAD[ ahead]`: at most 115 characters."""
        if self.workload is None:
            return self.section.value
        ahead = " ahead" if self.ahead else ""
        return f"{self.section.value} {self.transaction} {self.workload}{ahead}"


def parse_parcel(text: str, transaction: str) -> Parcel:
    """
    Args:
        transaction: of one that names none.

    Raises:
        HandoverError: it names none.
    """
    found = _NAMES.fullmatch(text)
    if found is None:
        raise HandoverError(
            f"{text!r:.120} names no handover",
            state="nothing was done",
            error_class=ErrorClass.INVALID,
        )
    section = Section(found["section"])
    return Parcel(
        found["transaction"] or transaction, section, found["workload"], found["ahead"] is not None
    )
