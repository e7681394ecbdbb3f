"""Durations and sizes as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from orchestrator.model.quantities import (
    MAX_DURATION,
    MAX_SIZE,
    Duration,
    Size,
    format_duration,
    format_size,
    parse_duration,
    parse_size,
)

SIZE: TypeAdapter[int] = TypeAdapter(Size)
DURATION: TypeAdapter[float] = TypeAdapter(Duration)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0s", 0.0),
        ("500ms", 0.5),
        ("1.5ms", 0.0015),
        ("30s", 30.0),
        ("5m", 300.0),
        ("1h30m", 5400.0),
        ("1d1h1m1s1ms", 90061.001),
        ("7d", 604800.0),
        ("36500d", MAX_DURATION),
    ],
)
def test_durations_are_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    ["", "30", "s", "30 s", "-1s", "+1s", "1,5s", "1e3s", "30S", "1w", ".5s", "1.s", "٣s", "30s\n",
     "36501d", "9" * 63 + "d", "1s" * 40, "inf s", "nan"],
)  # fmt: skip
def test_what_is_no_duration_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match="expected a duration"):
        parse_duration(text)


@given(st.integers(0, 10**12))
def test_a_duration_reads_back_exactly_as_it_was_written(microseconds: int) -> None:
    seconds = microseconds / 10**6

    assert parse_duration(format_duration(seconds)) == seconds


@given(st.text(alphabet="0123456789.smhd", max_size=70))
def test_no_text_makes_a_duration_fail_otherwise(text: str) -> None:
    try:
        seconds = parse_duration(text)
    except ValueError:
        return
    assert 0 <= seconds <= MAX_DURATION
    assert parse_duration(format_duration(seconds)) == seconds


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.25, "250ms"),
        (90, "1m30s"),
        (86400, "1d"),
        (90.5, "90.5s"),
        (1e-6, "0.000001s"),
    ],
)
def test_durations_are_shown_briefly(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0B", 0),
        ("4096B", 4096),
        ("512MiB", 512 << 20),
        ("0.5KiB", 512),
        ("800MB", 800 * 10**6),
        ("2 GiB", 2 << 30),
        ("9007199254740993B", 2**53 + 1),
        (f"{MAX_SIZE}B", MAX_SIZE),
    ],
)
def test_sizes_are_bytes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    ["", "512", "MiB", "512mib", "512M", "-1B", "0.3B", "1  MiB", "1e3B", f"{MAX_SIZE + 1}B",
     "9" * 60 + "TiB", "9" * 5000 + "B", "٣B"],
)  # fmt: skip
def test_what_is_no_size_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match="expected a"):
        parse_size(text)


@given(st.integers(0, MAX_SIZE))
def test_a_size_reads_back_exactly_as_it_was_written(size: int) -> None:
    assert SIZE.validate_python(SIZE.dump_python(size, mode="json")) == size


@pytest.mark.parametrize("value", [30, 30.0, True, None, ["30s"]])
def test_a_bare_number_is_refused_for_both(value: object) -> None:
    with pytest.raises(ValidationError, match="unit"):
        DURATION.validate_python(value)
    with pytest.raises(ValidationError, match="unit"):
        SIZE.validate_python(value)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (3774873, "3.6 MiB"),
        (1 << 30, "1.0 GiB"),
        (5 << 42, "20.0 TiB"),
    ],
)
def test_sizes_for_people_have_one_decimal(size: int, text: str) -> None:
    assert format_size(size) == text
