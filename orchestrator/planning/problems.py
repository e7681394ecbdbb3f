"""Causes of a plan that cannot be made: collected all at once, one line each."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field

from orchestrator.model.errors import PlanError

_HINTS = 20


@dataclass
class Problems:
    """Collects causes; `raise_if_any` turns them into one `PlanError`.

    A line reads "<where>: <what>", where `where` is a path in the spec
    ("workloads.counter.after"), a file, a capability or a step, so that programs can split it
    at the first ": ".
    """

    lines: list[str] = field(default_factory=list)

    def add(self, where: str, what: str) -> None:
        line = f"{where}: {what}"
        if line not in self.lines[-64:]:
            self.lines.append(line)

    def hint(self, name: str, known: Iterable[str]) -> str:
        """' (did you mean "x"?)', or the empty string where nothing is near.

        Only for the first problems: comparing every wrong name with every right one would let a
        bad file cost minutes.
        """
        return did_you_mean(name, known) if len(self.lines) < _HINTS else ""

    def raise_if_any(self, what: str, *, where: str | None = None, next_command: str) -> None:
        """Raise what was collected.

        Raises:
            PlanError: with every cause in `details`.
        """
        if not self.lines:
            return
        count = len(self.lines)
        causes = "1 cause" if count == 1 else f"{count} causes"
        raise PlanError(
            f"{what} ({causes})",
            where=where,
            state="nothing was changed",
            next_command=next_command,
            details=tuple(self.lines),
        )


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """' (did you mean "x"?)', or the empty string where nothing is near."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f' (did you mean "{near[0]}"?)' if near else ""
