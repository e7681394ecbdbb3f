"""How thoroughly properties are tried: HYPOTHESIS_PROFILE=quick, full or thorough.

`quick` is for the fast suite, and what there is without a word. `make test` and `make crash-test`
ask for `full`.
"""

from __future__ import annotations

import os
from typing import Any

import pytest

PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "quick")
PROFILES = {"quick": 0.2, "full": 1, "thorough": 20}
_FEWEST = 10


def examples(number: int) -> int:
    """For `settings(max_examples=…)` of a property for which hypothesis's own number is too many
    or too few: `number` in `full`, as many times that as the profile says, and in `quick` not
    fewer than ten."""
    return max(min(number, _FEWEST), round(number * PROFILES[PROFILE]))


def slow(*values: object) -> Any:
    """A parameter with which a test is too much for the fast suite: `make crash-test`."""
    return pytest.param(*values, marks=[pytest.mark.slow, pytest.mark.timeout(600)])
