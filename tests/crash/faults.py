"""What can go wrong, and where. A schedule has some of it, and only so often."""

from __future__ import annotations

from typing import Final

EFFECT = (
    "die-before", "die-halfway", "die-after", "error", "error-halfway", "error-done", "bug",
)  # fmt: skip

FAULTS: Final[dict[str, tuple[str, ...]]] = {
    "perform": EFFECT,
    "revert": EFFECT,
    "inspect": ("die", "unknown", "busy", "bug"),
    "pivot": (
        "error", "die-before", "no-return", "panic", "third-kernel", "payload-lost", "payload-torn",
    ),
    "journal": (
        "die-before", "die-lost", "die-kept", "die-after", "enospc", "eio-write", "eio-fsync",
    ),
    "call": ("slow", "too-slow", "late", "too-late", "hangs", "hangs-done", "twice"),
    "wait": ("die", "interrupt", "interrupt-twice", "abort", "second-resume", "second-apply"),
    "start": ("clock-forward", "clock-back", "die"),
}  # fmt: skip
"""Where -> kinds.

- perform, revert: the process or the machine dies before, halfway or after the effect; an error
  without, with half of, or with the whole effect; an exception that is no MkupgradeError.
- inspect: it cannot tell; it is busy for once.
- pivot: panic ends in the default boot entry; no-return is what a real jump does; the third
  kernel is one that nobody planned; the handover payload does not arrive, or not whole.
- journal: around one commit. lost, kept: not acknowledged, and afterwards there or not.
- call: the effect late, within the deadline or beyond it; the answer late; neither ever; the
  effect but never an answer; the answer twice.
- wait: between any two events; requests from outside; another process that wants to begin.
- start: of a process: what the wall clock says, and dying at once.
"""


class Plan:
    """Which faults a schedule may have, how likely each is, and how many at the most."""

    def __init__(self, choices, share: float | None = None) -> None:
        self.left: int = choices.pick((0, 1, 1, 2, 2, 3, 4, 6, 9))
        self.share: float = choices.pick((0.03, 0.06, 0.15, 0.3))
        match choices.below(3):
            case 0:
                self.kinds = FAULTS
            case 1:
                where = choices.pick(tuple(FAULTS))
                self.kinds = {where: FAULTS[where], "pivot": FAULTS["pivot"]}
            case _:
                self.kinds = {
                    where: tuple(k for k in kinds if choices.chance(0.4))
                    for where, kinds in FAULTS.items()
                }
        self._choices = choices

    def draw(self, where: str, times: float = 1.0) -> str | None:
        """The fault that happens here, if one does."""
        kinds = self.kinds.get(where)
        if self.left <= 0 or not kinds:
            return None
        kind = self._choices.fault(self.share * times, kinds)
        if kind is not None:
            self.left -= 1
        return kind
