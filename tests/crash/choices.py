"""Everything that a schedule leaves to chance, drawn from one stream that can be played again.

Each decision is a number; 0 is always the simplest answer (no fault, the first of several). So a
schedule is its seed, or the list of its decisions, and a list is made simpler by zeroes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any, TypeVar

T = TypeVar("T")


SEEDS_EACH = 4
_MADE: dict[Any, Any] = {}
"""What was shared last, and what was drawn for it."""


class Choices:
    """Decisions from a seed, or those of an earlier run; behind its end all are 0.

    Args:
        seed: of the generator.
        stream: what was drawn before (`drawn`), perhaps made simpler; instead of a seed.
    """

    def __init__(self, seed: int | None = None, stream: Sequence[int] | None = None) -> None:
        self.drawn: list[int] = []
        self._replayed = stream
        self._seed = seed
        self._random = Random(seed if stream is None else 0).random

    def shared(self, make: Callable[[Choices], T]) -> T:
        """What `make` draws, the same for `SEEDS_EACH` seeds in a row, and so made once for them.
        In the stream its decisions stand like all others."""
        if self._replayed is not None or self._seed is None:
            return make(self)
        group = self._seed // SEEDS_EACH
        if (make, group) not in _MADE:
            _MADE.clear()
            other = Choices(group)
            _MADE[make, group] = make(other), other.drawn
        made, drawn = _MADE[make, group]
        self.drawn += drawn
        return made

    def below(self, n: int) -> int:
        """0 ... n-1, each as likely."""
        drawn = int(self._random() * n) if self._replayed is None else self._next(n)
        self.drawn.append(drawn)
        return drawn

    def chance(self, share: float) -> bool:
        """True in that share of all cases; 1 in the stream."""
        drawn = self._random() < share if self._replayed is None else bool(self._next(2))
        self.drawn.append(int(drawn))
        return drawn

    def pick(self, options: Sequence[T]) -> T:
        return options[self.below(len(options))]

    def fault(self, share: float, kinds: Sequence[T]) -> T | None:
        """None, or in that share of all cases one of the kinds; 0 in the stream is None."""
        if self._replayed is None:
            drawn = 1 + int(self._random() * len(kinds)) if self._random() < share else 0
        else:
            drawn = self._next(len(kinds) + 1)
        self.drawn.append(drawn)
        return kinds[drawn - 1] if drawn else None

    def _next(self, n: int) -> int:
        replayed = self._replayed or ()
        at = len(self.drawn)
        return min(replayed[at], n - 1) if at < len(replayed) else 0


def encode(stream: Sequence[int]) -> str:
    """A stream as one word for the command line: "3.0x12.1"."""
    words: list[str] = []
    zeroes = 0
    for number in [*stream, -1]:
        if number == 0:
            zeroes += 1
            continue
        if zeroes:
            words.append("0" if zeroes == 1 else f"0x{zeroes}")
            zeroes = 0
        if number > 0:
            words.append(str(number))
    while words and words[-1].startswith("0"):
        words.pop()
    return ".".join(words) or "0"


def decode(text: str) -> list[int]:
    """The other way round; raises ValueError."""
    stream: list[int] = []
    for word in text.strip().split("."):
        zero, times, number = word.partition("x")
        if times and zero != "0":
            raise ValueError(f"not a stream of decisions: {word!r}")
        stream += [0] * int(number) if times else [int(word)]
    return stream
