"""Inputs that are nearly right: a valid example, and a few edits to it."""

from __future__ import annotations

import random
from dataclasses import dataclass

from hypothesis import strategies as st

from tests.fuzz.target import Target

BOUNDARIES = (
    b"\0", b"\xff", b"\x7f", b"\x80", b"\xff\xff\xff\xff", b"\xff" * 8, b"\0" * 16, b"\xed\xa0\x80",
    b"-1", b"0", b"1e999", b"NaN", b"9" * 25, b"18446744073709551616", b"[" * 300, b'{"a":' * 200,
    b"null", b"true", b'""', b"\\ud800", b"\\u0000", b"\x1b[31m", b"../" * 20, b"/etc/passwd",
    b"A" * 5000, b"\n", b" ", b'"', b"'", b"{", b"}", b"[", b"]", b",", b":",
)  # fmt: skip
LONGEST = 4 << 20


@dataclass(frozen=True)
class Edit:
    """Replace a stretch."""

    at: float
    """Where, as a fraction of the whole."""
    drop: int
    """Bytes taken away there."""
    put: bytes
    times: int = 1


def edited(data: bytes, edits: list[Edit]) -> bytes:
    """The data with the edits made, one after the other."""
    for edit in edits:
        at = min(int(edit.at * len(data)), len(data))
        data = (data[:at] + edit.put * edit.times + data[at + edit.drop :])[:LONGEST]
    return data


def strategy(target: Target) -> st.SearchStrategy[bytes]:
    """Valid examples with up to five edits, and bytes out of nowhere."""
    words = st.sampled_from((*BOUNDARIES, *target.tokens))
    edits = st.builds(
        Edit,
        at=st.floats(0, 1, exclude_max=True),
        drop=st.sampled_from((0, 0, 1, 1, 2, 4, 8, 60, 1000, LONGEST)),
        put=st.one_of(words, st.binary(max_size=12)),
        times=st.sampled_from((1, 1, 1, 2, 40)),
    )
    near = st.builds(edited, st.sampled_from(target.seeds()), st.lists(edits, max_size=5))
    return st.one_of(near, near, near, st.binary(max_size=200))


def mutated(target: Target, seeds: list[bytes], chance: random.Random) -> bytes:
    """The same without hypothesis, for long runs."""
    words = (*BOUNDARIES, *target.tokens)
    data = chance.choice(seeds)
    for _ in range(chance.choice((1, 1, 1, 2, 3, 5, 8))):
        if chance.random() < 0.15:
            data = spliced(data, chance.choice(seeds), chance)
            continue
        put = (
            chance.choice(words)
            if chance.random() < 0.5
            else chance.randbytes(chance.choice((0, 1, 1, 2, 4, 8)))
        )
        edit = Edit(
            chance.random(), chance.choice((0, 1, 1, 2, 4, 8, 60, 1000)), put,
            chance.choice((1, 1, 1, 1, 2, 40)),
        )  # fmt: skip
        data = edited(data, [edit])
    return data


def spliced(one: bytes, other: bytes, chance: random.Random) -> bytes:
    """The beginning of one and the end of the other."""
    return one[: chance.randrange(len(one) + 1)] + other[chance.randrange(len(other) + 1) :]
