"""The landing table, exhaustively: four boot facts, four marks, three releases, two methods."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.model.landing import (
    MARK,
    Expected,
    Place,
    landing,
    mark_for,
    marks,
    without_marks,
)
from orchestrator.model.steps import Inspection, Section

OLD, NEW, THIRD = "7.2.13", "7.3.4", "6.12.1"
OURS = mark_for("t1", Section.FORWARD)
MARKS = {
    "ours": OURS,
    "other section": mark_for("t1", Section.RETURN),
    "other transaction": mark_for("t2", Section.FORWARD),
    "two": f"{OURS} {mark_for('t2', Section.FORWARD)}",
    "none": "",
}


def judge(method: str, boot_id: str | None, mark: str, release: str, to: str = NEW) -> Inspection:
    expected = Expected("t1", Section.FORWARD, method, OLD, to, boot_id)  # type: ignore[arg-type]
    place = Place("now", release, f"root=/dev/vda {MARKS[mark]} quiet")
    found = landing(expected, place)
    assert found.reason
    return found.verdict


@pytest.mark.parametrize(
    ("method", "boot_id", "mark", "release"),
    list(itertools.product(["kexec", "reset"], [None, "now", "then"], MARKS, [OLD, NEW, THIRD])),
)
def test_every_landing_is_judged_by_boot_id_then_mark_then_release(
    method: str, boot_id: str | None, mark: str, release: str
) -> None:
    verdict = judge(method, boot_id, mark, release)
    if boot_id in (None, "now"):
        assert verdict is Inspection.ABSENT
    elif (method, mark, release) in {("kexec", "ours", NEW), ("reset", "none", NEW)}:
        assert verdict is Inspection.PRESENT
    elif (mark, release) == ("none", OLD):
        assert verdict is Inspection.LOST
    else:
        assert verdict is Inspection.UNKNOWN


def test_jump_to_the_same_release_is_told_from_a_reset_by_the_mark_alone() -> None:
    assert judge("kexec", "then", "ours", OLD, to=OLD) is Inspection.PRESENT
    assert judge("kexec", "then", "none", OLD, to=OLD) is Inspection.LOST


@pytest.mark.parametrize(
    ("before", "after", "here", "verdict"),
    [
        ("ro quiet", "ro quiet new=1", "BOOT_IMAGE=/a ro quiet", Inspection.LOST),
        ("ro quiet", "ro quiet new=1", "BOOT_IMAGE=/a ro new=1 quiet", Inspection.UNKNOWN),
        ("ro old=1", "ro", "ro old=1", Inspection.LOST),
        ("ro old=1", "ro", "ro", Inspection.UNKNOWN),
        ("init=/old", "init=/new", "init=/old", Inspection.LOST),
        ("init=/old", "init=/new", "init=/new", Inspection.UNKNOWN),
        ("init=/old", "init=/new", "init=/third", Inspection.UNKNOWN),
        ("ro", "ro", "ro", Inspection.UNKNOWN),
    ],
)
def test_two_kernels_of_one_release_are_told_apart_behind_a_commit_by_their_command_lines(
    before: str, after: str, here: str, verdict: Inspection
) -> None:
    expected = Expected(
        "t1", Section.FORWARD, "kexec", OLD, OLD, "then", before, after, lambda: True
    )
    found = landing(expected, Place("now", OLD, here))
    assert found.verdict is verdict
    if verdict is Inspection.UNKNOWN:
        assert "Boot the kernel before" in found.reason


def test_the_operator_is_told_which_of_two_kernels_of_one_release_to_boot() -> None:
    expected = Expected(
        *("t1", Section.FORWARD, "kexec", OLD, OLD, "then"),
        *("ro init=/old", "ro init=/new", lambda: True),
    )
    found = landing(expected, Place("now", OLD, "init=/new"))
    assert "Boot the kernel before (with init=/old, without init=/new)" in found.reason


def test_until_the_commit_a_reset_ends_in_the_kernel_before_whatever_its_command_line_is_now() -> (
    None
):
    expected = Expected("t1", Section.FORWARD, "kexec", OLD, OLD, "then", "ro", "ro new=1")
    assert landing(expected, Place("now", OLD, "ro new=1")).verdict is Inspection.LOST


@pytest.mark.parametrize(
    ("boot_id", "mark", "to"), [("now", "", OLD), ("then", OURS, OLD), ("then", "", NEW)]
)
def test_the_boot_loader_is_not_asked_where_the_landing_is_known_without_it(
    boot_id: str, mark: str, to: str
) -> None:
    def asked() -> bool:
        raise AssertionError("the boot loader was asked")

    expected = Expected("t1", Section.FORWARD, "kexec", OLD, to, boot_id, "ro", "rw", asked)
    assert landing(expected, Place("now", OLD, mark)).verdict is not Inspection.UNKNOWN


def test_present_carries_the_result_that_perform_could_not_return() -> None:
    expected = Expected("t1", Section.FORWARD, "kexec", OLD, NEW, "then")
    found = landing(expected, Place("now", NEW, OURS))
    assert found.result == {"boot_id": "now", "release": NEW, "method": "kexec"}


def test_unknown_landing_tells_the_operator_what_to_do() -> None:
    expected = Expected("t1", Section.FORWARD, "kexec", OLD, NEW, "then")
    found = landing(expected, Place("now", THIRD, ""))
    assert found.verdict is Inspection.UNKNOWN
    assert "mkupgrade resume" in found.reason


@given(st.lists(st.sampled_from(["quiet", "ro", f"{MARK}a/forward", f"{MARK}b/return"])))
def test_no_mark_survives_being_removed_and_nothing_else_goes(words: list[str]) -> None:
    cleaned = without_marks(" ".join(words))
    assert marks(cleaned) == []
    assert cleaned.split() == [w for w in words if not w.startswith(MARK)]
