"""What an error carries beyond its lines."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.loading import InvalidSpecError, Problem, load_spec
from orchestrator.loading.problems import SHOWN, Hints, format_path, quoted
from orchestrator.model.errors import ErrorClass, MkupgradeError, SpecError
from orchestrator.model.outcomes import ExitCode
from tests.support.profile import examples


def refused(text: str, filename: str = "plan.yaml") -> InvalidSpecError:
    with pytest.raises(InvalidSpecError) as caught:
        load_spec(text, filename)
    return caught.value


def test_a_problem_is_data_as_well_as_a_line() -> None:
    error = refused("api_version: mkupgrade/v1\nmetadata: {nam: x}\n")

    unknown = next(p for p in error.problems if p.nearest)
    assert unknown == Problem(
        "plan.yaml", 2, 12, "metadata.nam", "unknown key", found=None, nearest="name"
    )
    assert str(unknown) == 'plan.yaml:2:12: metadata.nam: unknown key; did you mean "name"?'
    assert json.loads(json.dumps(error.as_dict()))["problems"][1]["line"] == 2


def test_the_error_belongs_to_the_tree_and_says_what_to_do() -> None:
    error = refused("{}", "my plan.yaml")

    assert isinstance(error, SpecError)
    assert isinstance(error, MkupgradeError)
    assert error.error_class is ErrorClass.INVALID
    assert error.exit_code is ExitCode.ERROR
    assert error.next_command == "mkupgrade validate 'my plan.yaml'"
    assert error.state == "nothing was changed"
    assert str(error) == "my plan.yaml: the spec has 3 problems"


def test_what_is_no_plan_at_all_is_sent_to_the_schema() -> None:
    assert refused("- a\n").next_command == "mkupgrade schema"


def test_problems_come_in_the_order_of_the_file() -> None:
    error = refused("soak: 1\nmetadata: 2\nhost: 3\n")

    places = [(p.line, p.column) for p in error.problems]
    assert places == sorted(places)


def test_very_many_problems_are_counted_rather_than_listed() -> None:
    keys = "\n".join(f"key{i}: 1" for i in range(SHOWN + 50))

    error = refused(keys)

    assert len(error.problems) == SHOWN + 53
    assert len(error.details) == SHOWN + 1
    assert error.details[-1] == "… and 53 more"


def test_control_characters_of_a_plan_never_reach_the_terminal() -> None:
    error = refused('"\\e[31mred": "\\x07"\nsoak: "\\e]0;title\\a"\n')

    for line in error.details:
        assert line.isprintable()


@given(st.text(max_size=80))
@settings(max_examples=examples(50))
def test_quoted_text_is_one_printable_line(text: str) -> None:
    assert quoted(text).isprintable()


def test_paths_are_written_as_people_write_them() -> None:
    assert format_path(()) == ""
    assert format_path(("workloads", 1, "migrate", "method")) == "workloads[1].migrate.method"
    assert format_path(("metadata", "labels", "a b")) == 'metadata.labels["a b"]'


def test_hyphens_and_capitals_do_not_keep_a_word_from_being_near() -> None:
    nearest = Hints().nearest
    assert nearest("boot-Deadline", ["boot_deadline", "deadline"]) == "boot_deadline"
    assert nearest("colour", ["checks", "hooks"]) is None


def test_labels_are_short_text_on_both_sides() -> None:
    error = refused('metadata: {labels: {"": a, b: 1, ' + "k" * 64 + ": c}}\n")

    lines = [str(p) for p in error.problems if p.path.startswith("metadata.labels")]
    assert lines[0].startswith('plan.yaml:1:21: metadata.labels[""]: expected a key')
    assert (
        lines[1]
        == 'plan.yaml:1:31: metadata.labels.b: expected text (write "1"), found the number 1'
    )
    assert "expected a key of 1 to 63 characters" in lines[2]
