"""The benchmarks still run, at tiny sizes, and do what they say. No figure is judged here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


def table(script: str, *arguments: str) -> list[list[str]]:
    """The lines that a benchmark prints, in words."""
    done = subprocess.run(
        [sys.executable, f"benchmarks/{script}", *arguments],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [line.split() for line in done.stdout.splitlines()]


@pytest.mark.parametrize(
    ("shape", "base", "rows"), [("chain", "raw-1", 40), ("layers", "raw-grouped", 40)]
)
def test_every_contestant_leaves_all_its_rows_on_the_disk(
    tmp_path: Path, shape: str, base: str, rows: int
) -> None:
    sizes = ["--steps", "10", "--rounds", "2", "--directory", str(tmp_path)]
    _, _, first, *others = table("engine.py", "--shape", shape, *sizes)
    assert first[0] == base
    found = {line[0]: int(line[-1]) for line in (first, *others)}
    expected = {base: rows, "raw-2": rows, "engine": rows + 2 * 2}
    assert {name: found[name] for name in expected} == expected
    assert list(tmp_path.iterdir()) == []


def test_the_planner_is_compared_at_every_size() -> None:
    head, *lines, surge, rolling = table("planner.py", "3", "30")
    assert head[:4] == ["CPU", "ms", "networkx", "graphlib"]
    small, large = (int(line[0]) for line in lines)
    assert small < large
    assert float(lines[1][-1]) > 0, "the exponent of the growth"
    assert " ".join(surge).startswith("6,202 steps of a surge, 200 instances, 2,000 workloads")
    assert " ".join(rolling).startswith("11,004 steps of rolling, 200 instances, 2,000 workloads")


def test_the_start_of_resume_is_measured_over_a_transaction_that_stopped_half_way() -> None:
    head, *lines = table("startup.py", "--rounds", "1", "--only", "resume")
    assert head[:2] == ["command", "wall"]
    assert [" ".join(line[:3]) for line in lines][-1] == "mkupgrade resume --boot"
    assert len(lines) == 3


def test_the_stream_sends_all_ahead_and_the_difference_in_the_pause(tmp_path: Path) -> None:
    _, ahead, pause, _ = table("stream.py", "12", "--directory", str(tmp_path))
    assert (ahead[0], pause[0]) == ("ahead", "pause")
    assert float(ahead[-1]) >= 12
    assert 0 < float(pause[-1]) <= 1.5
    assert list(tmp_path.iterdir()) == []
