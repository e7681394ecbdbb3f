"""What the engine was told is durable, kept beside the journal: nothing of it may be lost."""

from __future__ import annotations

from typing import Any

from orchestrator.engine.events import Envelope
from orchestrator.engine.journal import Journal
from orchestrator.engine.verify import GENESIS
from tests.crash.coverage import POSSIBLE
from tests.crash.invariants import Invariant, Violation, hold
from tests.crash.simulation import Simulation

_CLAIMS = {"intended": "perform", "revert_intended": "revert"}


class Ledger:
    """Hears of every commit (`acknowledge`) and sees the journal when a process starts (`read`)."""

    def __init__(self, sim: Simulation) -> None:
        self.sim = sim
        self._hashes: list[str] = []
        self._safe = 0
        """So many of them were acknowledged."""
        self._last = ""
        self.log: list[Envelope] = []
        """Of the events that this process read or wrote; see `read`."""
        self._claims: dict[tuple[str, str], int] = {}
        """(verb, step) -> attempt: intentions of this process that are not used up."""

    def acknowledge(self, process: int, envelopes: list[Envelope]) -> None:
        """A commit returned."""
        hold(
            Invariant.ONE_RUNNER,
            process == self.sim.process,
            f"process {process} writes while process {self.sim.process} is at work",
        )
        hashes, claims = self._hashes, self._claims
        for e in envelopes:
            event = e.event
            if e.seq != len(hashes) + 1 or e.prev_hash != (hashes[-1] if hashes else GENESIS):
                raise Violation(Invariant.CHAIN, f"event {e.seq} does not follow the one before")
            hashes.append(e.hash)
            self.log.append(e)
            self._follows(event.type)
            verb = _CLAIMS.get(event.type)
            if verb is not None:
                claims[verb, event.step] = event.attempt  # type: ignore[union-attr]
            if self.sim.trace is not None:
                self.sim.say(e.seq, f"{e.time:.3f}", e.hash[:12], e.stamp.release, event)
        self._safe = len(hashes)

    def _follows(self, kind: str) -> None:
        pair = (self._last, kind)
        self._last = kind
        if pair not in self.sim.coverage.pairs and pair[0]:
            hold(Invariant.EVENT_PAIRS, pair in POSSIBLE, f"{pair[0]} is followed by {pair[1]}")
            self.sim.coverage.pairs.add(pair)

    def read(self, rows: list[tuple[int, str, str]], journal: Journal) -> None:
        """A new process sees the journal.

        Args:
            rows: (seq, hash, type) of all events.
            journal: for what they say, where they were never acknowledged.
        """
        self._claims.clear()
        found = [row[1] for row in rows]
        if found[: self._safe] != self._hashes[: self._safe]:
            n = sum(1 for _ in self._same(found))
            raise Violation(
                Invariant.ACKNOWLEDGED,
                f"{self._safe} events were acknowledged, {n} of them are there",
            )
        hold(Invariant.CHAIN, [r[0] for r in rows] == [*range(1, len(rows) + 1)], "a gap")
        self._last = rows[self._safe - 1][2] if self._safe else ""
        for row in rows[self._safe :]:
            self._follows(row[2])
            self.sim.say("not acknowledged, but there:", row[0], row[2])
        self._hashes = found
        if len(self.log) != len(found):
            self.log = [*journal.log("t1")]

    def _same(self, found: list[str]) -> Any:
        for a, b in zip(found, self._hashes[: self._safe], strict=False):
            if a != b:
                return
            yield a

    @property
    def count(self) -> int:
        return len(self._hashes)

    def use(self, verb: str, step: str, attempt: int) -> None:
        """The driver is asked for an effect: its intention must be on the disk, unused."""
        hold(
            Invariant.INTENTION_DURABLE,
            self._claims.pop((verb, step), None) == attempt,
            f"{verb} {step}, attempt {attempt}, without its intention on the disk",
        )

    def died_reverting(self, step: str) -> int:
        """So many processes died while a revert of the step was not answered (rule 4.6)."""
        deaths, reverting, in_order = 0, False, False
        for envelope in self.log:
            event = envelope.event
            kind = event.type
            if kind == "resumed":
                deaths = 0 if in_order else deaths + reverting
            elif getattr(event, "step", None) == step:
                reverting = kind == "revert_intended"
                if kind in {"intended", "performed", "reverted"}:
                    deaths = 0
            in_order = kind in {"interrupted", "ended"}
        return deaths

    def check_chain(self, journal: Journal) -> None:
        problem = journal.verify().problem
        hold(Invariant.CHAIN, problem is None, problem or "")
