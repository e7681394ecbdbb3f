"""Plans as files: what was saved is read, and nothing else is."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator import planning
from orchestrator.model.base import digest
from orchestrator.model.errors import PlanError
from orchestrator.planning import files
from tests.support.profile import examples


@pytest.fixture
def text(make_spec, make_host) -> str:
    spec = make_spec()
    return planning.save(planning.plan(spec, make_host(spec)))


def refused(text, source="plan.json") -> str:
    with pytest.raises(PlanError) as caught:
        planning.load(text, source)
    return "\n".join([str(caught.value), *caught.value.details])


def resealed(body) -> str:
    """With a right digest: what somebody would write who knows the format."""
    body = {k: v for k, v in body.items() if k != "digest"}
    return json.dumps({"digest": digest(body), **body})


def test_what_was_saved_is_read_back(text):
    graph = planning.load(text)
    assert planning.save(graph) == text
    assert json.loads(text)["digest"] == graph.digest()


def test_bytes_are_read_like_text(text):
    assert planning.load(text.encode()) == planning.load(text)


def test_an_empty_plan_is_read_back(make_spec, make_host):
    spec = make_spec()
    graph = planning.plan(spec, make_host(spec, kernel__release="7.3.4"))
    assert planning.load(planning.save(graph)) == graph


def test_an_edited_plan_is_refused(text):
    said = refused(text.replace("/boot/vmlinuz-7.3.4", "/tmp/evil", 1))
    assert said.startswith(
        "plan.json: the plan cannot be used: its content does not fit its digest"
    )


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            '"image": "/boot/vmlinuz-7.3.4"',
            '"image": "/tmp/evil"',
            'steps[0].params.image: "/tmp/evil", planned was "/boot/vmlinuz-7.3.4"',
        ),
        ('"automatic_rollback": true', '"automatic_rollback": false', "automatic_rollback: false"),
        ('"hostname": "guest"', '"hostname": "other"', "host: it is not the one"),
        ('"max_failures": 0', '"max_failures": 99', "params.max_failures: 99, planned was 0"),
    ],
)
def test_an_edited_plan_is_refused_with_the_place(text, old, new, said):
    assert old in text
    assert said in refused(text.replace(old, new, 1))


@pytest.mark.slow
def test_no_flipped_bit_goes_unseen(text):
    """Every 97th byte, each time another bit; white space may change, the plan may not."""
    data = text.encode()
    for at in range(0, len(data), 97):
        flipped = data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :]
        try:
            graph = planning.load(flipped)
        except PlanError:
            continue
        assert planning.save(graph) == text, at


def test_a_truncated_plan_is_refused_with_the_place(text):
    for length in (0, 1, 100, len(text) // 2, len(text) - 3):
        assert refused(text[:length]).startswith("plan.json:"), length


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("[]", "not a plan"),
        ("{}", "not a plan"),
        ('{"format": "mkupgrade-plan/v9"}', "format 'mkupgrade-plan/v9'"),
        ('{"format": "mkupgrade-plan/v1"}', 'no "digest"'),
        ('{"a": 1, "a": 2}', 'the key "a" occurs twice'),
        ('{"a": NaN}', "NaN is no number"),
        ("[" * 100_000, "nested deeper"),
        ('{"a":' * 30 + "1" + "}" * 30, "nested deeper"),
        ('{"a": ' + "9" * 5000 + "}", "not JSON"),
        ("api_version: mkupgrade/v1", "not JSON"),
        (b"\xff\xfe", "not"),
    ],
)
def test_what_is_no_plan_is_refused_in_words(content, why):
    assert why in refused(content)


def test_a_plan_that_is_too_large_is_not_even_parsed(monkeypatch):
    monkeypatch.setattr(files, "SIZE_LIMIT", 100)
    assert "no plan is larger" in refused(" " * 101)


def test_unknown_keys_and_wrong_types_are_named(text):
    body = json.loads(text)
    body["steps"][2]["deadline"] = "soon"
    body["surprise"] = 1
    said = refused(json.dumps(body))
    assert "steps[2].deadline: " in said
    assert "surprise: " in said


def test_a_lone_surrogate_is_refused_and_not_a_traceback(text):
    body = json.loads(text)
    body["name"] = "\ud800"
    assert "plan.json: " in refused(json.dumps(body))


def test_a_well_sealed_plan_is_held_to_the_rules_of_one_that_was_made(text):
    body = json.loads(text)
    body["steps"] = [s for s in body["steps"] if s["section"] != "recover"]
    ids = {s["id"] for s in body["steps"]}
    body["edges"] = [e for e in body["edges"] if set(e) <= ids]
    assert "a pivot needs a way back: section recover is empty" in refused(resealed(body))


def test_the_spec_in_a_plan_is_the_one_that_it_was_made_from(text):
    body = json.loads(text)
    body["spec"]["metadata"]["name"] = "other"
    assert "the spec in it is not the one" in refused(resealed(body))


@settings(
    max_examples=examples(150),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.data())
def test_no_damage_is_a_traceback_or_goes_unseen(text, data):
    at = data.draw(st.integers(0, len(text) - 1))
    length = data.draw(st.integers(0, 40))
    new = data.draw(st.text(max_size=8))
    damaged = text[:at] + new + text[at + length :]
    try:
        graph = planning.load(damaged)
    except PlanError:
        return
    assert planning.save(graph) == text, "only white space may differ"
