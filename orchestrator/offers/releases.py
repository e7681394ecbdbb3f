"""Which of two kernel releases is older, as far as their numbers say."""

from __future__ import annotations

import re

_NUMBERS = re.compile(r"\d+(?:[.-]\d+)*")


def is_older(release: str, than: str) -> bool:
    """By the numbers that both begin with: "6.12.48-3-amd64" is 6, 12, 48, 3.

    What cannot be told is not older: a word in a release ("rc1", "cloud", a distribution's own)
    says nothing that holds everywhere.
    """
    return _numbers(release) < _numbers(than)


def _numbers(release: str) -> tuple[int, ...]:
    found = _NUMBERS.match(release)
    return tuple(int(n) for n in re.split(r"[.-]", found[0])) if found else ()
