"""The manifest is parsed as hostile; what a newer minor version wrote is kept."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.handover.frame import MAX_BODY, SIZE, FrameKind, Header
from orchestrator.handover.manifest import MAX_BYTES, MAX_DEPTH, Manifest
from orchestrator.model.base import canonical_json
from orchestrator.model.errors import HandoverError

VECTORS = Path(__file__).with_name("vectors")


def document(**changes: Any) -> dict[str, Any]:
    whole: dict[str, Any] = {
        "protocol": {"major": 1, "minor": 0},
        "transaction": "t-20260901-ab12cd",
        "plan_digest": "ab" * 32,
        "section": "forward",
        "source": {"release": "7.2.13", "boot_id": "5b7e2c6e-0000-4000-8000-000000000001"},
        "created": "2026-09-01T12:00:00Z",
        "workloads": [
            {
                "name": "counter",
                "method": "criu",
                "payload": {"kind": "directory", "token": 1, "length": 10, "sha256": "cd" * 32},
                "meta": {"pids": [400]},
            },
            {"name": "cron", "method": "restart", "payload": None, "meta": {}},
        ],
        "extra": {},
    }
    return whole | changes


def frame(value: Any, **header: Any) -> bytes:
    body = value if isinstance(value, bytes) else canonical_json(value).encode()
    fields: dict[str, Any] = {
        "kind": FrameKind.MANIFEST,
        "token": 0,
        "length": len(body),
        "sha256": hashlib.sha256(body).hexdigest(),
    }
    return Header(**(fields | header)).pack() + body


def changed(path: str, value: Any) -> dict[str, Any]:
    whole = json.loads(json.dumps(document()))
    *way, last = path.split(".")
    place: Any = whole
    for part in way:
        place = place[int(part)] if part.isdigit() else place[part]
    place[last] = value
    return dict(whole)


def test_what_is_written_is_read_back() -> None:
    manifest = Manifest.decode(frame(document()))
    assert Manifest.decode(manifest.encode()) == manifest
    assert manifest.created == datetime(2026, 9, 1, 12, tzinfo=UTC)
    assert manifest.encode() == frame(document())


def test_unknown_fields_of_a_newer_minor_version_survive_a_round_trip() -> None:
    newer = document(protocol={"major": 1, "minor": 7, "hint": "x"}, mood={"good": [1, 2.5, None]})
    newer["workloads"][0]["payload"]["compressed"] = False
    newer["workloads"][1]["note"] = "kept"
    data = frame(newer, minor=7)
    again = Manifest.decode(data).encode()
    assert json.loads(again[SIZE:]) == newer


def test_an_unknown_major_version_is_refused_by_header_and_by_body() -> None:
    for data in (
        frame(document(), major=2),
        frame(document(protocol={"major": 2, "minor": 0})),
        frame(document(protocol={"major": 2, "minor": 0}, workloads="something else")),
    ):
        with pytest.raises(HandoverError, match=r"protocol 2\.0; this program speaks 1\.0"):
            Manifest.decode(data)


BAD: list[tuple[str, Any]] = [
    ("transaction", "../../etc"),
    ("transaction", "x" * 53),
    ("transaction", ""),
    ("plan_digest", "AB" * 32),
    ("plan_digest", None),
    ("section", "recovered"),
    ("created", "yesterday"),
    ("created", "2026-09-01T12:00:00"),
    ("source.release", ""),
    ("source", {}),
    ("workloads.0.name", "../x"),
    ("workloads.0.name", "cron"),
    ("workloads.0.method", "telepathy"),
    ("workloads.0.payload.token", 0),
    ("workloads.0.payload.token", 2),
    ("workloads.0.payload.token", True),
    ("workloads.0.payload.token", "1"),
    ("workloads.0.payload.length", -1),
    ("workloads.0.payload.length", MAX_BODY + 1),
    ("workloads.0.payload.length", 1.5),
    ("workloads.0.payload.sha256", "zz" * 32),
    ("workloads.0.payload.kind", "program"),
    ("workloads.0.meta", []),
    ("workloads", {"0": {}}),
    ("protocol.minor", -1),
    ("extra", "x"),
]


@pytest.mark.parametrize(("path", "value"), BAD, ids=[f"{p}={v!r:.20}" for p, v in BAD])
def test_invalid_content_is_refused_and_named(path: str, value: Any) -> None:
    with pytest.raises(HandoverError) as caught:
        Manifest.decode(frame(changed(path, value)), "token 0")
    assert caught.value.where == "token 0"
    assert caught.value.details


def test_two_payloads_may_not_share_a_token() -> None:
    whole = document()
    whole["workloads"].append({**whole["workloads"][0], "name": "web"})
    with pytest.raises(HandoverError) as caught:
        Manifest.decode(frame(whole))
    assert "tokens" in caught.value.details[0]


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"", "header of 0 bytes"),
        (bytes(SIZE), "not a handover frame"),
        (frame(document())[:-1], "its header says"),
        (frame(document()) + b"\0", "its header says"),
        (frame(document(), sha256="00" * 32), "damaged"),
        (frame(document(), kind=FrameKind.DIRECTORY), "found a payload"),
        (frame(document(), token=1), "found a payload"),
        (frame(document(), length=MAX_BYTES + 1), "claims"),
        (frame(document(), length=MAX_BODY + 1), "claims"),
        (frame(b"\xff"), "not JSON"),
        (frame(b"[" * 100_000), "not JSON"),
        (frame(b'{"a":NaN}'), "NaN"),
        (frame(b'{"a":1e999}'), "beyond a float"),
        (frame(b'{"a":1,"a":2}'), "twice"),
        (frame(b"[]"), "not a JSON object"),
        (frame(b'{"a":' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"}"), "deeper"),
    ],
)
def test_a_frame_that_is_not_whole_is_refused(data: bytes, match: str) -> None:
    with pytest.raises(HandoverError, match=match):
        Manifest.decode(data)


@given(st.binary(max_size=400))
def test_noise_is_an_error_of_ours(data: bytes) -> None:
    with pytest.raises(HandoverError):
        Manifest.decode(data)


@given(st.integers(0, len(frame(document())) - 1), st.integers(1, 255))
def test_every_flipped_byte_is_noticed(position: int, flip: int) -> None:
    data = bytearray(frame(document()))
    data[position] ^= flip
    minor = 10 <= position < 12
    if minor:
        assert Manifest.decode(bytes(data))  # a newer minor version is fine
    else:
        with pytest.raises(HandoverError):
            Manifest.decode(bytes(data))


_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(st.sampled_from([path for path, _ in BAD]), _json)
def test_any_json_anywhere_is_read_or_refused(path: str, value: Any) -> None:
    try:
        manifest = Manifest.decode(frame(changed(path, value)))
    except HandoverError:
        return
    assert Manifest.decode(manifest.encode()) == manifest


@given(_json)
def test_meta_and_unknown_fields_come_back_as_they_were(value: Any) -> None:
    whole = changed("workloads.0.meta", {"any": value}) | {"later": value}
    again = json.loads(Manifest.decode(frame(whole)).encode()[SIZE:])
    assert again == json.loads(canonical_json(whole))


@pytest.mark.parametrize("value", [float("inf"), float("nan"), "\ud800"])
def test_what_json_cannot_hold_is_not_written(value: object) -> None:
    with pytest.raises(HandoverError, match="cannot be written"):
        Manifest.model_validate(document()).model_copy(update={"extra": {"x": value}}).encode()


def test_a_manifest_that_would_be_too_long_is_not_written() -> None:
    manifest = Manifest.model_validate(document(extra={"log": "x" * MAX_BYTES}))
    with pytest.raises(HandoverError, match="would have"):
        manifest.encode()


def test_an_unknown_workload_is_named() -> None:
    with pytest.raises(HandoverError, match='no workload "db"'):
        Manifest.model_validate(document()).workload("db")
