"""One contestant of benchmarks/engine.py, in a process of its own.

    python engine_worker.py NAME chain|layers STEPS DIRECTORY

Reads "chunk" and "end" on stdin, a line each. After a chunk it answers with the seconds that the
chunk took; at the end with how much it left on the disk (counted there), its CPU time in all
chunks, and its peak memory. What happens once for each chunk, such as storing the plan, is not in
the seconds.
"""

from __future__ import annotations

import json
import os
import resource
import sqlite3
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

WIDTH, FAN = 50, 3
BODY = "x" * 330
"""As long as an event of a no-op, in the raw contestants."""


class Contest(Protocol):
    expected: int
    """Rows or lines that must be on the disk for each chunk."""

    def prepare(self) -> Callable[[], None]:
        """What a chunk is, ready to go."""
        ...

    def durable(self) -> int:
        """Rows or lines on the disk after all chunks."""
        ...


class Raw:
    """Two rows a step, `group` rows a commit."""

    def __init__(self, steps: int, directory: Path, group: int) -> None:
        self.steps, self.expected, self.group = steps, 2 * steps, group
        self.path = directory / "raw.db"
        self.connection = sqlite3.connect(self.path, isolation_level=None)
        assert self.connection.execute("PRAGMA journal_mode=WAL").fetchone()[0] == "wal"
        self.connection.execute("PRAGMA synchronous=FULL")
        assert self.connection.execute("PRAGMA synchronous").fetchone()[0] == 2
        self.connection.execute("CREATE TABLE events (seq INTEGER PRIMARY KEY, body TEXT)")

    def prepare(self) -> Callable[[], None]:
        return self._chunk

    def _chunk(self) -> None:
        run, group = self.connection.execute, self.group
        for first in range(0, 2 * self.steps, group):
            run("BEGIN")
            if group <= 2:
                for _ in range(group):
                    run("INSERT INTO events (body) VALUES (?)", (BODY,))
            else:
                rows = [(BODY,)] * min(group, 2 * self.steps - first)
                self.connection.executemany("INSERT INTO events (body) VALUES (?)", rows)
            run("COMMIT")

    def durable(self) -> int:
        self.connection.close()
        return count(self.path, "events")


class JsonLines:
    """Two lines a step, each of them synced."""

    def __init__(self, steps: int, directory: Path) -> None:
        self.steps, self.expected = steps, 2 * steps
        self.path = directory / "lines"
        self.handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def prepare(self) -> Callable[[], None]:
        return self._chunk

    def _chunk(self) -> None:
        for n in range(2 * self.steps):
            os.write(self.handle, (json.dumps({"seq": n, "body": BODY}) + "\n").encode())
            os.fsync(self.handle)

    def durable(self) -> int:
        with self.path.open("rb") as file:
            return sum(1 for _ in file)


class Engine:
    """Our own, as the command line runs it, but for its room for parallel steps."""

    def __init__(self, steps: int, directory: Path, shape: str) -> None:
        from orchestrator.engine.journal import Journal
        from orchestrator.engine.transaction import Engine
        from orchestrator.system.open_files import lost_at_reset

        if kind := lost_at_reset(directory):
            print(f"warning: on {kind} nothing is durable", file=sys.stderr)
        self.steps, self.shape = steps, shape
        self.expected = 2 * steps + 2  # began, and ended
        self.journal = Journal.open(directory / "state", volatile=None)
        self.engine = Engine(no_op_driver(), self.journal, parallel=WIDTH)

    def prepare(self) -> Callable[[], None]:
        transaction = self.engine.begin(graph(self.steps, self.shape), again=True)
        return lambda: self._chunk(transaction)

    def _chunk(self, transaction: str) -> None:
        from orchestrator.model.outcomes import Outcome

        report = self.engine.run(transaction)
        assert report.outcome is Outcome.COMMITTED
        assert len(report.steps) == self.steps

    def durable(self) -> int:
        assert self.journal.verify().problem is None
        self.engine.close()
        self.journal.close()
        return count(self.journal.path, "events")


