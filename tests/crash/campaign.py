"""Many schedules: spread over processes, counted, and the failing ones made small."""

from __future__ import annotations

import gc
import multiprocessing
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial

from tests.crash import instance_parts, mutants, plans, schedule
from tests.crash.coverage import Coverage
from tests.crash.shrink import shrunk
from tests.crash.simulation import pretended

CHUNK = 50
MOST_FAILURES = 5


@dataclass(frozen=True)
class Failure:
    """A schedule that broke a promise."""

    seed: int
    invariant: str
    what: str
    stream: tuple[int, ...]


@dataclass
class Tally:
    """What came of a range of seeds."""

    first: int
    schedules: int = 0
    failed: int = 0
    failures: list[Failure] = field(default_factory=list)
    """The first few."""
    coverage: Coverage = field(default_factory=Coverage)
    seconds: float = 0.0
    cpu: float = 0.0
    """Seconds of processor, all processes together."""

    def add(self, other: Tally) -> None:
        self.schedules += other.schedules
        self.failed += other.failed
        self.failures = sorted(self.failures + other.failures, key=lambda f: f.seed)
        del self.failures[MOST_FAILURES:]
        self.coverage.add(other.coverage)
        self.cpu += other.cpu


@contextmanager
def simulated(mutant: str | None = None) -> Iterator[None]:
    """Everything that a schedule needs in place of the real one; with a bug put in, if named."""
    with ExitStack() as stack:
        stack.enter_context(pretended())
        stack.enter_context(plans.in_memory())
        stack.enter_context(instance_parts.in_memory())
        if mutant is not None:
            stack.enter_context(mutants.MUTANTS[mutant].put_in())
        yield


def some(setup: str, mutant: str | None, seeds: range, *, enough: int | None = None) -> Tally:
    """These seeds, in this process. `enough`: stop after so many failures."""
    tally, started = Tally(seeds.start), time.process_time()
    with simulated(mutant), _garbage_kept():
        for seed in seeds:
            result = schedule.run(schedule.SETUPS[setup], tally.coverage, seed=seed)
            tally.schedules += 1
            if result.violation is not None:
                tally.failed += 1
                v = result.violation
                failure = Failure(seed, v.invariant.value, v.what, tuple(result.stream))
                if len(tally.failures) < MOST_FAILURES:
                    tally.failures.append(failure)
                if tally.failed == enough:
                    break
    tally.cpu = time.process_time() - started
    return tally


@contextmanager
def _garbage_kept() -> Iterator[None]:
    """Collected once in the end, and only what was made since the first time: looking for it all
    the time takes a twentieth of it, and looking through the modules as much again. What is still
    held in the end of one range of seeds (its last schedule) is found in the end of the next."""
    gc.disable()
    if not gc.get_freeze_count():
        gc.freeze()
    try:
        yield
    finally:
        gc.enable()
        gc.collect()


def campaign(
    setup: str,
    first: int,
    count: int,
    *,
    jobs: int = 1,
    mutant: str | None = None,
    enough: int | None = None,
) -> Tally:
    """`count` schedules from seed `first` on; stops early after `enough` failures."""
    whole, started = Tally(first), time.perf_counter()
    chunks = [
        range(at, min(at + CHUNK, first + count)) for at in range(first, first + count, CHUNK)
    ]
    work = partial(some, setup, mutant, enough=enough)
    if jobs == 1:
        for chunk in chunks:
            whole.add(work(chunk))
            if enough is not None and whole.failed >= enough:
                break
    else:
        with multiprocessing.get_context("fork").Pool(jobs) as pool:
            for tally in pool.imap_unordered(work, chunks):
                whole.add(tally)
                if enough is not None and whole.failed >= enough:
                    pool.terminate()
                    break
    whole.seconds = time.perf_counter() - started
    return whole


def made_small(setup: str, failure: Failure, mutant: str | None = None) -> list[int]:
    """The failing schedule with as few faults and as low numbers as still fail that way."""

    def fails(stream: list[int]) -> list[int] | None:
        result = schedule.run(schedule.SETUPS[setup], Coverage(), stream=stream)
        same = result.violation is not None and result.violation.invariant == failure.invariant
        return result.stream if same else None

    with simulated(mutant):
        return shrunk(list(failure.stream), fails)


def trace(
    setup: str,
    *,
    seed: int | None = None,
    stream: list[int] | None = None,
    mutant: str | None = None,
) -> schedule.Result:
    """One schedule, told."""
    with simulated(mutant):
        return schedule.run(
            schedule.SETUPS[setup], Coverage(), seed=seed, stream=stream, traced=True
        )
