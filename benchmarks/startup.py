"""Start-up of the command against what its heaviest dependency alone costs.

    python benchmarks/startup.py [--rounds 15]

Rounds in which each command runs once, in turn. CPU time (user and system) is what is compared:
wall-clock time on a busy machine says more of the neighbours. Prints the least of each, which is
what is left when nothing disturbs, and the ratio to `import pydantic`.

`resume --boot` is the blackout's share: what the new kernel does before the first workload is
restored. It runs over a journal of the simulated driver, stopped in the middle of a
transaction, a fresh copy for each round.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PLAN = str(ROOT / "plans" / "simulated.yaml")
STATE_DIR = "/var/tmp/mkupgrade-simulated"
"""What that plan says."""
CLI = ["-m", "orchestrator.cli"]
COMMANDS: dict[str, list[str]] = {
    "python -c pass": ["-c", "pass"],
    "python -c 'import pydantic'": ["-c", "import pydantic; pydantic.BaseModel"],
    "mkupgrade --version": [*CLI, "--version"],
    "mkupgrade --help": [*CLI, "--help"],
    "mkupgrade status": [*CLI, "status"],
    "mkupgrade validate": [*CLI, "validate", PLAN],
    "mkupgrade plan": [*CLI, "plan", PLAN],
    "mkupgrade resume --boot": [*CLI, "resume", "--boot"],
}
PLAIN, PYDANTIC = list(COMMANDS)[:2]
GOALS = {"mkupgrade --help": 0.150, "mkupgrade plan": 0.400}
"""Seconds on an idle machine of the class that the project is tested on."""
EXPECTED = {"mkupgrade status": {0, 1}, "mkupgrade resume --boot": {0, 3}}
"""Exit codes other than 0 that a command may have."""

HALF_WAY = """
import sys
from pathlib import Path
from orchestrator.drivers.simulated import SimulatedDriver
from orchestrator.engine.journal import Journal
from orchestrator.engine.transaction import Engine
from orchestrator.loading import load_spec_file
from orchestrator import planning

class Stopped(BaseException):
    pass

class Dies(SimulatedDriver):
    def perform(self, step, context):
        if step.kind == "load-kernel":
            raise Stopped
        return super().perform(step, context)

spec = load_spec_file(Path(sys.argv[1]))
driver = Dies.for_spec(spec)
graph = planning.plan(spec, driver.observe(spec))
with Journal.open(Path(spec.host.state_dir), volatile=None) as journal:
    engine = Engine(driver, journal)
    try:
        engine.run(engine.begin(graph))
    except Stopped:
        print(sum(1 for _ in journal.log(journal.transactions()[0].id)))
"""


def half_way(directory: Path) -> Path:
    """A state directory with a transaction that stopped in the middle."""
    state = directory / "state"
    spec = directory / "plan.yaml"
    text = Path(PLAN).read_text(encoding="utf-8")
    assert STATE_DIR in text
    spec.write_text(text.replace(STATE_DIR, str(state)), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", HALF_WAY, str(spec)],
        env=environment(state),
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 1, "nothing was begun"
    return state


def events(state: Path, kind: str) -> int:
    connection = sqlite3.connect(state / "journal.db")
    query = "SELECT count(*) FROM events WHERE type = ?"
    found: int = connection.execute(query, (kind,)).fetchone()[0]
    connection.close()
    return found


def environment(state: Path) -> dict[str, str]:
    return os.environ | {"MKUPGRADE_STATE_DIR": str(state)}


def seconds(name: str, state: Path) -> tuple[float, float]:
    """(wall, CPU) of one run."""
    before, start = os.times(), time.perf_counter()
    done = subprocess.run(
        [sys.executable, *COMMANDS[name]],
        env=environment(state),
        capture_output=True,
        check=False,
        cwd=ROOT,
    )
    wall, after = time.perf_counter() - start, os.times()
    assert done.returncode in EXPECTED.get(name, {0}), (name, done.stderr.decode())
    cpu = after.children_user - before.children_user
    return wall, cpu + after.children_system - before.children_system


def measure(rounds: int, names: list[str], work: Path) -> dict[str, tuple[float, float]]:
    """Least wall and CPU seconds by command."""
    stopped, kept = half_way(work), work / "kept"
    shutil.copytree(stopped, kept)
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            state = work / "nothing-here"
            if name.endswith("--boot"):
                state = stopped
                shutil.rmtree(stopped)
                shutil.copytree(kept, stopped)
            found[name].append(seconds(name, state))
            if name.endswith("--boot"):
                assert events(stopped, "resumed") == events(stopped, "ended") == 1, "not resumed"
    return {n: (min(w for w, _ in all_), min(c for _, c in all_)) for n, all_ in found.items()}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only", help="commands whose names hold this, beside the two first")
    options = parser.parse_args(arguments)
    names = [n for n in COMMANDS if not options.only or n in {PLAIN, PYDANTIC} or options.only in n]
    with tempfile.TemporaryDirectory(prefix="mkupgrade-startup-") as work:
        found = measure(options.rounds, names, Path(work))
    print(f"{'command':<32} {'wall ms':>8} {'CPU ms':>8} {'x pydantic':>11} {'goal ms':>8}")
    for name, (wall, cpu) in found.items():
        goal = f"{GOALS[name] * 1000:.0f}" if name in GOALS else "-"
        ratio = cpu / found[PYDANTIC][1]
        print(f"{name:<32} {wall * 1000:>8.0f} {cpu * 1000:>8.0f} {ratio:>11.2f} {goal:>8}")


if __name__ == "__main__":
    main()
