"""What a log says, by docs/transactions.md: the first half of the model of the engine.

Written from that page and not from the engine's code, to be compared with it: plain sets and
loops, no queues. Every rule that decides something is put down in `seen` by its number, so that
a test can tell which rules were never tried.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from orchestrator.engine import events
from orchestrator.model.steps import Section
from tests.engine.model.words import UNANSWERED, Facts

MOST_DEATHS = 3
REVERT_TRIES = 3
REVERT_CLASSES = {"busy", "timeout", "io"}


class Reading(Facts):
    """The log of one transaction, read up to some event."""

    def read(self, log: Iterable[events.Envelope]) -> Reading:
        for envelope in log:
            self.take(envelope)
        return self

    def take(self, envelope: events.Envelope) -> None:
        event, stamp = envelope.event, envelope.stamp
        self.seen.add(event.type)
        self._count_time(stamp)
        step_id = getattr(event, "step", None)
        if step_id is not None:
            self._of_step(step_id, event, stamp)
        else:
            self._of_transaction(event, stamp)

    def _of_step(self, i: str, event: Any, stamp: events.Stamp) -> None:
        self.in_flight.discard(i)
        match event:
            case events.StepIntended():
                self.status[i], self.error[i] = "intended", None
                self.tries[i] += 1
                self.attempts[i] = event.attempt
                self._under_way(i)
            case events.StepPerformed():
                self._performed(i)
            case events.StepFailed():
                self.status[i], self.error[i] = "failed", event.error
                self._look_at(i)
            case events.RevertIntended():
                self.status[i], self.revert_error[i] = "reverting", None
                self.reverts[i] += 1
                self._under_way(i)
            case events.StepReverted():
                self._absent(i, stamp.time, in_doubt=False)
            case events.RevertFailed():
                self.status[i], self.revert_error[i] = "revert-failed", event.error
                self._look_at(i)
            case events.StepInspected():
                self._inspected(i, event.verdict.value, stamp)

    def _of_transaction(self, event: Any, stamp: events.Stamp) -> None:
        match event:
            case events.Began():
                self.counted_from, self.section_boot = stamp.time, stamp.boot_id
            case events.TurnedBack():
                self.reverting = True
                self.pause.clear()
                self.deaths.update(dict.fromkeys(self.mine(), 0))
            case events.SectionEntered():
                self.section, self.section_boot = event.section, stamp.boot_id
                self.reverting = self.failed = self.requested = False
                self.pause.clear()
            case events.RollbackRequested():
                self._rollback_requested(event)
            case events.Interrupted():
                self.standing = "waiting" if event.waiting else "interrupted"
            case events.Ended():
                self.standing = event.outcome.value
            case events.Resumed():
                self._resumed(stamp)

    def _under_way(self, i: str) -> None:
        self.in_flight.add(i)
        self.pause.pop(i, None)

    def _count_time(self, stamp: events.Stamp) -> None:
        """9.4: what does not count moves the beginning."""
        if self.last is not None and (self.stopped or stamp.boot_id != self.last.boot_id):
            self.seen.add("9.4")
            self.counted_from += stamp.time - self.last.time
        self.last = stamp

    def _performed(self, i: str) -> None:
        self.status[i] = "performed"
        self.deaths[i] = self.reverts[i] = 0
        if self.is_pivot(i) and self.section is Section.FORWARD:
            self.crossed = i
        if self.is_commit(i):
            self.committed = True
            self.seen.add("8.1")
        if self.is_pivot(i) or self.is_commit(i):
            self.seen.add("6.2")
            self.behind |= {m for m in self.mine() if self.status[m] == "performed"}

    def _look_at(self, i: str) -> None:
        self.seen.add("3.1")
        self.to_inspect.add(i)

    def _rollback_requested(self, event: events.RollbackRequested) -> None:
        if self.section is not Section.FORWARD or self.reverting:
            return
        self.seen.add("9.1")
        if event.by == "deadline":
            self.failed = True
            return
        self.requested = True
        if self.committed:  # 8.4
            self.seen.add("8.4")
            self.standing, self.failed = "runs", False
            self.to_inspect.clear()
            self.doubts.clear()
            self.pause.clear()

    # -- rule 3: verdicts

    def _inspected(self, i: str, verdict: str, stamp: events.Stamp) -> None:
        was, in_doubt = self.status[i], i in self.doubts
        self.seen.add(f"{verdict}, {'reverting' if self.reverting else 'onward'}")
        self.to_inspect.discard(i)
        if verdict == "unknown" and self._asks_the_other_pivot(i):
            self.seen.add("6.5")
            self.doubts.discard(i)
            self._doubt({str(self.crossed)})
            return
        if verdict == "unknown" or self._makes_no_sense(i, verdict):
            self.seen.add("3.7")
            self.unknown = True
            return
        self.doubts.discard(i)
        if verdict == "lost":
            self.status[i], self.lost = "lost", i
            self.failed = True
        elif verdict == "absent":
            if was == "performed":
                self._lapsed(i)
            self._absent(i, stamp.time, in_doubt=in_doubt)
        elif verdict == "present" and (was == "performed" or not self.reverting):
            self._performed(i) if was != "performed" else None
        else:
            self._to_be_taken_back(i, stamp.time, in_doubt=in_doubt)
        if in_doubt and (self.is_pivot(i) or self.is_commit(i)):
            self._after_landmark(i, stamp)

    def _makes_no_sense(self, i: str, verdict: str) -> bool:
        if not self.is_pivot(i):
            return verdict == "lost"
        if self.section is Section.RECOVER:
            self.seen.add("6.7")
            return verdict != "lost"
        was_there = self.status[i] == "performed"
        return verdict == "partial" or (verdict == "absent" and was_there)

    def _lapsed(self, i: str) -> None:
        """4.5: with all its attempts."""
        self.seen.add("4.5")
        self.tries[i] = self.reverts[i] = 0
        self.error[i] = None

    def _absent(self, i: str, now: float, *, in_doubt: bool) -> None:
        """3.2 and 3.3."""
        if self.reverting:
            self.status[i] = "reverted"
            return
        self.seen.add("3.3")
        self.status[i] = "pending"
        error, policy = self.error[i], self.steps[i].retry
        if self.deaths[i] >= MOST_DEATHS:
            self._given_up(i)
        elif error is not None:
            left = self.tries[i] < policy.attempts
            named = error.get("class") in {c.value for c in policy.on}
            if left and named and not self.turns_back:
                self._pause(i, self.tries[i], now, in_doubt=in_doubt)
            else:
                self._given_up(i)

    def _given_up(self, i: str) -> None:
        self.status[i] = "given-up"
        if self.failures_are_borne:
            self.seen.add("8.2")
        else:
            self.failed = True

    def _to_be_taken_back(self, i: str, now: float, *, in_doubt: bool) -> None:
        """3.5 and 3.6."""
        was, error, policy = self.status[i], self.revert_error[i], self.steps[i].retry
        self.status[i] = "partial"
        stuck = False
        if was == "performed":
            self._lapsed(i)
        elif was == "reverting":
            stuck = self.deaths[i] >= MOST_DEATHS
        elif was == "revert-failed" and error is not None:
            self.seen.add("3.6")
            left = self.reverts[i] < max(policy.attempts, REVERT_TRIES)
            named = error.get("class") in {c.value for c in policy.on} | REVERT_CLASSES
            stuck = not (left and named)
            if not stuck:
                self._pause(i, self.reverts[i], now, in_doubt=in_doubt)
        if stuck:
            self.status[i] = "stuck"
            if not (self.reverting or self.failures_are_borne):
                self.failed = True

    def _pause(self, i: str, attempt: int, now: float, *, in_doubt: bool) -> None:
        """3.4; none for what is found in doubt (4.7)."""
        if in_doubt:
            self.seen.add("4.7")
            return
        self.seen.add("3.4")
        policy = self.steps[i].retry
        least = min(policy.initial * 2.0 ** (attempt - 1), policy.maximum)
        self.pause[i] = (now + least, now + least * 1.25)

    # -- rule 4: another process

    def _resumed(self, stamp: events.Stamp) -> None:
        self.seen.add(self.row_before())
        if self.standing not in {"runs", "interrupted"}:
            self._reopen(stamp)
        elif self.standing == "runs":
            for i in self.mine():
                self.deaths[i] += self.status[i] in {"intended", "reverting"}  # 4.6
        self.standing, self.unknown = "runs", False
        self.in_flight.clear()
        self.pause.clear()
        self.to_inspect.clear()
        self.doubts.clear()
        self.seen.add(self.row(stamp.boot_id))
        if self.pivot_lost:
            return  # 4.4
        landmark = self._landmark(stamp.boot_id)
        self._doubt({landmark} if landmark else self._doubtful_steps())

    def _reopen(self, stamp: events.Stamp) -> None:
        """4.8."""
        self.seen.add("4.8")
        self.counted_from = stamp.time
        self.failed, self.lost = False, None
        if self.section is Section.RETURN:
            self.reverting = False
        for i in self.mine():
            self.tries[i] = self.reverts[i] = self.deaths[i] = 0
            match self.status[i]:
                case "given-up":
                    self.status[i], self.error[i] = "pending", None
                case "stuck":
                    self.status[i], self.revert_error[i] = "revert-failed", None
                case "lost":
                    self.status[i] = "intended"
                case "reverted" if not self.reverting:
                    self.status[i], self.error[i] = "pending", None

    def _doubt(self, steps: set[str]) -> None:
        self.doubts |= steps
        self.to_inspect |= steps

    def _unanswered(self, mine: list[str]) -> list[str]:
        return [i for i in mine if self.status[i] in UNANSWERED]

    def _landmark(self, boot_id: str) -> str | None:
        """4.2."""
        commits = [i for i in self._unanswered(self.mine()) if self.is_commit(i)]
        if commits:
            return commits[0]
        pivots = [i for i in self._unanswered(self.mine()) if self.is_pivot(i)]
        return pivots[0] if pivots else self._forward_pivot(boot_id)

    def _forward_pivot(self, boot_id: str) -> str | None:
        returned = any(self.is_pivot(i) and self.status[i] == "performed" for i in self.mine())
        restarted = boot_id != self.section_boot
        if self.section is Section.RECOVER:
            return self.crossed if restarted else None
        if self.section is Section.RETURN and returned:
            return None
        if self.committed and not (self.section is Section.RETURN and restarted):
            return None
        return self.crossed

    def _doubtful_steps(self) -> set[str]:
        """4.3."""
        marks = {i for i in self.mine() if self.is_pivot(i) or self.is_commit(i)} | self.behind
        performed = {i for i in self.mine() if self.status[i] == "performed"} - marks
        return performed | set(self._unanswered(self.mine()))

    def _after_landmark(self, i: str, stamp: events.Stamp) -> None:
        if self.pivot_lost:
            return
        if self.is_commit(i):
            pivot = self._landmark(stamp.boot_id)
            if pivot is not None:
                self._doubt({pivot})
                return
        if any(self.is_pivot(m) for m in self._unanswered(self.mine()) if m != i):  # 6.5
            self.unknown = True
            return
        self._doubt(self._doubtful_steps() - {i})

    def _asks_the_other_pivot(self, i: str) -> bool:
        back = self.steps[i].section is Section.RETURN and self.is_pivot(i)
        return back and i in self.doubts and self.crossed is not None

    # -- the tables of "What `resume` does"

    def row_before(self) -> str:
        """How the log ended."""
        names = {"interrupted": "S1", "waiting": "S2", "unknown": "S3", "rollback-incomplete": "S4"}
        return names.get(self.standing, "S5")

    def row(self, boot_id: str) -> str:
        """Which row of the table the log is in, were it resumed under this boot."""
        if self.over:
            return "R1"
        if self.pivot_lost:
            return "R2"
        landmark = self._landmark(boot_id)
        return self._row_of_steps() if landmark is None else self._row_of(landmark)

    def _row_of(self, landmark: str) -> str:
        if self.is_commit(landmark):
            return "R3"
        if self.section is Section.RECOVER:
            return "R8"
        if self.status[landmark] not in UNANSWERED:
            return "R6"
        return "R4" if self.section is Section.FORWARD else "R5"

    def _row_of_steps(self) -> str:
        if self.section is not Section.FORWARD:
            return "R8" if self.section is Section.RECOVER else "R11"
        if self.committed:
            return "R7"
        return "R10" if self.reverting else "R9"
