"""What may and must be done next, by docs/transactions.md: the other half of the model."""

from __future__ import annotations

from dataclasses import dataclass, field

from orchestrator.model.outcomes import ExitCode, Outcome
from orchestrator.model.steps import Section, Step
from tests.engine.model.reading import Reading
from tests.engine.model.words import AN_EFFECT, UNANSWERED


@dataclass
class Next:
    """What the document allows and requires at one moment."""

    inspect: set[str] = field(default_factory=set)
    """Every one of these must have been asked for."""
    repairs: set[str] = field(default_factory=set)
    """Partial effects that may be reverted while it goes onward."""
    starts: list[str] = field(default_factory=list)
    """What may be started, or in reverting be reverted, in the order of preference."""
    perhaps: set[str] = field(default_factory=set)
    """Those of `repairs` and `starts` whose pause may be over or not: the jitter decides."""
    alone: str | None = None
    """A pivot or commit that starts if nothing else does."""
    turn: tuple[str, str] | None = None
    """The event by which the section ends, and its section, outcome or "waiting"."""


def next_of(r: Reading, now: float) -> Next:
    found = Next()
    if r.stopped:
        return found
    if not r.unknown:
        found.inspect = set(r.to_inspect)
        if not (r.doubts or r.pivot_lost or r.leaves_clean_up):
            _work(r, now, found)
        if found.inspect or found.repairs or found.starts or found.alone or r.pause_running():
            return found
    if not r.in_flight:
        r.seen.add("1.6")
        found.turn = _turn(r)
    return found


def _work(r: Reading, now: float, found: Next) -> None:
    free = [i for i in r.mine() if i not in r.in_flight and not _waits(r, i, now)]
    found.perhaps = {i for i in free if i in r.pause and now < r.pause[i][1]}
    if r.reverting:
        r.seen.add("5.2")
        found.starts = [i for i in reversed(free) if _may_revert(r, i)]
        return
    found.repairs = {i for i in free if r.status[i] == "partial"}
    if found.repairs:
        r.seen.add("3.5")
    if r.turns_back:
        return
    performed = {i for i in r.mine() if r.status[i] == "performed"}
    may = [i for i in free if r.status[i] == "pending" and r.all_before(i) <= performed]
    marks = [i for i in may if r.is_pivot(i) or r.is_commit(i)]
    found.starts = [i for i in may if i not in marks]
    partial = any(r.status[i] == "partial" for i in r.mine())
    busy = r.in_flight or r.to_inspect or partial or found.starts
    for i in marks if not busy else []:
        if not any(now < latest for other, (_, latest) in r.pause.items() if other != i):
            r.seen.add("2.4")
            found.alone = i
            return


def _waits(r: Reading, i: str, now: float) -> bool:
    return i in r.pause and now < r.pause[i][0]


def _all_performed(r: Reading) -> bool:
    return all(r.status[i] == "performed" for i in r.mine())


def _may_revert(r: Reading, i: str) -> bool:
    """5.2 and 5.3."""
    if r.status[i] not in AN_EFFECT or r.is_pivot(i) or i in r.behind:
        return False
    after = {m for m in r.all_after(i) if not (r.is_pivot(m) or m in r.behind)}
    return not any(r.status[m] in AN_EFFECT | UNANSWERED for m in after)


def _turn(r: Reading) -> tuple[str, str]:
    """1.6: nothing can be done and nothing is in flight."""
    if r.unknown:
        return "ended", "unknown"
    if r.reverting:
        return _reverting_over(r)
    if r.section is Section.RECOVER:
        r.seen.add("7.4")
        return "ended", "rolled-back" if _all_performed(r) else "rollback-incomplete"
    if r.lost is not None and r.steps[r.lost].section is Section.FORWARD:
        r.seen.add("6.4")
        return "section_entered", "recover"
    return _return_over(r) if r.section is Section.RETURN else _forward_over(r)


def _reverting_over(r: Reading) -> tuple[str, str]:
    r.seen.add("5.4" if r.section is Section.FORWARD else "7.3")
    stuck = any(r.status[i] == "stuck" for i in r.mine())
    incomplete = stuck or r.section is Section.RETURN
    return "ended", "rollback-incomplete" if incomplete else "rolled-back"


def _forward_over(r: Reading) -> tuple[str, str]:
    if not r.turns_back:
        assert r.committed or _all_performed(r), "nothing to be done, and not all performed"
        r.seen.add("8.3")
        return "ended", "committed"
    if r.crossed is None and not r.committed:
        r.seen.add("5.1")
        return "turned_back", "forward"
    r.seen.add("7.1")
    if r.requested or r.graph.automatic_rollback:
        return "section_entered", "return"
    return "interrupted", "waiting"


def _return_over(r: Reading) -> tuple[str, str]:
    if not r.mine():
        r.seen.add("7.2")
        return "ended", "rollback-incomplete"
    if not r.turns_back:
        assert _all_performed(r), "nothing to be done, and not all performed"
        r.seen.add("7.2")
        return "section_entered", "recover"
    r.seen.add("7.3" if r.lost is None else "6.6")
    if r.lost is not None or any(i in r.behind for i in r.mine()):
        return "ended", "rollback-incomplete"
    return "turned_back", "return"


class Room:
    """2.3: what is in flight holds units of resources and one of the places."""

    def __init__(self, r: Reading, places: int) -> None:
        self._limits, self._places = r.graph.limits, places
        self._holders: list[Step] = [r.steps[i] for i in r.in_flight]

    def fits(self, step: Step) -> bool:
        def used(name: str) -> int:
            return sum(name in s.resources for s in self._holders)

        free = all(used(name) < self._limits.get(name, 1) for name in step.resources)
        return free and len(self._holders) < self._places

    def take(self, step: Step) -> None:
        assert self.fits(step), f"no room for {step.id}"
        self._holders.append(step)


def what_the_operator_sees(r: Reading) -> tuple[ExitCode, str | None]:
    """The table of the same name: exit code and next command, without the transaction."""
    if r.standing in {o.value for o in Outcome}:
        outcome = Outcome(r.standing)
        goes_on = outcome in {Outcome.UNKNOWN, Outcome.ROLLBACK_INCOMPLETE}
        codes = {"committed": 0, "rolled-back": 3, "rollback-incomplete": 4, "unknown": 8}
        return ExitCode(codes[outcome.value]), "mkupgrade resume" if goes_on else None
    verb = "rollback" if r.standing == "waiting" else "resume"
    return ExitCode.INTERRUPTED, f"mkupgrade {verb}"
