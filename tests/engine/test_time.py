"""Steps side by side, interrupts, deadlines and calls that do not come back."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from orchestrator.engine.interrupts import Interrupts
from orchestrator.engine.journal import Journal
from orchestrator.engine.queries import unfinished
from orchestrator.engine.transaction import Engine
from orchestrator.model.errors import (
    ErrorClass,
    LockedError,
    MkupgradeError,
    ToolError,
)
from orchestrator.model.outcomes import ExitCode, Outcome
from orchestrator.model.spec.policy import RetryPolicy
from orchestrator.model.steps import Inspection
from tests.support.transactions import FULL, fails, run, states


def test_steps_run_in_parallel_within_the_limits_of_their_resources(
    engine: Engine, driver: Any, tools: Any
) -> None:
    lock, now, most = threading.Lock(), [0], [0]

    def busy(context: Any) -> None:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.05)
        with lock:
            now[0] -= 1

    ids = [f"s{i}" for i in range(9)]
    driver.on = {("perform", i): busy for i in ids}
    limited = [tools.step(i, resources=["workload"]) for i in ids]
    run(engine, tools.graph(limited, limits={"workload": 3}))
    assert most[0] == 3
    most[0] = 0
    run(engine, tools.graph(limited, intent_digest="b"))
    assert most[0] == 1
    most[0] = 0
    run(engine, tools.graph(ids, intent_digest="c"))
    assert most[0] > 3


def test_first_interrupt_lets_running_steps_end_and_reverts(
    journal: Journal, driver: Any, tools: Any
) -> None:
    interrupts = Interrupts()

    def interrupted(context: Any) -> None:
        interrupts.request()
        end = time.monotonic() + 5
        while not context.control.stopped() and time.monotonic() < end:
            time.sleep(0.005)
        assert context.control.stopped()

    driver.on["perform", "b"] = interrupted
    with Engine(driver, journal, interrupts=interrupts) as engine:
        report = run(engine, tools.graph(["a", "b", "c"], "chain"))
    assert report.outcome is Outcome.ROLLED_BACK
    assert "interrupted" in report.reason
    assert driver.of("perform") == ["a", "b"]
    assert driver.of("revert") == ["b", "a"]


def test_second_interrupt_stops_at_once_and_resume_goes_on(
    journal: Journal, driver: Any, tools: Any
) -> None:
    interrupts, release = Interrupts(), threading.Event()

    def hangs(context: Any) -> None:
        interrupts.request()
        interrupts.request()
        release.wait(5)
        raise ToolError("late")

    driver.on["perform", "b"] = hangs
    engine = Engine(driver, journal, interrupts=interrupts)
    started = time.monotonic()
    report = run(engine, tools.graph(["a", "b", "c"], "chain"))
    assert time.monotonic() - started < 3
    assert (report.outcome, report.exit_code) == (None, ExitCode.INTERRUPTED)
    assert unfinished(journal) == report.transaction
    engine.close()
    release.set()
    del driver.on["perform", "b"]
    engine._lock.release()  # the process would have ended
    with Engine(driver, journal) as engine:
        report = engine.resume(report.transaction)
    assert report.outcome is Outcome.COMMITTED


def test_an_interrupt_while_the_pivot_is_in_flight_waits_for_it(
    journal: Journal, driver: Any, tools: Any
) -> None:
    interrupts = Interrupts()

    def jump(context: Any) -> None:
        interrupts.request()
        time.sleep(0.05)

    driver.on["perform", "jump"] = jump
    with Engine(driver, journal, interrupts=interrupts) as engine:
        report = run(engine, tools.graph(FULL, "chain"))
    assert driver.of("perform")[-4:] == ["return.a", "return.jump", "recover.a", "recover.b"]
    assert report.outcome is Outcome.ROLLED_BACK
    types = [e.event.type for e in journal.log(report.transaction)]
    jumped = [e.event.type == "performed" for e in journal.log(report.transaction)]
    assert types.index("rollback_requested") > [i for i, j in enumerate(jumped) if j][2]


def test_a_pivot_waits_for_everything_that_could_run_before_it(
    engine: Engine, driver: Any, tools: Any
) -> None:
    busy = MkupgradeError("busy", error_class=ErrorClass.BUSY)
    driver.on["perform", "b"] = fails(busy, times=1)
    later = tools.step("b", retry=RetryPolicy(attempts=2, initial="30ms"))
    run(engine, tools.graph(["jump", "a", later]))
    assert driver.of("perform")[-1] == "jump"


def test_a_lost_way_back_is_incomplete_until_somebody_brought_the_old_kernel_up(
    engine: Engine, driver: Any, tools: Any
) -> None:
    driver.on["perform", "c"] = fails()
    driver.on["perform", "return.jump"] = fails()
    driver.on["inspect", "return.jump"] = lambda _: Inspection.LOST
    report = run(engine, tools.graph(FULL, "chain"))
    assert report.outcome is Outcome.ROLLBACK_INCOMPLETE
    assert states(report)["return.jump"] == "lost"
    driver.on["inspect", "return.jump"] = lambda _: Inspection.PRESENT
    report = engine.resume(report.transaction)
    assert report.outcome is Outcome.ROLLED_BACK
    assert driver.of("perform")[-2:] == ["recover.a", "recover.b"]


def test_a_step_learns_of_its_deadline_and_may_fail_by_it(
    engine: Engine, driver: Any, tools: Any
) -> None:
    seen: list[float] = []

    def slow(context: Any) -> None:
        seen.append(context.control.remaining())
        time.sleep(max(0.0, context.control.remaining()))
        raise ToolError("timeout", error_class=ErrorClass.TIMEOUT)

    driver.on["perform", "a"] = slow
    report = run(engine, tools.graph([tools.step("a", deadline=0.1)]))
    assert 0 < seen[0] <= 0.1
    assert report.outcome is Outcome.ROLLED_BACK


def test_a_call_that_does_not_come_back_makes_the_outcome_unknown(
    engine: Engine, driver: Any, tools: Any
) -> None:
    release = threading.Event()
    driver.on["perform", "a"] = lambda _: release.wait(10) and None
    report = run(engine, tools.graph([tools.step("a", deadline=0.1)]))
    assert report.outcome is Outcome.UNKNOWN
    assert "did not end" in report.reason
    release.set()


def test_the_lock_is_kept_while_a_call_that_nobody_waits_for_is_at_work(
    journal: Journal, driver: Any, tools: Any
) -> None:
    """Its effect may yet come: nobody else may start before the process is gone."""
    hangs, comes_back = threading.Event(), threading.Event()

    def hang(context: Any) -> None:
        hangs.wait(5)
        comes_back.set()

    driver.on = {("perform", "a"): hang}
    with Engine(driver, journal, grace=0.05) as engine:
        graph = tools.graph([tools.step("a", deadline=0.05)])
        assert run(engine, graph).outcome is Outcome.UNKNOWN
    with pytest.raises(LockedError), Engine(driver, journal) as other:
        other.resume(graph.name)
    hangs.set()
    assert comes_back.wait(5)


def test_a_pivot_that_does_not_come_back_stays_open_for_the_restart(
    engine: Engine, driver: Any, tools: Any
) -> None:
    release = threading.Event()
    driver.on["perform", "jump"] = lambda _: release.wait(10) and None
    report = run(engine, tools.graph([tools.step("jump", deadline=0.1)]))
    assert (report.outcome, report.exit_code) == (None, ExitCode.INTERRUPTED)
    assert states(report)["jump"] == "intended"
    release.set()


def test_the_deadline_of_the_whole_rolls_back(engine: Engine, driver: Any, tools: Any) -> None:
    def until_stopped(context: Any) -> None:
        end = time.monotonic() + 10
        while not context.control.stopped() and time.monotonic() < end:
            time.sleep(0.01)
        raise ToolError("stopped")

    driver.on["perform", "b"] = until_stopped
    report = run(engine, tools.graph(["a", "b"], "chain", deadline=0.2))
    assert report.outcome is Outcome.ROLLED_BACK
    assert "not committed within" in report.reason
