"""How tests that boot guests are dealt out to workers."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.vm.order import SECONDS, USUAL, dealt

ROOM = Path(__file__).parents[1] / "vm"
LONG = sorted(SECONDS, key=SECONDS.__getitem__, reverse=True)


def item(name: str, file: Path = ROOM / "test_x.py", *fixtures: str) -> Any:
    return SimpleNamespace(
        name=name, originalname=name, nodeid=f"{file}::{name}", path=file, fixturenames=fixtures
    )


def names(items: list[pytest.Item]) -> list[str]:
    return [one.name for one in items]


def test_every_test_that_is_told_to_be_long_is_there() -> None:
    there = "".join(path.read_text(encoding="utf-8") for path in ROOM.glob("test_*.py"))
    assert set(SECONDS) <= set(re.findall(r"^def (test_\w+)", there, re.MULTILINE))


@pytest.mark.parametrize("workers", [2, 3])
def test_each_worker_begins_with_a_longest_test_and_none_is_lost(workers: int) -> None:
    fast = [item(f"fast{n}", ROOM.parent / "test_y.py") for n in range(20)]
    given = [*fast, *(item(name) for name in reversed(LONG))]
    order = dealt(given, ROOM, workers)
    assert sorted(names(order)) == sorted(names(given))
    starts = [n * len(given) // workers for n in range(workers)]
    assert {order[start].name for start in starts} == set(LONG[:workers])


def test_workers_are_about_as_long_at_work() -> None:
    order = dealt([item(name) for name in (*LONG, *(f"test_{n}" for n in range(9)))], ROOM, 2)
    half = len(order) // 2
    loads = [sum(SECONDS.get(o.name, USUAL) for o in run) for run in (order[:half], order[half:])]
    assert abs(loads[0] - loads[1]) <= 3 * USUAL


def test_tests_of_one_guest_stay_together() -> None:
    shared = [item(f"shared{n}", ROOM / "test_z.py", "guest") for n in range(3)]
    alone = [item(f"alone{n}") for n in range(5)]
    order = names(dealt([shared[0], *alone, *shared[1:]], ROOM, 2))
    first = order.index("shared0")
    assert order[first : first + 3] == ["shared0", "shared1", "shared2"]
    assert first in {0, 4}
