"""What a rehearsal found out, and whether everything held."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from orchestrator.model.outcomes import ExitCode, Outcome
from orchestrator.rehearsal.client import Seen


@dataclass(frozen=True)
class LogSeen:
    """The file that a workload appended to: one number per line, from 1."""

    lines: int
    missing: int
    repeated: int

    @property
    def whole(self) -> bool:
        return self.lines > 0 and self.missing == 0 and self.repeated == 0


def read_log(text: str) -> LogSeen:
    """Look through a workload's file; a last line without its end is still being written."""
    lines = text.split("\n")[:-1]
    expected, missing, repeated = 1, 0, 0
    for line in lines:
        number = _number(line.split(" ", 1)[0])
        if number < expected:
            repeated += 1
        else:
            missing += number - expected
            expected = number + 1
    return LogSeen(len(lines), missing, repeated)


def _number(word: str) -> int:
    """0 for what is no number that a workload writes."""
    plain = word.isascii() and word.isdigit() and len(word) < 19
    return int(word) if plain else 0


@dataclass(frozen=True)
class Finding:
    """One thing that had to hold."""

    what: str
    held: bool
    seen: str


@dataclass(frozen=True)
class Rehearsal:
    """The result."""

    source: str
    target: str
    notes: tuple[str, ...]
    report: dict[str, Any]
    """`mkupgrade report --json` of the guest; empty: there was no transaction. With nothing but a
    `reason`: it cannot be read."""
    release_after: str
    seen: Seen | None
    """What the client outside saw; None: no workload of the plan serves one."""
    logs: dict[str, LogSeen] = field(default_factory=dict)
    new_client_served: bool | None = None
    nothing_left: bool | None = None
    """Planned again, there was nothing to do."""
    serial_log: str = ""
    """Path of what the guest's kernels said."""
    seconds: float = 0.0

    @property
    def outcome(self) -> Outcome | None:
        """The transaction's, None if it has not ended."""
        value = self.report.get("outcome")
        return Outcome(value) if value in set(Outcome) else None

    def findings(self) -> list[Finding]:
        """Everything that had to hold, in the order in which people ask."""
        outcome = self.outcome
        found = [
            Finding("transaction committed", outcome is Outcome.COMMITTED, self._ending(outcome)),
            Finding("kernel changed", self.release_after == self.target, self.release_after),
        ]
        if self.nothing_left is not None:
            seen = "no changes" if self.nothing_left else "changes left"
            found.append(Finding("planned again, nothing to do", self.nothing_left, seen))
        for name, log in self.logs.items():
            seen = f"{log.lines} lines, {log.missing} missing, {log.repeated} repeated"
            found.append(Finding(f"{name}: its file has every number", log.whole, seen))
        if self.seen is not None:
            found += _client_findings(self.seen, self.target)
        if self.new_client_served is not None:
            seen = "served" if self.new_client_served else "no answer"
            found.append(Finding("a new client is served", self.new_client_served, seen))
        return found

    def _ending(self, outcome: Outcome | None) -> str:
        """How the transaction ended, and where it did not commit, why."""
        if outcome is Outcome.COMMITTED:
            return str(outcome)
        why = self.report.get("rollback_cause") or self.report.get("reason")
        ended = str(outcome or "none")
        return f"{ended}: {why}" if why else ended

    @property
    def held(self) -> bool:
        return all(f.held for f in self.findings())

    @property
    def exit_code(self) -> ExitCode:
        """The transaction's own unless it committed; then 0 only if everything held."""
        outcome = self.outcome
        if outcome is not None and outcome is not Outcome.COMMITTED:
            return outcome.exit_code
        return ExitCode.DONE if self.held else ExitCode.ERROR

    def as_dict(self) -> dict[str, Any]:
        """The form of --json."""
        return {
            "held": self.held,
            "exit_code": int(self.exit_code),
            "source": self.source,
            "target": self.target,
            "release_after": self.release_after,
            "seconds": round(self.seconds, 3),
            "notes": list(self.notes),
            "serial_log": self.serial_log,
            "findings": [asdict(f) for f in self.findings()],
            "client": None if self.seen is None else asdict(self.seen),
            "logs": {name: asdict(log) for name, log in self.logs.items()},
            "report": self.report,
        }


def _client_findings(seen: Seen, target: str) -> list[Finding]:
    numbers = f"{seen.messages} messages, {seen.missing} missing, {seen.repeated} repeated"
    return [
        Finding("outside: one TCP connection, alive", seen.ended is None, seen.ended or "alive"),
        Finding("outside: every number, once", seen.whole, numbers),
        Finding(
            "outside: the new kernel answers", target in seen.releases, " -> ".join(seen.releases)
        ),
    ]
