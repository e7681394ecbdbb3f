"""Events: what is written by hand is what would be written by the book, and is read back."""

from __future__ import annotations

import json
from dataclasses import replace
from hashlib import sha256
from typing import Any, get_args, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from orchestrator.engine import events
from orchestrator.model.base import canonical_json
from tests.support.profile import examples

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
number = st.floats(allow_nan=False, allow_infinity=False)
result = st.dictionaries(text, st.one_of(text, number, st.integers(), st.lists(text)), max_size=3)
CLASSES = get_args(get_args(events.Event)[0])


def made(cls: type[Any]) -> st.SearchStrategy[Any]:
    by_type = {str: text, float: number, dict[str, Any]: result}
    hints = get_type_hints(cls)
    return st.builds(cls, **{n: by_type[hints[n]] for n in hints if hints[n] in by_type})


@settings(max_examples=examples(60))
@given(
    event=st.one_of([made(c) for c in CLASSES]),
    stamp=st.builds(events.Stamp, time=number, boot_id=text, release=text),
    seq=st.integers(1, 2**53),
    transaction=text,
)
def test_a_body_is_the_canonical_json_of_its_envelope_and_is_read_back(
    event: Any, stamp: events.Stamp, seq: int, transaction: str
) -> None:
    body = events.body(seq, transaction, stamp, event, "0" * 64)
    digest = sha256(body.encode()).hexdigest()
    envelope = events.Envelope(
        seq=seq, transaction=transaction, stamp=stamp, event=event, prev_hash="0" * 64, hash=digest
    )
    content = envelope.as_dict()
    del content["hash"]
    assert body == canonical_json(content)
    assert events.parse(body, digest) == envelope


@pytest.mark.parametrize(
    ("what", "by"),
    [
        ('"attempt":1', '"attempt":"x"'),
        ('"type":"intended"', '"type":"imagined"'),
        ('"attempt":1', '"attempt":1,"more":1'),
        ('"attempt":1,', ""),
        ('"pid":1', '"pid":null'),
        ('"seq":1', '"seq":1,"seq2":1'),
    ],
)
def test_what_is_read_back_is_held_to_the_types(what: str, by: str) -> None:
    stamp = events.Stamp(time=1.0, boot_id="b", release="r", pid=1)
    body = events.body(1, "t", stamp, events.StepIntended(step="a", attempt=1), "0")
    assert events.parse(body, "h").hash == "h"
    assert what in body
    with pytest.raises(ValidationError):
        events.parse(body.replace(what, by), "h")


@settings(max_examples=examples(60))
@given(result)
def test_canonical_json_is_what_the_standard_library_makes_of_it(value: Any) -> None:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert canonical_json(value) == text


def test_canonical_json_of_a_circle_ends() -> None:
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises(RecursionError):
        canonical_json(circle)


def test_events_cannot_be_changed() -> None:
    event = events.StepIntended(step="a", attempt=1)
    with pytest.raises(AttributeError):
        event.step = "b"  # type: ignore[misc]
    assert replace(event, step="b") != event
