"""A spec's digest is about its meaning."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.loading import load_spec
from orchestrator.model.base import canonical_json, digest
from orchestrator.model.spec import UpgradeSpec

SPEC = """\
api_version: mkupgrade/v1
metadata:
  name: example
instances:
  - name: host
    kernel:
      image: /boot/vmlinuz-7.3.4
      release: 7.3.4
    resources: {memory: 1GiB}
soak:
  duration: 90s
"""


def of(text: str) -> str:
    return load_spec(text).digest()


@pytest.mark.parametrize(
    "same",
    [
        pytest.param("# a comment\n\n" + SPEC + "\n# another\n", id="comments"),
        pytest.param(SPEC.replace("90s", "1m30s"), id="unit-of-a-duration"),
        pytest.param(SPEC.replace("90s", "90000ms"), id="fraction-of-a-duration"),
        pytest.param(SPEC.replace("1GiB", "1024MiB"), id="unit-of-a-size"),
        pytest.param(SPEC.replace("/boot/v", "/boot/./v"), id="spelling-of-a-path"),
        pytest.param(SPEC.replace("/boot/v", "/boot//v"), id="doubled-slash"),
        pytest.param(SPEC.replace("example", '"example"'), id="quotes"),
        pytest.param(SPEC + "workloads: []\n", id="empty-list-written-out"),
        pytest.param(SPEC + "host: {driver: auto}\n", id="default-written-out"),
        pytest.param(SPEC.replace("  duration: 90s", "  interval: 5s\n  duration: 90s"), id="more"),
        pytest.param(SPEC.replace("\n", "\r\n"), id="line-ends"),
    ],
)
def test_spelling_does_not_change_the_digest(same: str) -> None:
    assert of(same) == of(SPEC)


def test_the_order_of_keys_does_not_change_the_digest() -> None:
    head, rest = SPEC.split("instances:", 1)
    instances, soak = rest.split("soak:", 1)

    assert of(f"soak:{soak}instances:{instances}{head}") == of(SPEC)


@pytest.mark.parametrize(
    "other",
    [
        SPEC.replace("example", "other"),
        SPEC.replace("90s", "91s"),
        SPEC.replace("90s", "90.001s"),
        SPEC.replace("1GiB", "1GB"),
        SPEC.replace("release: 7.3.4", "release: 7.3.5"),
        SPEC + "rollback: {automatic: false}\n",
        SPEC + "checks: [{name: a, kind: kernel}]\n",
    ],
)
def test_another_meaning_is_another_digest(other: str) -> None:
    assert of(other) != of(SPEC)


def test_the_order_of_lists_is_part_of_the_meaning() -> None:
    hooks = "hooks: {{before: [{{name: {}, run: [x]}}, {{name: {}, run: [x]}}]}}\n"

    assert of(SPEC + hooks.format("a", "b")) != of(SPEC + hooks.format("b", "a"))


def test_a_spec_survives_json_with_its_digest() -> None:
    spec = load_spec(SPEC)

    again = UpgradeSpec.model_validate_json(spec.model_dump_json())

    assert again == spec
    assert again.digest() == spec.digest()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"b": 1, "a": [True, None]}, '{"a":[true,null],"b":1}'),
        ({"ü": "ß"}, '{"ü":"ß"}'),
        ([], "[]"),
    ],
)
def test_canonical_json_has_one_form(value: Any, text: str) -> None:
    assert canonical_json(value) == text
    assert len(digest(value)) == 64
