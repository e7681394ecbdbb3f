"""The one error tree. Whatever an operator may see is a subclass of `MkupgradeError`.

An error answers four questions of somebody woken at 3 a.m.: what failed, where,
what state the host is in now, and the one command to run next.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from orchestrator.model.outcomes import ExitCode


class ErrorClass(StrEnum):
    """What the retry policy looks at: is trying again of any use?"""

    BUSY = "busy"
    """Somebody else holds the thing for a moment (EBUSY, EAGAIN, a lock)."""
    TIMEOUT = "timeout"
    IO = "io"
    """EIO, ENOSPC and the like."""
    REFUSED = "refused"
    """Policy says no: lockdown, signature, permission. Never retried by default."""
    INVALID = "invalid"
    """The input is wrong. Never retried by default."""
    FAILED = "failed"
    """It ran and did not succeed: a check, a hook, CRIU."""
    BUG = "bug"
    """Ours."""


class MkupgradeError(Exception):
    """Root of the tree.

    Args:
        what: what failed, one sentence without a full stop.
        where: file:line:column, a step id, a path or a device.
        state: what state the host is in now, if this place can know it.
        next_command: the one command to run next.
        details: further lines, e.g. the tail of a tool's log.
    """

    code = "error"
    exit_code = ExitCode.ERROR
    error_class = ErrorClass.FAILED

    def __init__(
        self,
        what: str,
        *,
        where: str | None = None,
        state: str | None = None,
        next_command: str | None = None,
        details: tuple[str, ...] = (),
        error_class: ErrorClass | None = None,
    ) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.state = state
        self.next_command = next_command
        self.details = details
        if error_class is not None:
            self.error_class = error_class

    def as_dict(self) -> dict[str, Any]:
        """The form of `--json` and of the journal."""
        return {
            "code": self.code,
            "class": self.error_class.value,
            "what": self.what,
            "where": self.where,
            "state": self.state,
            "next_command": self.next_command,
            "details": list(self.details),
        }

    def __str__(self) -> str:
        return f"{self.where}: {self.what}" if self.where else self.what


class SpecError(MkupgradeError):
    """The spec cannot be used; `details` holds one line per problem found."""

    code = "spec"
    error_class = ErrorClass.INVALID


class PlanError(MkupgradeError):
    """No safe plan exists for this spec on this host; `details` says why."""

    code = "plan"
    error_class = ErrorClass.INVALID


class StalePlanError(MkupgradeError):
    """The host changed after the plan was made; `details` lists what changed."""

    code = "stale-plan"
    exit_code = ExitCode.STALE_PLAN
    error_class = ErrorClass.INVALID


class LockedError(MkupgradeError):
    """Another transaction is running on this host."""

    code = "locked"
    exit_code = ExitCode.WAITING
    error_class = ErrorClass.BUSY


class JournalError(MkupgradeError):
    """The journal cannot be written, read, or trusted."""

    code = "journal"
    error_class = ErrorClass.IO


class UnknownOutcomeError(MkupgradeError):
    """An effect can be neither confirmed nor excluded."""

    code = "unknown-outcome"
    exit_code = ExitCode.UNKNOWN


class SystemCallError(MkupgradeError):
    """A call into the kernel failed; `errno` is kept."""

    code = "system-call"

    def __init__(self, what: str, *, errno: int, **rest: Any) -> None:
        super().__init__(what, **rest)
        self.errno = errno


class GuardError(MkupgradeError):
    """A call that changes the host was refused because of where this process runs."""

    code = "guard"
    error_class = ErrorClass.REFUSED


class PolicyError(MkupgradeError):
    """The policy of this host does not allow the plan, or cannot be relied on; `details` has one
    line for each thing that is not allowed, with rule and place."""

    code = "policy"
    error_class = ErrorClass.REFUSED


class NotSupportedError(MkupgradeError):
    """The driver, kernel or host cannot do this; the text says why."""

    code = "not-supported"
    error_class = ErrorClass.REFUSED


class HandoverError(MkupgradeError):
    """State between two kernels is missing, damaged, or of an unknown version."""

    code = "handover"
    error_class = ErrorClass.INVALID


class WorkloadError(MkupgradeError):
    """A workload could not be found, checkpointed or restored."""

    code = "workload"


class CheckFailedError(MkupgradeError):
    """A check did not hold."""

    code = "check"


class ToolError(MkupgradeError):
    """A program that we call failed; `details` holds the end of what it said."""

    code = "tool"


class DeadlineError(MkupgradeError):
    """A step or the whole transaction took longer than allowed."""

    code = "deadline"
    error_class = ErrorClass.TIMEOUT


class RehearsalError(MkupgradeError):
    """The throw-away VM could not be made, booted or talked to."""

    code = "rehearsal"
