"""The engine decides as docs/transactions.md says, and every row of its tables was tried."""

from __future__ import annotations

import re
from pathlib import Path
from random import Random
from typing import Any, get_args, get_type_hints

import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

from orchestrator.engine import core
from orchestrator.engine.events import Event, StepInspected
from orchestrator.engine.state import Status
from orchestrator.model.steps import Inspection
from tests.engine.model.exploring import Exploration, random_graph
from tests.support.profile import examples

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/transactions.md").read_text(encoding="utf-8")
# With fewer, rules of the document do not come up.
SEEDS = max(150, examples(150))


def explore(random: Random) -> Exploration:
    exploration = Exploration(random_graph(random), random, random.choice([1, 2, 4]))
    try:
        exploration.carry_out()
    except AssertionError:
        for envelope in exploration.log:
            note(f"{envelope.stamp.boot_id} {envelope.time:.1f} {envelope.event}"[:150])
        raise
    return exploration


@settings(max_examples=examples(100))
@given(random=st.randoms(use_true_random=False))
def test_every_decision_is_the_one_that_the_document_asks_for(random: Any) -> None:
    explore(random)


@pytest.fixture(scope="module")
def seen() -> set[str]:
    """What came up while whole transactions, and then all beginnings of their logs as a new
    process finds them, were compared with the model."""
    found: set[str] = set()
    for seed in range(SEEDS):
        random = Random(seed)
        whole = explore(random)
        found |= whole.seen
        for length in range(1, len(whole.log) + 1):
            again = Exploration(whole.graph, random, whole.parallel)
            again.from_prefix(whole.log[:length])
            found |= again.seen
    return found


def section(title: str) -> str:
    """The text below a heading of the page."""
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def rules_in(text: str) -> set[str]:
    return set(re.findall(r"\b([1-9]\.[1-9])\b", text))


def test_every_row_of_what_resume_does_was_met(seen: set[str]) -> None:
    rows = set(
        re.findall(
            r"^\| ([RS]\d+) \|", section("What `resume` does, by how the log ends"), re.MULTILINE
        )
    )
    assert len(rows) == 16
    assert rows <= seen


def test_every_event_is_in_the_document_and_was_met(seen: set[str]) -> None:
    types = {get_args(get_type_hints(e)["type"])[0] for e in get_args(get_args(Event)[0])}
    assert set(re.findall(r"^\| `(\w+)", section("Events"), re.MULTILINE)) == types
    assert types <= seen


def test_every_verdict_was_met_in_both_directions(seen: set[str]) -> None:
    assert {v.value for v in Inspection} == set(
        re.findall(r"^  \| (\w+) \|", section("The rules"), re.MULTILINE)
    ) - {"verdict"}
    directions = {f"{v.value}, {d}" for v in Inspection for d in ("onward", "reverting")}
    assert get_type_hints(StepInspected)["verdict"] is Inspection
    assert directions - {"lost, reverting"} <= seen


def test_every_state_of_a_step_is_in_the_document() -> None:
    rows = re.findall(r"^\| (`.+) \|", section("The states of a step"), re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`([a-z-]+)`", row.split("|")[0])}
    assert named == {s.value for s in Status}


def test_everything_that_an_operator_can_be_told_was_told(seen: set[str]) -> None:
    rows = re.findall(r"^\| (.+?) \| (\d)", section("What the operator sees"), re.MULTILINE)
    assert len(rows) == 6
    for standing in [row[0].strip("`").split(" ")[0].rstrip(",") for row in rows]:
        assert f"the operator sees {standing}" in seen, standing


def test_every_rule_that_the_model_applies_is_in_the_document_and_was_applied(
    seen: set[str],
) -> None:
    written = set(re.findall(r"^- (\d\.\d) ", section("The rules"), re.MULTILINE))
    sources = [Path(__file__).with_name(n) for n in ("reading.py", "rules.py")]
    applied = {
        rule
        for source in sources
        for rule in re.findall(r'"(\d\.\d)"', source.read_text(encoding="utf-8"))
    }
    assert len(applied) > 25
    assert applied <= written
    assert applied <= seen


@pytest.mark.parametrize("room", ["orchestrator/engine", "tests/engine", "docs"])
def test_whoever_names_a_rule_names_one_that_exists(room: str) -> None:
    written = rules_in(section("The rules"))
    pattern = re.compile(r"\b[Rr]ules? ((?:\d\.\d(?:, | and | to )?)+)")
    for path in [*(ROOT / room).rglob("*.py"), *(ROOT / room).rglob("*.md")]:
        for found in pattern.findall(path.read_text(encoding="utf-8")):
            assert rules_in(found) <= written, path


def test_the_nine_rules_are_the_same_in_all_three_places() -> None:
    titles = re.findall(r"^\*\*Rule (\d)\. (.+?)\*\*$", PAGE, re.MULTILINE)
    assert [number for number, _ in titles] == list("123456789")
    short = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    for number, title in titles:
        assert f"\n{number}. {title}" in str(core.__doc__)
        assert f"\n{number}. **{title}**" in short
