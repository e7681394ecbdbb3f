"""Hostile bytes, a little in every run: what was found once, and what hypothesis makes up.

`HYPOTHESIS_PROFILE=full`, as in `make test`, looks five times as long, `thorough` a hundred times;
`python -m tests.fuzz` as long as asked.
"""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from tests.fuzz.mutations import strategy
from tests.fuzz.targets import TARGETS
from tests.fuzz.watch import hold
from tests.support.profile import examples

INPUTS = Path(__file__).parent / "inputs"
KEPT = sorted(path.relative_to(INPUTS) for path in INPUTS.glob("*/*"))


@pytest.mark.parametrize("kept", KEPT, ids=str)
def test_what_was_found_once_is_stood(kept: Path, tmp_path: Path) -> None:
    data = (INPUTS / kept).read_bytes()
    if kept.suffix == ".gz":
        data = gzip.decompress(data)
    hold(TARGETS[kept.parts[0]], data, tmp_path)


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_a_valid_example_is_read(name: str, tmp_path: Path) -> None:
    """Or else nothing behind the first check would ever be reached."""
    TARGETS[name].run(TARGETS[name].seeds()[0], tmp_path)


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_no_input_leaves_the_error_tree(name: str, tmp_path: Path) -> None:
    target = TARGETS[name]

    @settings(
        max_examples=examples(target.examples),
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    @given(strategy(target))
    def try_one(data: bytes) -> None:
        hold(target, data, tmp_path)

    try_one()
