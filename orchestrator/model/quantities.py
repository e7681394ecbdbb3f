"""Durations and sizes as people write them: "30s", "1h30m", "512MiB".

Durations are held as seconds (float), sizes as bytes (int). A bare number is
refused for both: "30" could be seconds or minutes, and a wrong guess costs an outage.
"""

from __future__ import annotations

import re
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

_DURATION_UNITS = {
    "ms": Decimal("0.001"),
    "s": Decimal(1),
    "m": Decimal(60),
    "h": Decimal(3600),
    "d": Decimal(86400),
}
_DURATION = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?(?:ms|s|m|h|d))+")
_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")
_LONGEST = 64
"""Characters of a quantity: keeps a million hostile digits away from the arithmetic."""
MAX_DURATION = 36500 * 86400.0
"""Seconds in a hundred years: beyond that somebody's pen slipped."""
_SIZE_UNITS = {
    "B": 1,
    "kB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}
MAX_SIZE = 2**63 - 1
"""Bytes: the largest `off_t`."""
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?(B|kB|MB|GB|TB|KiB|MiB|GiB|TiB)")


_NO_DURATION = 'expected a duration such as "500ms", "30s", "5m" or "1h30m"'


def parse_duration(text: str) -> float:
    """Seconds in a text such as "500ms", "30s", "5m" or "1h30m".

    Held to the microsecond. Summed up in decimals, so that
    `parse_duration(format_duration(x)) == x` holds exactly: digests of plans are taken over
    the text.

    Raises:
        ValueError: the text is not a sequence of number-and-unit pairs, or above MAX_DURATION.
    """
    if len(text) > _LONGEST:
        raise ValueError(_NO_DURATION)
    return _parse_duration(text)


@lru_cache(maxsize=1024)  # a plan says the same few durations in every step
def _parse_duration(text: str) -> float:
    if not _DURATION.fullmatch(text):
        raise ValueError(_NO_DURATION)
    parts = _DURATION_PART.findall(text)
    exact = sum((Decimal(n) * _DURATION_UNITS[u] for n, u in parts), Decimal())
    seconds = round(float(exact), 6)
    if seconds > MAX_DURATION:
        raise ValueError("expected a duration of at most 36500d")
    return seconds


def parse_size(text: str) -> int:
    """Bytes in a text such as "512MiB" or "2GB".

    Raises:
        ValueError: no number with a known unit, a fraction of a byte, or more than 2^63-1.
    """
    match = _SIZE.fullmatch(text) if len(text) <= _LONGEST else None
    if not match:
        raise ValueError('expected a size such as "512MiB", "2GiB" or "800MB"')
    value = Fraction(match[1]) * _SIZE_UNITS[match[2]]
    if value.denominator != 1:
        raise ValueError("expected a whole number of bytes")
    if value > MAX_SIZE:
        raise ValueError("expected a size below 8EiB")
    return int(value)


def format_duration(seconds: float) -> str:
    """The shortest text that `parse_duration` reads back exactly, e.g. 90 -> "1m30s"."""
    if seconds != int(seconds):
        exact = Decimal(repr(seconds))
        if seconds < 1 and exact * 1000 == int(exact * 1000):
            return f"{int(exact * 1000)}ms"
        return f"{exact:f}s"
    parts, rest = [], int(seconds)
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def format_size(size: int) -> str:
    """Bytes for people, in binary units, e.g. 3774873 -> "3.6 MiB"."""
    value = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def _duration_before(value: Any) -> float:
    if isinstance(value, str):
        return parse_duration(value)
    raise ValueError('expected a duration with a unit, such as "30s"')


def _size_before(value: Any) -> int:
    if isinstance(value, str):
        return parse_size(value)
    raise ValueError('expected a size with a unit, such as "512MiB"')


Duration = Annotated[
    float,
    BeforeValidator(_duration_before),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": f"^{_DURATION.pattern}$",
            "patternErrorMessage": 'a duration such as "500ms", "30s", "5m" or "1h30m"',
        }
    ),
]
"""Seconds; written and serialised as text with units."""

Size = Annotated[
    int,
    BeforeValidator(_size_before),
    PlainSerializer(lambda n: f"{n}B", return_type=str),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": f"^{_SIZE.pattern}$",
            "patternErrorMessage": 'a size such as "512MiB", "2GiB" or "800MB"',
        }
    ),
]
"""Bytes; written as text with a unit, serialised as "<n>B" so that nothing is rounded."""
