"""Older and newer, by numbers only."""

from __future__ import annotations

import pytest

from orchestrator.offers.releases import is_older


@pytest.mark.parametrize(
    ("release", "than"),
    [
        ("6.12.9-amd64", "6.12.48-amd64"),
        ("6.12.48-2-amd64", "6.12.48-3-amd64"),
        ("6.1.0-9-amd64", "6.1.0-10-amd64"),
        ("7.2.13", "7.3.4"),
        ("6.12.5-200.fc41.x86_64", "6.13.1-100.fc41.x86_64"),
        ("9.1", "10.0"),
    ],
)
def test_lower_numbers_are_older(release: str, than: str) -> None:
    assert is_older(release, than)
    assert not is_older(than, release)


@pytest.mark.parametrize(
    ("one", "other"),
    [("7.3.0-rc1", "7.3.0"), ("7.3.4-cloud-amd64", "7.3.4-amd64"), ("7.3", "7.3"), ("x", "y")],
)
def test_what_words_say_is_not_guessed(one: str, other: str) -> None:
    assert not is_older(one, other)
    assert not is_older(other, one)
