"""Durable steps per second of the engine, against raw SQLite, DBOS and JSON lines on one disk.

    python benchmarks/engine.py [--steps 1000] [--rounds 10] [--shape chain|layers]
        [--dbos-python /path/to/venv/bin/python] [--strace] [--directory DIR] [--within-mb MB]

One fsync here may take ten times as long as another, so that only ratios count: the steps are
done in chunks, and the contestants take turns chunk by chunk. A step is a no-op whose intention
and result are durable:

- raw, 2 commits: both as rows of the size of our events, one synced commit each
- raw, 1 commit: both in one commit, which is the floor for a chain (a result may share a commit
  with the next intention, but no effect may start before its intention is on the disk)
- raw, grouped: on layers, the rows of 50 steps in two commits
- json lines: both as lines of a file, fsync(2) after each
- DBOS: a workflow of steps, SQLite as it ships (`pip install dbos` in an environment of its own)

Each contestant runs in a process of its own, started once, so that its peak memory is its own. Each
then counts what it left on the disk. With --strace every contestant is run once more under
strace(1), and the syncs are counted.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WORKER = Path(__file__).with_name("engine_worker.py")
CHAIN = ("raw-1", "raw-2", "engine", "json-lines", "dbos")
LAYERS = ("raw-grouped", "raw-2", "engine", "dbos")
SYNC = re.compile(rb"\b(?:fsync|fdatasync)\(")


@dataclass
class Contestant:
    """A worker process: told to do a chunk, it answers with the seconds that it took."""

    name: str
    process: subprocess.Popen[str]

    def ask(self, word: str) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} died")
        answer: dict[str, Any] = json.loads(line)
        return answer


def start(
    name: str, options: argparse.Namespace, directory: Path, prefix: list[str] | None = None
) -> Contestant:
    python = options.dbos_python if name == "dbos" else sys.executable
    place = directory / name
    place.mkdir(parents=True)
    command = [*(prefix or []), str(python), str(WORKER), name, options.shape, str(options.steps)]
    process = subprocess.Popen(
        [*command, str(place)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    return Contestant(name, process)


def names(options: argparse.Namespace) -> list[str]:
    every = CHAIN if options.shape == "chain" else LAYERS
    chosen = options.only.split(",") if options.only else every
    return [n for n in chosen if n in every and (n != "dbos" or options.dbos_python)]


def measure(options: argparse.Namespace, work: Path) -> dict[str, dict[str, Any]]:
    """Rates by contestant (steps per second, one for each round), and what each left behind."""
    running = [start(name, options, work) for name in names(options)]
    rates: dict[str, list[float]] = {c.name: [] for c in running}
    for _ in range(options.rounds):
        for contestant in running:
            rates[contestant.name].append(options.steps / contestant.ask("chunk")["seconds"])
    found = {}
    for contestant in running:
        end = contestant.ask("end")
        contestant.process.wait()
        assert end["durable"] == end["expected"], (contestant.name, end)
        found[contestant.name] = {"rates": rates[contestant.name], **end}
    return found


def syncs(name: str, options: argparse.Namespace, work: Path) -> float:
    """Syncs per step in one chunk: those of a run with it less those of a run without."""
    counts = []
    for chunks in (1, 2):
        trace = work / f"{name}.{chunks}.trace"
        prefix = ["strace", "-f", "-e", "trace=fsync,fdatasync", "-o", str(trace)]
        contestant = start(name, options, work / f"traced-{chunks}", prefix)
        for _ in range(chunks):
            contestant.ask("chunk")
        contestant.ask("end")
        contestant.process.wait()
        counts.append(len(SYNC.findall(trace.read_bytes())))
    return (counts[1] - counts[0]) / options.steps


def show(found: dict[str, dict[str, Any]], options: argparse.Namespace) -> None:
    base = next(iter(found))
    print(
        f"{options.shape}: {options.steps:,} steps a chunk, {options.rounds} chunks each, in turn; "
        "median (least to most); ratio: median of those within one round"
    )
    heads = ("", "steps/s", "range", f"x {base}", "CPU us/step", "peak MB", "syncs/step", "rows")
    lines = [heads]
    for name, one in found.items():
        rates = one["rates"]
        ratio = statistics.median(r / b for r, b in zip(rates, found[base]["rates"], strict=True))
        lines.append(
            (
                name,
                f"{statistics.median(rates):,.0f}",
                f"{min(rates):,.0f} to {max(rates):,.0f}",
                f"{ratio:.2f}",
                f"{one['cpu'] / options.steps / options.rounds * 1e6:.0f}",
                f"{one['peak_mb']:.0f}",
                f"{one['syncs']:.3f}" if "syncs" in one else "-",
                f"{one['durable']:,}",
            )
        )
    widths = [max(len(line[i]) for line in lines) for i in range(len(heads))]
    for line in lines:
        cells = [line[0].ljust(widths[0])]
        print("  ".join([*cells, *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))]))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=1000, help="in a chunk")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--shape", choices=["chain", "layers"], default="chain")
    parser.add_argument("--only", help="contestants, separated by commas")
    parser.add_argument("--dbos-python", type=Path, help="of an environment with dbos in it")
    parser.add_argument("--strace", action="store_true", help="count the syncs, too")
    parser.add_argument("--directory", type=Path, default=Path())
    parser.add_argument(
        "--within-mb", type=float, metavar="MB", help="fail if the engine needs more"
    )
    options = parser.parse_args(arguments)
    work = Path(tempfile.mkdtemp(prefix=".benchmark-", dir=options.directory))
    try:
        found = measure(options, work)
        if options.strace:
            for name, one in found.items():
                one["syncs"] = syncs(name, options, work)
        show(found, options)
        if options.within_mb is not None and found["engine"]["peak_mb"] > options.within_mb:
            raise SystemExit(f"the engine needed more than {options.within_mb:g} MB")
    finally:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
