"""What holds for every text and for every spec."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.loading import InvalidSpecError, load_spec
from orchestrator.model.errors import MkupgradeError
from orchestrator.model.spec import UpgradeSpec
from tests.support.profile import examples

RELAXED = settings(
    max_examples=examples(60),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
SHORTEST = (
    "api_version: mkupgrade/v1\nmetadata: {name: a}\n"
    "instances: [{name: a, kernel: {image: /a, release: a}}]\n"
)
PIECES = (
    *"[]{},:?-&*!|>%@`'\"#\\~<=/.0159aex\t\n \r\0\x85\u2028\ufeff\ud800",
    *("  ", "\n  ", "\n- ", "---\n", "...\n", "%YAML 1.2\n", "&a ", "*a", "<<: ", "!!str ", "? "),
    *("null", "true", "no", "0x1f", "0o17", "1e400", ".inf", ".nan", "1_000", '"\\u0000"'),
    *("api_version: ", "mkupgrade/v1", "metadata: ", "name: ", "workloads: ", "checks: ", "kind: "),
    *("method: ", "criu", "find: ", "after: ", "labels: ", "hooks: ", "instances: ", "kernel: "),
    SHORTEST,
)


def load_or_refuse(text: str) -> None:
    began = time.thread_time()
    with contextlib.suppress(MkupgradeError):
        load_spec(text)
    assert time.thread_time() - began < 5


@given(st.lists(st.sampled_from(PIECES), max_size=40).map("".join))
@RELAXED
def test_no_yaml_like_text_leaves_the_error_tree(text: str) -> None:
    load_or_refuse(text)


@given(st.text(max_size=200))
@RELAXED
def test_no_text_leaves_the_error_tree(text: str) -> None:
    load_or_refuse(text)


@given(st.binary(max_size=200))
@RELAXED
def test_no_bytes_leave_the_error_tree(data: bytes) -> None:
    load_or_refuse(data.decode("latin-1"))


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.sampled_from(PIECES), inner, max_size=4)
    ),
    max_leaves=12,
)


def paths_of(value: Any, prefix: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [prefix] if prefix else []
    if isinstance(value, dict):
        for key, inner in value.items():
            found += paths_of(inner, (*prefix, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            found += paths_of(inner, (*prefix, index))
    return found


class Quoting(yaml.SafeDumper):
    """Text in quotes: PyYAML leaves them out where YAML 1.1 reads text, and 1.2 a number (1e5)."""


def quoted_text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"')


Quoting.add_representer(str, quoted_text)


def dumped(data: Any) -> str:
    return str(yaml.dump(data, Dumper=Quoting, default_flow_style=False, allow_unicode=False))


@given(data=st.data())
@RELAXED
def test_a_valid_spec_with_one_value_replaced_loads_or_is_refused_at_a_place(
    data: st.DataObject, valid_specs: st.SearchStrategy[dict[str, Any]]
) -> None:
    spec = data.draw(valid_specs)
    *parents, last = data.draw(st.sampled_from(paths_of(spec)))
    target: Any = spec
    for part in parents:
        target = target[part]
    target[last] = data.draw(json_values)

    text = dumped(spec)
    try:
        load_spec(text)
    except InvalidSpecError as error:
        lines = text.split("\n")
        for problem in error.problems:
            assert 1 <= problem.line <= len(lines)
            assert problem.column >= 1


@given(data=st.data())
@RELAXED
def test_a_valid_spec_written_as_yaml_loads_back_equal(
    data: st.DataObject, valid_specs: st.SearchStrategy[dict[str, Any]]
) -> None:
    spec = load_spec(dumped(data.draw(valid_specs)))

    again = load_spec(dumped(spec.model_dump(mode="json")))

    assert again == spec
    assert again.digest() == spec.digest()
    assert UpgradeSpec.model_validate(spec.model_dump(mode="json")) == spec


@pytest.mark.parametrize(
    "text", ["no", "on", "1:30", "0b11", "1_000", "y", "2024-01-01", "=", "<<"]
)
def test_what_only_yaml_11_gives_a_meaning_is_text(text: str) -> None:
    spec = load_spec(SHORTEST + f"hooks: {{before: [{{name: a, run: [{text}]}}]}}\n")

    assert spec.hooks.before[0].run == [text]


def test_a_quoted_merge_key_is_an_ordinary_key() -> None:
    spec = load_spec(SHORTEST.replace("{name: a}", '{name: a, labels: {"<<": x}}', 1))

    assert spec.metadata.labels == {"<<": "x"}


@pytest.mark.parametrize("character", ["\x85", "\u2028", "\u2029"])
def test_line_ends_of_yaml_11_only_are_refused_rather_than_changed(character: str) -> None:
    text = SHORTEST.replace("{name: a}", f"{{name: a, description: 'b{character}c'}}", 1)

    with pytest.raises(InvalidSpecError) as caught:
        load_spec(text)
    assert caught.value.details == (
        f"plan.yaml:2:36: expected text, found the control character U+{ord(character):04X}",
    )
    escaped = text.replace(f"'b{character}c'", f'"b\\u{ord(character):04x}c"')
    assert load_spec(escaped).metadata.description == f"b{character}c"