class Dbos:
    """A workflow of no-op steps; on layers, 50 at a time by asyncio."""

    def __init__(self, steps: int, directory: Path, shape: str) -> None:
        import logging

        from dbos import DBOS

        self.steps, self.shape, self.expected = steps, shape, steps
        self.path = directory / "dbos.sqlite"
        DBOS(
            config={
                "name": "benchmark",
                "system_database_url": f"sqlite:///{self.path}",
                "run_admin_server": False,
                "log_level": "ERROR",
            }
        )
        logging.disable(logging.WARNING)
        self.dbos = DBOS
        self.workflow, self.layered = self._workflows(DBOS)
        DBOS.launch()

    @staticmethod
    def _workflows(dbos: Any) -> tuple[Callable[[int], None], Callable[[int], Any]]:
        import asyncio

        @dbos.step()
        def nothing() -> dict[str, Any]:
            return {}

        @dbos.step()
        async def nothing_async() -> dict[str, Any]:
            return {}

        @dbos.workflow()
        def chain(steps: int) -> None:
            for _ in range(steps):
                nothing()

        @dbos.workflow()
        async def layers(steps: int) -> None:
            for first in range(0, steps, WIDTH):
                await asyncio.gather(*(nothing_async() for _ in range(min(WIDTH, steps - first))))

        return chain, layers

    def prepare(self) -> Callable[[], None]:
        import asyncio

        if self.shape == "chain":
            return lambda: self.workflow(self.steps)
        return lambda: asyncio.run(self.layered(self.steps))

    def durable(self) -> int:
        self.dbos.destroy()
        return count(self.path, "operation_outputs")


def no_op_driver() -> Any:
    from orchestrator.model.steps import Inspected, Inspection

    class NoOpDriver:
        """Does nothing, at once."""

        name = "none"

        def observe(self, spec: Any) -> Any:
            raise NotImplementedError

        def perform(self, step: Any, context: Any) -> dict[str, Any]:
            return {}

        def inspect(self, step: Any, context: Any) -> Inspected:
            return Inspected(verdict=Inspection.ABSENT, reason="it does nothing")

        def revert(self, step: Any, context: Any) -> dict[str, Any]:
            return {}

        def close(self) -> None:
            pass

    return NoOpDriver()


def graph(steps: int, shape: str) -> Any:
    """A chain, or layers of 50 with each step behind three of the layer before."""
    from orchestrator.model.host import HostState, KernelState
    from orchestrator.model.steps import Step, StepGraph

    ids = [f"s{i:06}" for i in range(steps)]
    if shape == "chain":
        edges = list(pairwise(ids))
    else:
        edges = [
            (ids[first - WIDTH + (i + k) % WIDTH], ids[i])
            for first in range(WIDTH, steps, WIDTH)
            for i in range(first, min(first + WIDTH, steps))
            for k in range(FAN)
        ]
    kernel = KernelState(release="1", cmdline="")
    return StepGraph(
        name="benchmark",
        spec_digest="s",
        intent_digest="i",
        state_dir="/nowhere",
        driver="none",
        steps=[Step(id=i, kind="none", title="nothing") for i in ids],
        edges=edges,
        host=HostState(driver="none", machine_id="m", hostname="h", boot_id="b", kernel=kernel),
    )


def count(path: Path, table: str) -> int:
    """Rows in a database that everybody else has closed."""
    connection = sqlite3.connect(path)
    found: int = connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608
    connection.close()
    return found


def contest(name: str, shape: str, steps: int, directory: Path) -> Contest:
    if name == "engine":
        return Engine(steps, directory, shape)
    if name == "dbos":
        return Dbos(steps, directory, shape)
    if name == "json-lines":
        return JsonLines(steps, directory)
    return Raw(steps, directory, {"raw-1": 2, "raw-2": 1, "raw-grouped": WIDTH}[name])


def main() -> None:
    name, shape, steps, directory = sys.argv[1:]
    contestant = contest(name, shape, int(steps), Path(directory))
    chunks, cpu = 0, 0.0
    for line in sys.stdin:
        if line.strip() == "end":
            break
        chunk = contestant.prepare()
        started, busy = time.perf_counter(), time.process_time()
        chunk()
        seconds = time.perf_counter() - started
        cpu += time.process_time() - busy
        chunks += 1
        print(json.dumps({"seconds": seconds}), flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    answer = {"durable": contestant.durable(), "expected": contestant.expected * chunks}
    print(json.dumps({**answer, "peak_mb": peak, "cpu": cpu}), flush=True)


if __name__ == "__main__":
    main()
