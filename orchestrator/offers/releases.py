"""Which of two kernel releases is older, as far as their numbers say, and what kind one is of."""

from __future__ import annotations

import re

_NUMBERS = re.compile(r"\d+(?:[.-]\d+)*")
_ITS_OWN = re.compile(r"[+.~_][^-]*")
"""What a distribution puts behind the numbers: "+deb13", ".fc42.x86_64"."""


def is_older(release: str, than: str) -> bool:
    """By the numbers that both begin with: "6.12.48-3-amd64" is 6, 12, 48, 3.

    What cannot be told is not older: a word in a release ("rc1", "cloud", a distribution's own)
    says nothing that holds everywhere.
    """
    return numbers_of(release) < numbers_of(than)


def numbers_of(release: str) -> tuple[int, ...]:
    """Those that a release begins with; none: it begins with something else."""
    found = _NUMBERS.match(release)
    return tuple(int(n) for n in re.split(r"[.-]", found[0])) if found else ()


def kind_of(release: str) -> str:
    """What kernels that follow each other have in common: "6.12.48+deb13-cloud-amd64" is of the
    kind "-cloud-amd64", and so is "6.12.48-3-cloud-amd64"; Ubuntu's "-generic" is another one."""
    found = _NUMBERS.match(release)
    rest = release[found.end() :] if found else release
    own = _ITS_OWN.match(rest)
    return rest[own.end() :] if own else rest
