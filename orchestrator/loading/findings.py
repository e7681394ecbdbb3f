"""A problem before it is bound to a file."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.loading.nodes import Place
from orchestrator.loading.problems import Path, Problem, format_path


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, at a place of the text and a path of the document."""

    place: Place
    path: Path
    message: str
    found: str | None = None
    nearest: str | None = None
    renames: str | None = None
    """Of an unknown key with a `nearest`: the key as it was written."""
    missing: str | None = None
    """The required key that is missing."""

    def problem(self, filename: str) -> Problem:
        return Problem(
            filename, *self.place, format_path(self.path), self.message, self.found, self.nearest
        )
