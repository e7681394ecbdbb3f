"""Plans and reports as people read them."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest

from orchestrator.cli.render.events import Narrator
from orchestrator.cli.render.html import report_html
from orchestrator.cli.render.plan import in_order, last_line, show_plan, summary
from orchestrator.cli.render.progress import PlainTeller, parts_of
from orchestrator.cli.render.report import last_line as report_line
from orchestrator.cli.render.report import report_text
from orchestrator.cli.render.spans import clock, count, span
from orchestrator.cli.render.text import console, text
from orchestrator.cli.render.timeline import Axis
from orchestrator.cli.render.view import report_json
from orchestrator.cli.terminal import speaks_unicode
from orchestrator.engine import events
from orchestrator.model.steps import Section


def shown(graph: Any, *, full: bool = False, encoding: str = "utf-8") -> str:
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding=encoding)
    show_plan(console(out), graph, full=full)
    out.flush()
    return raw.getvalue().decode(encoding)


def test_the_last_line_counts_kernels_workloads_and_steps(make_graph: Any) -> None:
    graph = make_graph()
    numbers = summary(graph)
    assert last_line(graph) == (
        "Plan: 1 kernel to change, 2 workloads to carry over, "
        f"{numbers['steps']} steps; expected blackout "
        f"{span(numbers['expected_blackout_seconds'])}."
    )
    assert shown(graph).endswith(last_line(graph) + "\n")


def test_a_workload_that_is_restarted_is_not_carried_over(make_graph: Any) -> None:
    lost = {
        "name": "cache",
        "instance": "host",
        "find": {"unit": "cache.service"},
        "migrate": {"method": "restart"},
    }
    assert "0 workloads to carry over, 1 to restart" in last_line(make_graph(workloads=[lost]))


def test_nothing_to_do_says_no_changes(make_graph: Any) -> None:
    graph = make_graph(host={"kernel": {"release": "7.3.4", "cmdline": "root=/dev/vda"}})
    assert shown(graph).splitlines()[-1] == "No changes. guest is as kernel-7.3 wants it."


def test_what_changes_is_shown_from_what_to_what(make_graph: Any) -> None:
    text = shown(make_graph())
    assert "~ kernel of instance host: Linux 7.2.13 -> 7.3.4" in text
    assert text.index("What changes") < text.index("Steps, in order") < text.index("Way back")


def test_the_legend_explains_the_marks_that_are_used(make_graph: Any) -> None:
    text = shown(make_graph())
    assert "» pivot" in text
    assert "✓ commit" in text
    jump = next(line for line in text.splitlines() if "Jump into Linux 7.3.4" in line)
    assert "»" in jump
    assert "▎" in jump


def test_the_way_back_is_folded_until_asked_for(make_graph: Any) -> None:
    graph = make_graph()
    assert "Section return" not in shown(graph)
    assert "return: 6 steps" in shown(graph)
    full = shown(graph, full=True)
    assert "Section return" in full
    assert "Section recover" in full


def test_a_terminal_without_utf8_gets_ascii(make_graph: Any) -> None:
    text = shown(make_graph(), encoding="ascii")
    assert " > |Jump into Linux 7.3.4" in text


def test_every_step_is_shown_in_an_order_that_can_run(make_graph: Any) -> None:
    graph = make_graph()
    for section in Section:
        order = [s.id for s in in_order(graph, section)]
        assert sorted(order) == sorted(s.id for s in graph.section(section))
        place = {step: n for n, step in enumerate(order)}
        assert all(place[a] < place[b] for a, b in graph.edges if a in place)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (0.0004, "0 ms"), (0.35, "350 ms"), (8.0, "8 s"), (8.24, "8.2 s"), (9.96, "10 s"),
     (59.6, "1 min 00 s"), (200, "3 min 20 s"), (3600, "1 h 00 min"), (-2, "-2 s")],
)  # fmt: skip
def test_durations_for_people(seconds: float, text: str) -> None:
    assert span(seconds) == text


def test_counts() -> None:
    assert [count(n, "step") for n in (0, 1, 2)] == ["0 steps", "1 step", "2 steps"]


def test_blackout_is_from_the_start_of_checkpoint_to_the_end_of_restore(committed: Any) -> None:
    found = {w.name: w.blackout for w in committed.view().workloads}
    log = committed.events
    begun = next(e for e in log if isinstance(e.event, events.StepIntended)
                 and e.event.step == "checkpoint/counter")  # fmt: skip
    ended = next(e for e in log if isinstance(e.event, events.StepPerformed)
                 and e.event.step == "restore/counter")  # fmt: skip
    assert found["counter"].seconds == pytest.approx(ended.time - begun.time, abs=1e-3)
    assert len(found["counter"].windows) == 1


def test_a_rollback_behind_the_pivot_has_two_blackouts(rolled_back: Any) -> None:
    made = report_json(rolled_back.view())
    assert [len(w["windows"]) for w in made["workloads"].values()] == [2, 2]
    assert made["kernels"] == ["7.2.13", "7.3.4", "7.2.13"]


def test_the_text_report_says_what_was_rolled_back_and_why(rolled_back: Any, undone: Any) -> None:
    text = report_text(rolled_back.view(), None)
    assert "connection refused (127.0.0.1:80)" in text
    assert "tried 3 times" in text
    assert "Section return" in text
    assert report_line(rolled_back.view()).startswith("Rolled back: Linux 7.2.13 -> 7.3.4 -> ")
    text = report_text(undone.view(), None)
    assert "undone: " in text
    assert "Linux 7.2.13 (never reached 7.3.4)" in text
    assert "attempts" not in text, "taking a step back is no attempt"


def test_what_steps_told_is_shown_in_every_form(committed: Any) -> None:
    """From which copy a workload was restored, and what was found damaged on the way."""
    told = {"text": "counter restored from disk", "problems": ["memory: <damaged>\x1b[2J"]}
    for n, envelope in enumerate(committed.events):
        if envelope.event.type == "performed" and envelope.event.step.startswith("restore/"):
            committed.events[n] = replace(envelope, event=replace(envelope.event, result=told))
            break
    view = committed.view()
    assert [line for _, line in view.told] == ["memory: <damaged>\x1b[2J", told["text"]]
    text = report_text(view, None)
    assert "counter restored from disk" in text
    assert "\x1b" not in text
    page = report_html(view)
    assert "counter restored from disk" in page
    assert "memory: &lt;damaged&gt;" in page


def test_the_page_marks_the_pivot_failures_and_what_was_undone(
    rolled_back: Any, undone: Any
) -> None:
    page = report_html(rolled_back.view())
    assert page.count('class="pivot"') >= 2
    assert 'class="jump"' in page
    assert 'class="failed"' in page
    assert 'class="still"' in page
    assert 'class="reverted"' in report_html(undone.view())


def test_a_short_blackout_is_drawn_close_up(committed: Any) -> None:
    assert "Close up: blackout" in report_html(committed.view())


def test_idle_time_makes_episodes_of_its_own(committed: Any) -> None:
    before = committed.view()
    committed.time += 7 * 86400
    committed.add(events.RollbackRequested(reason="second thoughts", by="operator"))
    committed.add(events.SectionEntered(section=Section.RETURN, reason="second thoughts"))
    committed.run(Section.RETURN, boots=("boot-3", "7.2.13"))
    view = committed.view()
    assert len(before.episodes) == 1
    assert len(view.episodes) == 2
    assert view.worked < 600 < view.end - view.start


@pytest.mark.parametrize("length", [0.0, 0.004, 0.9, 37.0, 4000.0, 1e6])
def test_an_axis_has_a_few_round_ticks(length: float) -> None:
    ticks = Axis(100.0, 100.0 + length).ticks()
    assert 1 <= len(ticks) <= 9
    assert ticks[0] == 0
    assert all(f"{t:.0e}"[0] in "0123456789" for t in ticks)


def test_a_report_of_thousands_of_steps_is_drawn_in_part(committed: Any) -> None:
    first = committed.graph.steps[0]
    more = [replace(first, id=f"extra/{n}") for n in range(600)]
    committed.graph = committed.graph.model_copy(update={"steps": [*committed.graph.steps, *more]})
    for step in more:
        committed.events.insert(-1, committed.events[0])
        committed.events.pop(-2)
        committed.add(events.StepIntended(step=step.id, attempt=1))
        committed.add(events.StepPerformed(step=step.id, attempt=1, seconds=0.1), 0.1)
    page = report_html(committed.view())
    assert "further steps are in the table below" in page
    assert "extra/599" in page


@pytest.mark.parametrize(
    "title", ["Load Linux", "a\ttab\x1b[31m", "[bold]é\u202e ", "x" * 5000, ""]
)
def test_lines_without_colour_are_those_of_a_console(make_graph: Any, title: str) -> None:
    graph = make_graph()
    step = replace(graph.steps[0], title=title)
    graph = graph.model_copy(update={"steps": [step, *graph.steps[1:]]})
    envelope = events.Envelope(
        seq=1,
        transaction="t",
        stamp=events.Stamp(time=0.0, boot_id="b", release="r", pid=1),
        event=events.StepPerformed(step=step.id, attempt=1, seconds=1.0),
        prev_hash="",
        hash="",
    )
    plain, shown = io.StringIO(), io.StringIO()
    PlainTeller(graph, plain).event(envelope)
    line = Narrator(graph).line(envelope, announce=True)
    assert line is not None
    parts = parts_of(line, unicode=speaks_unicode(plain))
    console(shown).print(text((clock(0.0), "dim"), " ", *parts))
    assert plain.getvalue() == shown.getvalue()
