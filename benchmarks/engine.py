"""Durable steps per second of the engine, against raw SQLite on the same disk.

    python benchmarks/engine.py [--steps 1000] [--rounds 5] [--directory DIR]

Every round runs each contestant once, one after the other, so that a disk that gets slower
or a neighbour that gets busy hits all of them. A step of the engine is a no-op with its
intention and its result durable; `raw, 2 commits` writes the same two rows, one commit each,
and `raw, 1 commit` both in one, which is the floor for a chain: a result may share a commit
with the next intention, but an effect must not start before its intention is on the disk.
"""

from __future__ import annotations

import argparse
import shutil
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from orchestrator.engine.journal import Journal
from orchestrator.engine.transaction import Engine
from orchestrator.model.host import HostState, KernelState
from orchestrator.model.outcomes import Outcome
from orchestrator.model.steps import Inspected, Inspection, Step, StepGraph
from orchestrator.system.open_files import lost_at_reset

HOST = HostState(
    driver="none",
    machine_id="m",
    hostname="h",
    boot_id="b",
    kernel=KernelState(release="1", cmdline=""),
)
FAN = 3


class NoOpDriver:
    """Does nothing, at once."""

    name = "none"

    def observe(self, spec: Any) -> HostState:
        return HOST

    def perform(self, step: Step, context: Any) -> dict[str, Any]:
        return {}

    def inspect(self, step: Step, context: Any) -> Inspected:
        return Inspected(verdict=Inspection.ABSENT, reason="it does nothing")

    def revert(self, step: Step, context: Any) -> dict[str, Any]:
        return {}

    def close(self) -> None:
        pass


def graph(steps: int, edges: list[tuple[str, str]]) -> StepGraph:
    return StepGraph(
        name="benchmark",
        spec_digest="s",
        intent_digest="i",
        state_dir="/nowhere",
        driver="none",
        steps=[Step(id=f"s{i:06}", kind="none", title="nothing") for i in range(steps)],
        edges=edges,
        host=HOST,
    )


def chain(steps: int) -> StepGraph:
    return graph(steps, [(f"s{i:06}", f"s{i + 1:06}") for i in range(steps - 1)])


def layered(steps: int) -> StepGraph:
    """Layers of 50, each step behind three of the layer before."""
    width = min(50, steps)
    edges = [
        (f"s{i - width + (i + k) % width - i % width:06}", f"s{i:06}")
        for i in range(width, steps)
        for k in range(FAN)
        if i - width + (i + k) % width - i % width < i
    ]
    return graph(steps, edges)


def engine_seconds(directory: Path, made: StepGraph) -> float:
    """Of `run` alone; `begin` stores the plan and reserves room once per transaction."""
    with (
        Journal.open(directory, volatile=None) as journal,
        Engine(NoOpDriver(), journal) as engine,
    ):
        transaction = engine.begin(made)
        started = time.perf_counter()
        report = engine.run(transaction)
        seconds = time.perf_counter() - started
    assert report.outcome is Outcome.COMMITTED
    return seconds


def raw_seconds(directory: Path, steps: int, commits: int) -> float:
    """Two rows of the size of our events for each step, in one or in two commits."""
    path = directory / "raw.db"
    path.unlink(missing_ok=True)
    connection = sqlite3.connect(path, isolation_level=None)
    assert connection.execute("PRAGMA journal_mode=WAL").fetchone()[0] == "wal"
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE events (seq INTEGER PRIMARY KEY, body TEXT)")
    body = "x" * 330
    started = time.perf_counter()
    for _ in range(steps):
        connection.execute("BEGIN")
        connection.execute("INSERT INTO events (body) VALUES (?)", (body,))
        if commits == 2:
            connection.execute("COMMIT")
            connection.execute("BEGIN")
        connection.execute("INSERT INTO events (body) VALUES (?)", (body,))
        connection.execute("COMMIT")
    seconds = time.perf_counter() - started
    connection.close()
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--directory", type=Path, default=Path())
    options = parser.parse_args()
    steps: int = options.steps
    work = Path(tempfile.mkdtemp(prefix=".benchmark-", dir=options.directory))
    contestants: dict[str, Callable[[], float]] = {
        "raw SQLite, 1 commit a step": lambda: raw_seconds(work, steps, 1),
        "raw SQLite, 2 commits a step": lambda: raw_seconds(work, steps, 2),
        "engine, chain": lambda: engine_seconds(work / "state", chain(steps)),
        "engine, layered": lambda: engine_seconds(work / "state", layered(steps)),
    }
    try:
        kind = lost_at_reset(work)
        if kind:
            print(f"warning: {work} is on {kind}: nothing is durable there")
        rates: dict[str, list[float]] = {name: [] for name in contestants}
        for _ in range(options.rounds):
            for name, seconds in contestants.items():
                rates[name].append(steps / seconds())
    finally:
        shutil.rmtree(work)
    show(rates, steps)


def show(rates: dict[str, list[float]], steps: int) -> None:
    first, second = (statistics.median(r) for r in list(rates.values())[:2])
    print(f"durable steps per second, {steps} steps, median (least to most) of the rounds")
    for name, values in rates.items():
        median = statistics.median(values)
        print(
            f"  {name:30} {median:8,.0f} ({min(values):,.0f} to {max(values):,.0f})"
            f"   {median / first:5.2f} x 1 commit   {median / second:5.2f} x 2 commits"
        )


if __name__ == "__main__":
    main()
