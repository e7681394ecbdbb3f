"""What can be fuzzed, and the register of it.

To add a reader: write a function `(data, directory)` that gives it the bytes, decorate it with
`target`, and name examples of what it reads. Nothing else has to change: the command, the tests
and atheris go by the register.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

MEMORY = 48 << 20
Run = Callable[[bytes, Path], object]
Seeds = Callable[[], list[bytes]]


@dataclass(frozen=True)
class Target:
    """One reader of hostile bytes."""

    name: str
    run: Run
    seeds: Seeds
    tokens: tuple[bytes, ...]
    """Words of the format, which mutations put in."""
    examples: int
    """Inputs in one run of the fast suite, by what one costs."""
    writes: bool
    """It unpacks into the directory that it is given."""
    runs: bool
    """It hands the bytes to a program of others."""
    seconds: float
    """Of the processor that one input may take for each 64 KiB, memory being watched."""
    memory: int
    """Bytes that one input may take at its peak, on top of what was there before."""


TARGETS: dict[str, Target] = {}


def target(
    name: str,
    seeds: Seeds,
    *,
    tokens: tuple[bytes, ...] = (),
    examples: int = 100,
    writes: bool = False,
    runs: bool = False,
    seconds: float = 1.0,
    memory: int = MEMORY,
) -> Callable[[Run], Run]:
    """Enter a function into the register."""

    def enter(run: Run) -> Run:
        TARGETS[name] = Target(name, run, seeds, tokens, examples, writes, runs, seconds, memory)
        return run

    return enter
