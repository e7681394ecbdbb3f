"""Every file in bad/ begins with the problems it must be refused with, one per line:

# expect: LINE:COLUMN: PATH: what was expected, what was found; nearest known word
"""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.loading import InvalidSpecError, load_spec_file

BAD = sorted((Path(__file__).parent / "bad").glob("*.yaml"))
MARK = "# expect: "


def test_there_are_many_bad_specs() -> None:
    assert len(BAD) >= 40


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_a_bad_spec_is_refused_with_every_problem_at_its_place(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    expected = [f"{path}:{line[len(MARK) :]}" for line in lines if line.startswith(MARK)]
    assert expected, "the file does not say what is expected"

    with pytest.raises(InvalidSpecError) as caught:
        load_spec_file(path)

    assert list(caught.value.details) == expected
    assert caught.value.where == str(path)
    assert str(caught.value.next_command).startswith("mkupgrade ")


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_no_message_speaks_the_language_of_the_library(path: Path) -> None:
    with pytest.raises(InvalidSpecError) as caught:
        load_spec_file(path)

    for problem in caught.value.problems:
        text = problem.message.lower()
        for word in ("input should", "pydantic", "dictionary", "value error", "string", "extra"):
            assert word not in text
