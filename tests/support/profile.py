"""How thoroughly properties are tried: quickly by default, or HYPOTHESIS_PROFILE=thorough."""

from __future__ import annotations

import os
from typing import Any

import pytest

PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "default")
_TIMES = {"default": 1, "thorough": 20}


def examples(number: int) -> int:
    """For `settings(max_examples=…)` of a property for which hypothesis's own number is too many
    or too few: `number` by default, as many times that as the profile says."""
    return number * _TIMES[PROFILE]


def slow(*values: object) -> Any:
    """A parameter with which a test is too much for the fast suite: `make crash-test`."""
    return pytest.param(*values, marks=[pytest.mark.slow, pytest.mark.timeout(600)])
