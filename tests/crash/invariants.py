"""What must hold, by name. A `Violation` names one of these and says what was seen."""

from __future__ import annotations

from enum import StrEnum


class Invariant(StrEnum):
    INTENTION_DURABLE = "intention-durable"
    """No effect, and no taking back of one, before its intention is on the disk."""
    NO_EFFECT_TWICE = "no-effect-twice"
    """No step is performed over an effect that is there, wholly or in part."""
    ORDER = "order"
    """Steps come after those before them; they are taken back the other way round."""
    LIMITS = "limits"
    """No more units of a resource in use than there are; never more in flight than allowed."""
    ALONE = "alone"
    """Pivot and commit run when all before them is done and nothing else is in flight."""
    ONE_RUNNER = "one-runner"
    """One process at a time works on the host and writes to the journal."""
    KNOWN = "known"
    """What is reported of an effect is so; what nobody can know is never reported as done."""
    UNKNOWN_STOPS = "unknown-stops"
    """An effect that can be neither confirmed nor excluded ends in outcome `unknown`."""
    BOOT_DEFAULT = "boot-default"
    """A reset ends in the old kernel until the commit is begun."""
    ONE_KERNEL = "one-kernel"
    """A workload runs in at most one kernel, and only in the one that is there."""
    STATE_SOMEWHERE = "state-somewhere"
    """A workload's state is always in at least one place from which it can be brought back."""
    CHECKED = "checked"
    """Committed means that every check before it had passed in the new kernel."""
    COMMITTED = "committed"
    """Committed means that the host is in the new kernel, a reset ends in it, all workloads run."""
    ROLLED_BACK = "rolled-back"
    """Rolled back means that the host is as it was before, field by field."""
    CHAIN = "chain"
    """Every event follows the one before it, by number and by hash."""
    ACKNOWLEDGED = "acknowledged"
    """An event whose commit returned is never lost or changed."""
    FOLD = "fold"
    """fold(log) is the state that the process had."""
    EVENT_PAIRS = "event-pairs"
    """Only events that may follow each other do."""
    ENDS = "ends"
    """Without new faults every transaction comes to an end."""
    NO_BUG = "no-bug"
    """The engine raises nothing but MkupgradeError."""
    RESOURCES_CONSERVED = "resources-conserved"
    """Each CPU and each byte of memory is once: the host's, the pool's or an instance's. Rolled
    back means that each instance has what it had; committed, what was planned."""


class Violation(BaseException):
    """The engine broke a promise. No Exception: it would pass as a failure of the driver."""

    def __init__(self, invariant: Invariant, what: str) -> None:
        super().__init__(f"{invariant.value}: {what}")
        self.invariant, self.what = invariant, what


def hold(invariant: Invariant, promise: bool, what: str) -> None:
    """Raise unless it holds. `what` is put together by the caller: keep it cheap."""
    if not promise:
        raise Violation(invariant, what)
