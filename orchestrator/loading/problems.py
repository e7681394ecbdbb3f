"""What is wrong with a spec: one `Problem` per place, all of them in one error."""

from __future__ import annotations

import json
import shlex
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from typing import Any

from orchestrator.loading import limits
from orchestrator.model.errors import SpecError

Path = tuple[str | int, ...]
"""Where in the document: ("workloads", 1, "migrate")."""

SHOWN = 100
"""Problems that an error lists; the rest is counted."""
_LONGEST_FOUND = 60


@dataclass(frozen=True, order=True)
class Problem:
    """One thing that is wrong, where it is, and what would be right."""

    file: str
    line: int
    """Of the key or value itself; 1 is the first."""
    column: int
    """In characters; 1 is the first."""
    path: str
    """In the document, e.g. "workloads[1].migrate.method"; empty: the document itself."""
    message: str
    """What was expected: 'expected text', 'unknown key'."""
    found: str | None = None
    """What is there: 'the number 7.10', '"cruu"'."""
    nearest: str | None = None
    """The known key or value that was probably meant."""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}: "
        path = f"{self.path}: " if self.path else ""
        found = f", found {self.found}" if self.found else ""
        nearest = f"; did you mean {quoted(self.nearest)}?" if self.nearest else ""
        return f"{place}{path}{self.message}{found}{nearest}"


class InvalidSpecError(SpecError):
    """A document with problems, all of them in `problems` and, as lines, in `details`.

    Args:
        noun: what the document is.
    """

    def __init__(
        self,
        problems: Iterable[Problem],
        *,
        filename: str,
        next_command: str | None = None,
        noun: str = "spec",
    ) -> None:
        self.problems = tuple(sorted(set(problems), key=_by_place))
        count = len(self.problems)
        lines = [str(p) for p in self.problems[:SHOWN]]
        if count > SHOWN:
            lines.append(f"… and {count - SHOWN} more")
        least = "at least " if count >= limits.MAX_PROBLEMS else ""
        super().__init__(
            f"the {noun} has {least}{count} problem{'' if count == 1 else 's'}",
            where=filename,
            state="nothing was changed",
            next_command=next_command or f"mkupgrade validate {shlex.quote(filename)}",
            details=tuple(lines),
        )

    def as_dict(self) -> dict[str, Any]:
        """As every error, and `problems` as data."""
        return {**super().as_dict(), "problems": [asdict(p) for p in self.problems]}


def _by_place(problem: Problem) -> tuple[int, int, str, str]:
    return problem.line, problem.column, problem.path, problem.message


def quoted(text: str) -> str:
    """The text in double quotes on one line, control characters escaped, cut if it is long."""
    shown = text if len(text) <= _LONGEST_FOUND else text[: _LONGEST_FOUND - 1] + "…"
    return json.dumps(shown, ensure_ascii=not shown.isprintable())


def format_path(path: Path) -> str:
    """A path as people read it: ("workloads", 1, "name") -> "workloads[1].name"."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif part.replace("_", "a").replace("-", "a").isalnum() and part.isascii():
            text += f".{part}" if text else part
        else:
            text += f"[{quoted(part)}]"
    return text


class Hints:
    """Finds what was probably meant, for one document.

    A comparison of two words takes some microseconds, and a hostile document asks for any number
    of them: when `limits.MAX_COMPARED` words have been compared, there are no more hints.
    """

    def __init__(self) -> None:
        self._left = limits.MAX_COMPARED

    def nearest(self, word: str, known: Collection[str]) -> str | None:
        """The known word that was probably meant, if any is near enough."""
        if len(known) > self._left:
            return None
        self._left -= len(known)
        return _nearest(word, known)


def _nearest(word: str, known: Iterable[str]) -> str | None:
    plain = word[:_LONGEST_FOUND].lower().replace("-", "_")
    by_plain = {k.lower().replace("-", "_"): k for k in known}
    matches = get_close_matches(plain, by_plain, n=1, cutoff=0.6)
    return by_plain[matches[0]] if matches else None
