"""What the parts of one schedule share: chance, time, faults, the trace, who is alive."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from orchestrator.engine import (
    anchor,
    events,
    interrupts,
    journal,
    reserve,
    runner,
    transaction,
    workers,
)
from orchestrator.engine.lock import Holder
from orchestrator.engine.report import Story
from orchestrator.model.errors import LockedError
from tests.crash.choices import Choices
from tests.crash.coverage import Coverage
from tests.crash.faults import Plan


class Died(BaseException):
    """The process, or the whole machine, is gone."""


class Simulation:
    """One schedule. The host and the disk are set by whoever makes it (`schedule.py`)."""

    host: Any
    disk: Any
    ledger: Any

    def __init__(self, choices: Choices, coverage: Coverage, *, traced: bool = False) -> None:
        self.choices = choices
        self.coverage = coverage
        self.plan = Plan(choices)
        self.trace: list[str] | None = [] if traced else None
        self.now = 0.0
        """Seconds, never backwards."""
        self.offset = 1_000_000.0
        """What the wall clock says at `now` 0; a new process may see another."""
        self.process = 0
        """Number of the process that runs the transaction, from 1; its pid."""
        self.lock_holder: int | None = None
        self.abort_request: str | None = None
        self.with_report = True
        """Of the process that runs: it is asked for its report, and reads all of its journal."""
        self.read: dict[str, events.Envelope] = {}
        """Events by their hash; see `pretended`."""
        self.anchor: Any = None
        """What `journal.anchor` holds; replaced as a whole, durably."""

    # -- time

    def clock(self) -> float:
        """The engine's: unix seconds."""
        self.now += 0.001
        return self.offset + self.now

    def sleep(self, seconds: float) -> None:
        self.now += max(0.0, seconds)

    # -- faults

    def fault(self, where: str, times: float = 1.0) -> str | None:
        if self.plan.left <= 0:
            return None
        kind = self.plan.draw(where, times)
        if kind is not None:
            self.coverage.faults.add((where, kind))
            self.say("fault", where, kind)
        return kind

    def die(self) -> None:
        """The process dies; one time in four the whole machine is reset, with all that was not
        synced."""
        reset = self.choices.chance(0.25)
        self.say("dies", "reset" if reset else "killed")
        if reset:
            self.host.reset()
            self.disk.cut()
        else:
            self.disk.kill()
        self.gone()

    def gone(self) -> None:
        """The process is gone, the disk already as that left it."""
        self.host.process_died()
        self.lock_holder = None
        raise Died

    def say(self, *words: object) -> None:
        if self.trace is not None:
            self.trace.append(" ".join(str(w) for w in words))


class Untold(Story):
    """Of a process whose report nobody asks for."""

    def see(self, state: Any, envelope: Any) -> None:
        pass


class VirtualLock:
    """`HostLock` among the processes of a schedule; gone with its holder."""

    simulation: Simulation
    process: int | None = None
    """Of whoever is about to make one."""

    def __init__(self, state_dir: Any) -> None:
        self._sim = self.simulation
        self._process = VirtualLock.process

    @property
    def held(self) -> bool:
        return self._process is not None and self._sim.lock_holder == self._process

    def acquire(self, verb: str, transaction: str | None = None) -> None:
        if self._sim.lock_holder not in {None, self._process}:
            raise LockedError("another process is at work on this host")
        self._sim.lock_holder = self._process

    def name_transaction(self, transaction: str) -> None:
        pass

    def release(self) -> None:
        if self.held:
            self._sim.lock_holder = None


@contextmanager
def pretended() -> Iterator[None]:
    """In place of clocks, and of the files beside the journal (lock, abort, anchor): those of
    the simulation that `VirtualLock.simulation` names."""

    def sim() -> Simulation:
        return VirtualLock.simulation

    def parse(body: str, digest: str) -> events.Envelope:
        """What this schedule wrote or read before, it need not read again: by its hash, to which
        the journal has just held the text."""
        known = sim().read
        if digest not in known:
            known[digest] = real_parse(body, digest)
        return known[digest]

    real_parse = events.parse

    class Time:
        monotonic = staticmethod(lambda: VirtualLock.simulation.now)
        sleep = staticmethod(lambda seconds: sim().sleep(seconds))

    def write_abort(state_dir: Any, tx: str, reason: str) -> None:
        sim().abort_request = reason

    def clear_abort(state_dir: Any) -> None:
        sim().abort_request = None

    def write_anchor(path: Any, moved: Any) -> None:
        sim().anchor = moved

    def write_again(path: Any) -> None:
        sim().disk.write_again(path)

    def holder(state_dir: Any) -> Holder | None:
        if sim().lock_holder is None:
            return None
        return Holder(pid=1, boot_id="b", started=0, verb="apply", transaction="t1")

    with patched(
        (runner, "time", Time),
        (workers, "time", Time),
        (events, "parse", parse),
        (transaction, "Story", lambda: Story() if sim().with_report else Untold()),
        (transaction, "HostLock", VirtualLock),
        (transaction, "current_holder", holder),
        (interrupts, "write_abort", write_abort),
        (interrupts, "read_abort", lambda state_dir, tx: sim().abort_request),
        (interrupts, "clear_abort", clear_abort),
        # What SQLite swallows of an error in our files is not for the terminal.
        (sys, "unraisablehook", lambda *_: None),
        (reserve, "reserve", lambda *_: None),
        (reserve, "CHECKPOINT_PAGES", reserve.CHECKPOINT_PAGES),
        (journal, "write_again", write_again),
        (anchor, "read", lambda state_dir: sim().anchor),
        (anchor, "_write", write_anchor),
    ):
        yield


@contextmanager
def patched(*changes: tuple[Any, str, Any]) -> Iterator[None]:
    """(object, name, value) each in place of what is there, until the block ends."""
    before = [(owner, name, vars(owner)[name]) for owner, name, _ in changes]
    try:
        for owner, name, value in changes:
            setattr(owner, name, value)
        yield
    finally:
        for owner, name, value in reversed(before):
            setattr(owner, name, value)
