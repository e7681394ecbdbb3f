"""Making a failing schedule small: fewer faults, lower numbers, the same promise broken."""

from __future__ import annotations

from collections.abc import Callable, Iterator

Fails = Callable[[list[int]], list[int] | None]
"""Plays a stream; the decisions that were really drawn if it still fails in the same way."""


def shrunk(stream: list[int], fails: Fails, *, most: int = 2000) -> list[int]:
    """The simplest stream found in at most that many tries.

    A stream is simpler than another if it is shorter, or as long with more zeroes or lower
    numbers; zeroes at its end count for nothing.
    """
    best, left = _trimmed(stream), most
    improved = True
    while improved and left > 0:
        improved = False
        for candidate in _candidates(best):
            left -= 1
            if left < 0:
                break
            drawn = fails(candidate)
            if drawn is not None and _size(_trimmed(drawn)) < _size(best):
                best, improved = _trimmed(drawn), True
                break
    return best


def _candidates(stream: list[int]) -> Iterator[list[int]]:
    """Simpler ones, the boldest first: pieces left out, pieces zeroed, numbers lowered."""
    length = len(stream)
    piece = max(1, length // 2)
    while piece >= 1:
        for start in range(0, length, piece):
            if any(stream[start : start + piece]):
                yield [*stream[:start], *[0] * piece, *stream[start + piece :]]
        piece //= 2
    for size in (8, 4, 2, 1):
        for start in range(0, length, max(1, size // 2)):
            yield stream[:start] + stream[start + size :]
    for at, number in enumerate(stream):
        for lower in dict.fromkeys((number // 2, number - 1)):
            if 0 < lower < number:
                yield [*stream[:at], lower, *stream[at + 1 :]]


def _trimmed(stream: list[int]) -> list[int]:
    end = len(stream)
    while end and stream[end - 1] == 0:
        end -= 1
    return stream[:end]


def _size(stream: list[int]) -> tuple[int, int, int]:
    return (sum(1 for n in stream if n), sum(stream), len(stream))
