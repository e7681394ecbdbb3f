"""How a transaction can end, and what the shell is told (docs/exit-codes.md)."""

from __future__ import annotations

from enum import IntEnum, StrEnum


class ExitCode(IntEnum):
    """Exit codes of every verb. Scripts rely on them: never renumber."""

    DONE = 0
    ERROR = 1
    """An error, and nothing was changed."""
    CHANGES_PENDING = 2
    """Only with `--detailed-exitcode`."""
    ROLLED_BACK = 3
    """The transaction failed and the host is back where it was."""
    ROLLBACK_INCOMPLETE = 4
    """The way back failed too: a human is needed."""
    STALE_PLAN = 5
    WAITING = 6
    """Another transaction holds the lock, or a window or approval is missing."""
    INTERRUPTED = 7
    """Stopped on request; `mkupgrade resume` goes on."""
    UNKNOWN = 8
    """An effect can be neither confirmed nor excluded: a human must look."""
    DEGRADED = 9
    """Done, and something beside it does not run: `nixos upgrade` switched, and units failed."""
    COLD_REBOOT_NEEDED = 100


class Outcome(StrEnum):
    """The end of a transaction, as the journal records it."""

    COMMITTED = "committed"
    ROLLED_BACK = "rolled-back"
    ROLLBACK_INCOMPLETE = "rollback-incomplete"
    UNKNOWN = "unknown"

    @property
    def exit_code(self) -> ExitCode:
        return _EXIT_CODES[self]


_EXIT_CODES = {
    Outcome.COMMITTED: ExitCode.DONE,
    Outcome.ROLLED_BACK: ExitCode.ROLLED_BACK,
    Outcome.ROLLBACK_INCOMPLETE: ExitCode.ROLLBACK_INCOMPLETE,
    Outcome.UNKNOWN: ExitCode.UNKNOWN,
}
