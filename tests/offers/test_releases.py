"""Older and newer, by numbers only."""

from __future__ import annotations

import pytest

from orchestrator.offers.releases import is_older, kind_of


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


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("6.12.48+deb13-cloud-amd64", "7.3.4+deb14-cloud-amd64"),
        ("6.1.0-9-amd64", "6.12.48+deb13-amd64"),
        ("6.8.0-45-generic", "6.8.0-48-generic"),
        ("6.12.5-200.fc41.x86_64", "6.13.1-100.fc42.x86_64"),
        ("7.2.13", "7.3.4"),
    ],
)
def test_kernels_that_follow_each_other_are_of_one_kind(one: str, other: str) -> None:
    assert kind_of(one) == kind_of(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("7.3.4+deb14-cloud-amd64", "7.3.4+deb14-amd64"),
        ("7.3.4+deb14-rt-amd64", "7.3.4+deb14-amd64"),
        ("6.8.0-45-generic", "6.8.0-45-lowlatency"),
        ("7.3.0-rc1", "7.3.0"),
    ],
)
def test_kernels_for_another_purpose_are_of_another_kind(one: str, other: str) -> None:
    assert kind_of(one) != kind_of(other)
