"""Rounds of checks: before, after, soak. Time is the test's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.checks import Checker, CheckResult, soak
from orchestrator.model.errors import CheckFailedError, DeadlineError
from orchestrator.model.seams import Control
from orchestrator.model.spec.checks import Check, FileCheck


def file_check(path: Path, **more: Any) -> FileCheck:
    data = {"name": path.name, "kind": "file", "path": str(path), **more}
    return FileCheck.model_validate(data)


@pytest.fixture
def appears_at(fake_time: Any, tmp_path: Path) -> Callable[[str, float], Path]:
    """A file that is there once the fake time has come."""
    plan: dict[Path, float] = {}
    sleep = fake_time.sleep

    def sleeping(seconds: float) -> None:
        sleep(seconds)
        for path, moment in plan.items():
            if fake_time.now >= moment and not path.exists():
                path.touch()

    fake_time.sleep = sleeping

    def at(name: str, seconds: float) -> Path:
        plan[tmp_path / name] = fake_time.now + seconds
        return tmp_path / name

    return at


# before


def test_before_every_check_gets_one_try(checker: Checker, control: Any, tmp_path: Path) -> None:
    there, missing = tmp_path / "there", tmp_path / "missing"
    there.touch()

    with pytest.raises(CheckFailedError) as caught:
        checker.require([file_check(there), file_check(missing)], control)

    assert caught.value.what == "1 of 2 checks failed"
    assert caught.value.where == "missing"
    assert caught.value.details == ("missing: no such file or directory",)
    assert caught.value.next_command == f"ls -l -- {missing}"


def test_results_come_in_the_order_of_the_checks(
    checker: Checker, control: Any, tmp_path: Path
) -> None:
    names = [f"c{number}" for number in range(20)]
    for name in names:
        (tmp_path / name).touch()

    results = checker.require([file_check(tmp_path / name) for name in names], control)

    assert [r.name for r in results] == names


def test_no_checks_hold(checker: Checker, control: Any) -> None:
    assert checker.require([], control) == []
    assert checker.require_within([], control) == []


# after


def test_after_a_check_is_tried_until_it_holds(
    checker: Checker, control: Any, fake_time: Any, appears_at: Any
) -> None:
    check = file_check(appears_at("slow", 5.5), within="30s", interval="1s")
    began = fake_time.now

    results = checker.require_within([check], control)

    assert results[0].ok
    assert 5.5 <= fake_time.now - began <= 6.7
    assert control.said[0] == "slow: no such file or directory (try 1)"


def test_after_its_time_a_check_has_failed_with_what_it_saw_last(
    checker: Checker, control: Any, fake_time: Any, tmp_path: Path
) -> None:
    check = file_check(tmp_path / "never", within="10s", interval="3s")
    began = fake_time.now

    with pytest.raises(CheckFailedError, match="1 of 1 checks failed") as caught:
        checker.require_within([check], control)

    assert caught.value.details == ("never: no such file or directory",)
    assert fake_time.now - began == pytest.approx(10)


def test_the_last_try_is_at_the_very_end(checker: Checker, control: Any, appears_at: Any) -> None:
    check = file_check(appears_at("late", 9.5), within="10s", interval="7s")

    assert checker.require_within([check], control)[0].ok


def test_an_interval_of_nothing_is_no_busy_loop(
    checker: Checker, control: Any, fake_time: Any, tmp_path: Path
) -> None:
    with pytest.raises(CheckFailedError):
        checker.require_within([file_check(tmp_path / "x", within="1s", interval="0s")], control)

    assert len(fake_time.slept) <= 21


def test_checks_share_the_time_instead_of_adding_it_up(control: Any, tmp_path: Path) -> None:
    checks = [file_check(tmp_path / f"never{n}", within="300ms", interval="50ms") for n in range(6)]

    with pytest.raises(CheckFailedError) as caught:
        began = Checker().clock.now()
        Checker().require_within(checks, control)

    assert Checker().clock.now() - began < 1.5
    assert len(caught.value.details) == 6


def test_a_stop_is_heard_between_tries(checker: Checker, control: Any, tmp_path: Path) -> None:
    control.stop = True

    with pytest.raises(CheckFailedError, match="stopped on request"):
        checker.require_within([file_check(tmp_path / "never")], control)


def test_the_deadline_of_the_step_is_kept(
    checker: Checker, control: Any, fake_time: Any, tmp_path: Path
) -> None:
    end = fake_time.now + 4
    control.remaining = lambda: end - fake_time.now

    with pytest.raises(DeadlineError):
        checker.require_within([file_check(tmp_path / "never", within="1h")], control)

    assert fake_time.now - end < 1


# soak


class Scripted(Checker):
    """A checker whose rounds are given."""

    def __init__(self, checker: Checker, rounds: list[bool]) -> None:
        object.__setattr__(self, "clock", checker.clock)
        object.__setattr__(self, "rounds", rounds)

    def run(self, check: Check, control: Control) -> CheckResult:
        rounds: list[bool] = self.__dict__["rounds"]
        ok = rounds.pop(0) if rounds else True
        return CheckResult(check.name, ok, "well" if ok else "unwell", 0.0)


@pytest.fixture
def scripted(checker: Checker) -> Callable[..., Scripted]:
    return lambda *rounds: Scripted(checker, list(rounds))


ONE = file_check(Path("/it"))


def test_a_soak_holds_over_its_whole_time_and_at_its_end(
    scripted: Any, control: Any, fake_time: Any
) -> None:
    began = fake_time.now

    report = soak(scripted(), [ONE], control, duration=12, interval=5, max_failures=0)

    assert report.rounds == 4  # at 0, 5, 10 and 12 s
    assert fake_time.now - began == pytest.approx(12)
    assert control.said[-1] == "4 rounds"


def test_one_failure_ends_a_soak_that_forgives_none(
    scripted: Any, control: Any, fake_time: Any
) -> None:
    began = fake_time.now

    with pytest.raises(CheckFailedError) as caught:
        soak(scripted(True, True, False), [ONE], control, duration=60, interval=5, max_failures=0)

    assert caught.value.what == "the soak failed: 1 failures, 0 allowed"
    assert caught.value.details == ("it: unwell",)
    assert fake_time.now - began == pytest.approx(10)


def test_forgiven_failures_are_reported(scripted: Any, control: Any) -> None:
    report = soak(
        scripted(False, True, False), [ONE], control, duration=20, interval=5, max_failures=2
    )

    assert [f.detail for f in report.failures] == ["unwell", "unwell"]
    assert report.as_dict()["failures"][0]["name"] == "it"


def test_a_soak_of_no_time_is_one_round(scripted: Any, control: Any) -> None:
    assert soak(scripted(), [ONE], control, duration=0, interval=5, max_failures=0).rounds == 1


def test_a_soak_without_checks_waits_all_the_same(
    scripted: Any, control: Any, fake_time: Any
) -> None:
    began = fake_time.now

    soak(scripted(), [], control, duration=7, interval=5, max_failures=0)

    assert fake_time.now - began == pytest.approx(7)


def test_a_soak_hears_of_a_stop(scripted: Any, control: Any) -> None:
    control.stop = True

    with pytest.raises(CheckFailedError, match="stopped on request"):
        soak(scripted(), [ONE], control, duration=60, interval=5, max_failures=0)


def test_progress_of_a_soak_goes_from_nothing_to_all(scripted: Any, control: Any) -> None:
    heard: list[float] = []

    soak(
        scripted(),
        [ONE],
        control,
        duration=20,
        interval=5,
        max_failures=0,
        on_progress=lambda text, fraction: heard.append(fraction),
    )

    assert heard == sorted(heard)
    assert heard[0] == 0.0
    assert heard[-1] == 1.0
