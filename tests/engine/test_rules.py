"""The eight rules, one by one, with a driver whose effects are entries of a dict."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from orchestrator.engine.journal import Journal
from orchestrator.engine.queries import history, report_of, rolled_back_before, unfinished
from orchestrator.engine.report import TransactionReport, blackout_of
from orchestrator.engine.transaction import Engine
from orchestrator.model.errors import (
    ErrorClass,
    MkupgradeError,
    PlanError,
    ToolError,
)
from orchestrator.model.outcomes import ExitCode, Outcome
from orchestrator.model.spec.policy import RetryPolicy
from orchestrator.model.steps import Inspection
from tests.support.transactions import FULL, fails, run, states


def test_all_steps_in_the_order_of_the_graph_then_committed(
    engine: Engine, driver: Any, tools: Any
) -> None:
    report = run(engine, tools.graph(FULL, "chain"))
    assert driver.of("perform") == ["a", "b", "jump", "c", "commit", "d"]
    assert (report.outcome, report.exit_code) == (Outcome.COMMITTED, ExitCode.DONE)
    assert report.next_command is None


def test_failure_before_the_pivot_reverts_in_reverse_order(
    engine: Engine, driver: Any, tools: Any
) -> None:
    driver.on["perform", "c"] = fails()
    report = run(engine, tools.graph(["a", "b", "c", "jump"], "chain"))
    assert driver.of("revert") == ["b", "a"]
    assert driver.effects == {}
    assert (report.outcome, report.exit_code) == (Outcome.ROLLED_BACK, ExitCode.ROLLED_BACK)
    assert report.reason == "c: it does not hold"
    assert states(report)["c"] == "given-up"


def test_a_failed_attempt_whose_effect_is_there_counts_as_performed(
    engine: Engine, driver: Any, tools: Any
) -> None:
    def late(context: Any) -> None:
        driver.effects["a"] = Inspection.PRESENT
        raise ToolError("it was killed, but had done its work")

    driver.on["perform", "a"] = late
    report = run(engine, tools.graph(["a", "b"], "chain"))
    assert report.outcome is Outcome.COMMITTED
    assert driver.of("perform") == ["a", "b"]


def test_a_partial_effect_is_reverted_before_the_next_attempt(
    engine: Engine, driver: Any, tools: Any
) -> None:
    def half(context: Any) -> None:
        if context.attempt == 1:
            driver.effects["a"] = Inspection.PARTIAL
            raise ToolError("busy", error_class=ErrorClass.BUSY)

    driver.on["perform", "a"] = half
    step = tools.step("a", retry=RetryPolicy(attempts=2, initial="1ms"))
    report = run(engine, tools.graph([step]))
    assert driver.calls == [
        ("perform", "a"), ("inspect", "a"), ("revert", "a"), ("perform", "a"),
    ]  # fmt: skip
    assert report.outcome is Outcome.COMMITTED


def test_unknown_effect_stops_the_transaction_and_may_be_looked_at_again(
    engine: Engine, driver: Any, tools: Any
) -> None:
    driver.on["perform", "b"] = fails(times=1)
    driver.on["inspect", "b"] = lambda _: Inspection.UNKNOWN
    report = run(engine, tools.graph(["a", "b", "c"], "chain"))
    assert (report.outcome, report.exit_code) == (Outcome.UNKNOWN, ExitCode.UNKNOWN)
    assert driver.of("revert") == []
    assert report.next_command == f"mkupgrade resume {report.transaction}"
    del driver.on["inspect", "b"]
    report = engine.resume(report.transaction)
    assert report.outcome is Outcome.ROLLED_BACK


def test_an_inspection_that_fails_is_an_unknown_effect(
    engine: Engine, driver: Any, tools: Any
) -> None:
    driver.on["perform", "a"] = fails()
    driver.on["inspect", "a"] = fails(OSError("no such device"))
    report = run(engine, tools.graph(["a"]))
    assert report.outcome is Outcome.UNKNOWN
    assert "no such device" in report.reason


def test_retries_follow_the_policy_and_the_class_of_the_error(
    engine: Engine, driver: Any, tools: Any
) -> None:
    busy = MkupgradeError("busy", error_class=ErrorClass.BUSY)
    driver.on["perform", "a"] = fails(busy, times=2)
    policy = RetryPolicy(attempts=3, initial="20ms", maximum="1s")
    started = time.monotonic()
    report = run(engine, tools.graph([tools.step("a", retry=policy)]))
    assert report.outcome is Outcome.COMMITTED
    assert 0.06 <= time.monotonic() - started < 2
    driver.on["perform", "a"] = fails()  # class "failed" is not in the policy
    driver.effects.clear()
    driver.calls.clear()
    run(engine, tools.graph([tools.step("a", retry=policy)], intent_digest="other"))
    assert driver.of("perform") == ["a"]


def test_a_bug_in_a_driver_is_kept_with_its_trace_and_rolled_back(
    engine: Engine, driver: Any, tools: Any
) -> None:
    driver.on["perform", "b"] = fails(ZeroDivisionError("oops \udcff"))
    report = run(engine, tools.graph(["a", "b"], "chain"))
    error = report.step("b").error
    assert error["class"] == "bug"
    assert any("ZeroDivisionError" in line for line in error["details"])
    assert report.outcome is Outcome.ROLLED_BACK


def test_a_result_that_is_no_json_is_a_bug(engine: Engine, driver: Any, tools: Any) -> None:
    driver.on["perform", "a"] = lambda _: {"x": object()}
    report = run(engine, tools.graph(["a"]))
    assert report.step("a").error["class"] == "bug"


def test_a_revert_that_fails_leaves_the_rollback_incomplete_but_not_undone(
    engine: Engine, driver: Any, tools: Any
) -> None:
    driver.on["perform", "d"] = fails()
    driver.on["revert", "b"] = fails(times=1)
    report = run(engine, tools.graph(["a", "b", "c", "d"], "chain"))
    assert driver.of("revert") == ["c", "b", "a"]
    assert report.outcome is Outcome.ROLLBACK_INCOMPLETE
    assert report.exit_code is ExitCode.ROLLBACK_INCOMPLETE
    assert "b" in report.reason
    report = engine.resume(report.transaction)
    assert report.outcome is Outcome.ROLLED_BACK
    assert driver.effects == {}


def test_reverts_run_in_parallel_where_the_graph_allows(
    engine: Engine, driver: Any, tools: Any
) -> None:
    meeting = threading.Barrier(2, timeout=10)
    driver.on["revert", "a"] = driver.on["revert", "b"] = lambda _: meeting.wait() and None
    driver.on["perform", "z"] = fails()
    report = run(engine, tools.graph(["a", "b", "z"], [("a", "z"), ("b", "z")]))
    assert report.outcome is Outcome.ROLLED_BACK


def test_an_inspection_that_is_only_busy_is_made_again(
    engine: Engine, driver: Any, tools: Any
) -> None:
    driver.on["perform", "a"] = fails()
    busy = MkupgradeError("busy", error_class=ErrorClass.BUSY)
    driver.on["inspect", "a"] = fails(busy, times=1)
    assert run(engine, tools.graph(["a"])).outcome is Outcome.ROLLED_BACK
    assert driver.of("inspect") == ["a", "a"]


def test_failure_behind_the_pivot_takes_the_way_back(
    engine: Engine, driver: Any, tools: Any
) -> None:
    driver.on["perform", "c"] = fails()
    report = run(engine, tools.graph(FULL, "chain"))
    assert driver.of("perform") == [
        "a", "b", "jump", "c", "return.a", "return.jump", "recover.a", "recover.b",
    ]  # fmt: skip
    assert driver.of("revert") == []
    assert report.outcome is Outcome.ROLLED_BACK
    assert report.rollback_cause == "c: it does not hold"


def test_without_automatic_rollback_it_waits_for_the_operator(
    engine: Engine, driver: Any, tools: Any
) -> None:
    driver.on["perform", "c"] = fails(times=1)
    report = run(engine, tools.graph(FULL, "chain", automatic_rollback=False))
    assert (report.outcome, report.waiting) == (None, True)
    assert report.exit_code is ExitCode.INTERRUPTED
    assert "rollback" in report.next_command
    assert engine.resume(report.transaction).outcome is Outcome.COMMITTED


def test_a_waiting_transaction_is_rolled_back_on_request(
    engine: Engine, driver: Any, tools: Any
) -> None:
    driver.on["perform", "c"] = fails()
    report = run(engine, tools.graph(FULL, "chain", automatic_rollback=False))
    report = engine.rollback(report.transaction, "the pager went off")
    assert report.outcome is Outcome.ROLLED_BACK
    assert "the pager went off" in report.reason
    assert driver.of("perform")[-4:] == ["return.a", "return.jump", "recover.a", "recover.b"]


def test_failure_on_the_way_back_reverts_it_and_is_incomplete(
    engine: Engine, driver: Any, tools: Any
) -> None:
    driver.on["perform", "c"] = fails()
    driver.on["perform", "return.jump"] = fails()
    report = run(engine, tools.graph(FULL, "chain"))
    assert driver.of("revert") == ["return.a"]
    assert report.outcome is Outcome.ROLLBACK_INCOMPLETE
    del driver.on["perform", "return.jump"]
    assert engine.resume(report.transaction).outcome is Outcome.ROLLED_BACK


def test_recover_goes_on_with_what_does_not_depend_on_a_failure(
    engine: Engine, driver: Any, tools: Any
) -> None:
    driver.on["perform", "c"] = fails()
    driver.on["perform", "recover.a"] = fails()
    edges = [("a", "jump"), ("jump", "c"), ("c", "commit"), ("return.a", "return.jump")]
    steps = [s for s in FULL if s not in {"b", "d"}]
    report = run(engine, tools.graph(steps, edges))
    assert states(report)["recover.b"] == "performed"
    assert report.outcome is Outcome.ROLLBACK_INCOMPLETE


def test_what_fails_behind_the_commit_changes_nothing_back(
    engine: Engine, driver: Any, tools: Any
) -> None:
    driver.on["perform", "d"] = fails()
    report = run(engine, tools.graph(FULL, "chain"))
    assert report.outcome is Outcome.COMMITTED
    assert "d" in report.reason
    assert driver.of("revert") == []


def test_a_committed_transaction_can_be_rolled_back(
    engine: Engine, driver: Any, tools: Any
) -> None:
    report = run(engine, tools.graph(FULL, "chain"))
    report = engine.rollback(report.transaction, "changed our mind")
    assert report.outcome is Outcome.ROLLED_BACK
    assert driver.of("perform")[-4:] == ["return.a", "return.jump", "recover.a", "recover.b"]
    with pytest.raises(MkupgradeError, match="is over"):
        engine.rollback(report.transaction, "again")


def test_a_plan_without_a_way_back_cannot_be_rolled_back_once_committed(
    engine: Engine, tools: Any
) -> None:
    report = run(engine, tools.graph(["a", "commit"], "chain"))
    with pytest.raises(MkupgradeError, match="no way back"):
        engine.rollback(report.transaction, "why not")


def test_what_was_rolled_back_is_not_applied_again_by_itself(
    engine: Engine, driver: Any, journal: Journal, tools: Any
) -> None:
    driver.on["perform", "a"] = fails(times=1)
    graph = tools.graph(["a"])
    first = run(engine, graph)
    with pytest.raises(MkupgradeError) as refused:
        engine.begin(graph)
    assert "--again" in str(refused.value.next_command)
    assert refused.value.details == ("a: it does not hold",)
    assert engine.run(engine.begin(graph, again=True)).outcome is Outcome.COMMITTED
    assert rolled_back_before(journal, "intent") is None
    lines = history(journal)
    assert [s.outcome for s in lines] == [Outcome.ROLLED_BACK, Outcome.COMMITTED]
    assert lines[0].transaction == first.transaction


def test_a_host_that_was_left_unsettled_is_not_upgraded_over(
    engine: Engine, driver: Any, tools: Any
) -> None:
    driver.on["perform", "a"] = fails(times=1)
    driver.on["inspect", "a"] = lambda _: Inspection.UNKNOWN
    report = run(engine, tools.graph(["a"]))
    assert report.outcome is Outcome.UNKNOWN
    another = tools.graph(["b"])
    with pytest.raises(MkupgradeError, match="as nobody knows") as refused:
        engine.begin(another)
    assert refused.value.next_command == f"mkupgrade resume {report.transaction}"
    assert engine.run(engine.begin(another, again=True)).outcome is Outcome.COMMITTED


def test_an_unfinished_transaction_bars_a_new_one(
    engine: Engine, journal: Journal, tools: Any
) -> None:
    transaction = engine.begin(tools.graph(["a"]))
    assert unfinished(journal) == transaction
    with pytest.raises(MkupgradeError, match="is not finished") as refused:
        engine.begin(tools.graph(["a"]))
    assert refused.value.next_command == f"mkupgrade resume {transaction}"


@pytest.mark.parametrize(
    ("steps", "edges", "why"),
    [
        (["a", "b"], [("a", "b"), ("b", "a")], "cycle"),
        (["a", "recover.b"], [("a", "recover.b")], "leaves its section"),
        (["a"], [("a", "z")], "names no step"),
        (["a", "a"], [], "same id"),
    ],
)
def test_a_graph_that_cannot_be_executed_is_refused(
    engine: Engine, tools: Any, steps: Any, edges: Any, why: str
) -> None:
    with pytest.raises(PlanError, match=why):
        engine.begin(tools.graph(steps, edges))


def test_a_lapsed_effect_is_performed_again_before_going_on(
    driver: Any, journal: Journal, tools: Any
) -> None:
    class Gone(BaseException):
        pass

    driver.on["perform", "c"] = fails(Gone())  # type: ignore[arg-type]
    engine = Engine(driver, journal)
    transaction = engine.begin(tools.graph(["a", "b", "c"], "chain"))
    with pytest.raises(Gone):
        engine.run(transaction)
    engine.close()
    engine._lock.release()
    del driver.effects["a"], driver.on["perform", "c"]
    driver.calls.clear()
    journal = Journal(journal.path, journal._connection, readonly=False)
    journal.reload()
    with Engine(driver, journal) as engine:
        report = engine.resume(transaction)
    assert sorted(driver.of("inspect")) == ["a", "b", "c"]
    assert driver.of("perform") == ["a", "c"]
    assert report.step("a").lapses == 1
    assert report.outcome is Outcome.COMMITTED


def test_results_of_performed_steps_reach_later_ones(
    engine: Engine, driver: Any, tools: Any
) -> None:
    seen: dict[str, Any] = {}
    driver.on["perform", "a"] = lambda _: {"pid": 7}
    driver.on["perform", "b"] = lambda context: seen.update(context.results)
    run(engine, tools.graph(["a", "b"], "chain"))
    assert seen == {"a": {"pid": 7}}


def test_progress_and_durable_events_reach_the_reporter_and_its_errors_do_not_reach_us(
    driver: Any, journal: Journal, tools: Any
) -> None:
    heard: list[Any] = []

    class Reporter:
        def event(self, event: Any) -> None:
            stored = journal._connection.execute("SELECT max(seq) FROM events").fetchone()[0]
            heard.append((event.event.type, event.seq <= stored))
            raise RuntimeError("a broken terminal")

        def progress(self, step: Any, text: str, fraction: float | None) -> None:
            heard.append((text, fraction))
            raise RuntimeError("a broken terminal")

    driver.on["perform", "a"] = lambda context: context.control.progress("half", 0.5)
    with Engine(driver, journal, reporter=Reporter()) as engine:
        report = run(engine, tools.graph(["a"]))
    assert report.outcome is Outcome.COMMITTED
    assert heard == [("intended", True), ("half", 0.5), ("performed", True), ("ended", True)]


def test_blackout_is_measured_from_the_checkpoint_to_the_restore(
    engine: Engine, driver: Any, journal: Journal, tools: Any
) -> None:
    steps = [
        tools.step("a"),
        tools.step("stop", blackout=True),
        tools.step("jump", blackout=True),
        tools.step("start", blackout=True),
        tools.step("commit"),
    ]
    driver.on["perform", "jump"] = lambda _: time.sleep(0.05)
    driver.on["perform", "commit"] = lambda _: time.sleep(0.05)
    report = run(engine, tools.graph(steps, "chain"))
    found = blackout_of(report.steps, stops=["stop"], starts=["start"])
    assert found.seconds >= 0.05
    [window] = found.windows
    assert window.until is not None
    assert window.until <= report.step("commit").started
    assert found.seconds == pytest.approx(report.blackout, abs=0.01)
    assert report_of(journal, report.transaction) == report
    assert TransactionReport.model_validate_json(report.model_dump_json()) == report


def test_time_in_which_a_step_lets_workloads_run_on_is_no_blackout(
    engine: Engine, driver: Any, tools: Any
) -> None:
    def carry(_: Any) -> dict[str, float]:
        time.sleep(0.08)
        return {"ran_on_seconds": 0.05}

    driver.on["perform", "carry"] = carry
    report = run(engine, tools.graph([tools.step("carry", blackout=True)]))
    step = report.step("carry")
    assert step is not None
    whole = step.ended - step.started
    assert report.blackout == pytest.approx(whole - 0.05, abs=1e-6)
    found = blackout_of(report.steps, stops=["carry"], starts=["carry"])
    assert found.seconds == pytest.approx(report.blackout)
