"""The report as one HTML file: no script, nothing loaded from anywhere, light and dark."""

from __future__ import annotations

from functools import cache
from importlib import resources
from string import Template

from orchestrator import __version__
from orchestrator.cli.next_command import complete
from orchestrator.cli.render.markup import Safe, join, tag
from orchestrator.cli.render.spans import count, moment, span
from orchestrator.cli.render.timeline import timelines
from orchestrator.cli.render.view import (
    Row,
    View,
    generations,
    kernels,
    missed,
    outcome_tone,
    outcome_word,
)
from orchestrator.model.steps import Section


def report_html(view: View) -> str:
    """The whole page. Strings of plan and journal are escaped, whatever they hold."""
    return _template().substitute(
        title=tag("title", f"{view.report.name} on {view.host}: {outcome_word(view.report)}"),
        tone=outcome_tone(view.report),
        header=_header(view),
        tiles=_tiles(view),
        why=_why(view),
        timelines=timelines(view),
        workloads=join(_workloads(view), _told(view)),
        steps=_steps(view),
        kernels=_kernels(view),
        footer=_footer(view),
    )


@cache
def _template() -> Template:
    return Template(resources.files(__package__).joinpath("report.html").read_text("utf-8"))


def _header(view: View) -> Safe:
    report = view.report
    ran = [f"Linux {release}" for release in kernels(report)]
    beside = generations(view)
    path: list[Safe] = []
    for n, release in enumerate(ran if beside is None else [beside]):
        path += [tag("span", "→", class_="arrow")] if n else []
        path.append(tag("span", release))
    wanted = missed(view)
    if wanted is not None and report.outcome is not None:
        path += [tag("span", "→", class_="arrow"), tag("s", f"Linux {wanted}", title="never ran")]
    return tag(
        "header",
        tag("p", tag("span", outcome_word(report), class_="badge"), tag("span", view.host),
            class_="over"),
        tag("h1", *path),
        tag("p", f"{report.name} · transaction {report.transaction} · {moment(report.started)}",
            class_="mute"),
    )  # fmt: skip


def _tiles(view: View) -> Safe:
    report = view.report
    worst = max(view.workloads, key=lambda w: w.blackout.seconds, default=None)
    longest = worst.blackout.seconds if worst else report.blackout
    noun = f"blackout of {worst.name}" if worst else "blackout"
    done = sum(s.state == "performed" for s in report.steps)
    tiles = [
        (span(longest), noun, "hot"),
        (span(view.worked), "in all" if report.ended else "so far", ""),
        (str(done), "steps performed", ""),
        (str(len(view.reverted)), "steps undone", ""),
        (str(view.retries), "retries", ""),
        (str(max(len(report.boots) - 1, 0)), "changes of kernel", ""),
    ]
    return tag(
        "div",
        *(
            tag("div", tag("strong", value), tag("span", name), class_=f"tile {look}".strip())
            for value, name, look in tiles
        ),
        class_="tiles",
    )


def _why(view: View) -> Safe | None:
    report = view.report
    cause = report.rollback_cause or (report.reason if outcome_tone(report) != "good" else None)
    if not cause and not view.failures:
        return Safe("")
    heading = "Why it was rolled back"
    if view.failures:
        heading = "What went wrong" if outcome_tone(report) != "good" else "What was retried"
    command = complete(report.next_command) if report.next_command else None
    following = tag("p", "Next: ", tag("code", command)) if command else None
    reason = tag("p", report.reason) if report.reason and report.reason != cause else None
    return tag(
        "section",
        tag("h2", heading),
        tag("p", cause, class_="cause") if cause else None,
        reason,
        *(
            _failure(row, attempt.number, attempt.error or {})
            for row, attempt in view.failures[:50]
        ),
        following,
        class_="why",
    )


def _failure(row: Row, number: int, error: dict[str, object]) -> Safe:
    details = error.get("details")
    lines = [str(line) for line in details] if isinstance(details, list) else []
    return tag(
        "div",
        tag("p", tag("strong", row.step.title), f", attempt {number}: {error.get('what', '')}"),
        tag("p", str(error["where"]), class_="mute") if error.get("where") else None,
        tag("ul", *(tag("li", line) for line in lines[:40])) if lines else None,
        class_="failure",
    )


def _workloads(view: View) -> Safe:
    if not view.workloads:
        return Safe("")
    longest = max(w.blackout.seconds for w in view.workloads) or 1.0
    rows = [
        tag(
            "tr",
            tag("td", w.name),
            tag("td", w.how, class_="mute"),
            tag("td", span(w.blackout.seconds) if w.blackout.windows else "never stood still",
                class_="num"),
            tag("td", tag("i", class_="meter",
                          style=f"width:{w.blackout.seconds / longest * 100:.1f}%"), class_="wide"),
            tag("td", "; ".join(_window(x.since, x.until) for x in w.blackout.windows),
                class_="mute"),
        )
        for w in view.workloads
    ]  # fmt: skip
    head = _head("workload", "carried by", "blackout", "", "from checkpoint to restore")
    return tag("section", tag("h2", "Workloads"), tag("table", head, tag("tbody", *rows)))


def _told(view: View) -> Safe:
    if not view.told:
        return Safe("")
    lines = [
        tag("li", line, tag("span", f" ({title})", class_="mute")) for title, line in view.told
    ]
    return tag("section", tag("h2", "What the steps told"), tag("ul", *lines[:200]))


def _window(since: float, until: float | None) -> str:
    return f"{moment(since)[11:19]} – {moment(until)[11:19] if until else 'not restored'}"


def _steps(view: View) -> Safe:
    body = []
    for section in Section:
        rows = [r for r in view.rows if r.step.section is section]
        if rows:
            title = tag("th", f"section {section.value}", colspan="6", scope="rowgroup")
            body.append(tag("tr", title, class_="group"))
            body += [_step(r, view.start) for r in rows]
    head = _head("", "step", "state", "began", "took", "expected")
    rest = len(view.untried)
    note = f"{count(rest, 'step')} of the plan did not run (the way not taken)." if rest else ""
    return tag(
        "section",
        tag("h2", "Steps"),
        tag("table", head, tag("tbody", *body)),
        tag("p", note, class_="mute") if note else None,
    )


def _step(row: Row, start: float) -> Safe:
    step = row.step
    signs = [("pivot", row.pivot), ("commit", row.commit)]
    chips = [tag("span", name, class_=f"chip {name}") for name, there in signs if there]
    many = count(row.tries, "attempt") if row.tries > 1 else None
    reasons = [a.reason for a in step.attempts if a.reason]
    return tag(
        "tr",
        tag("td", str(row.number), class_="num mute"),
        tag(
            "td",
            tag("span", step.title),
            *chips,
            tag("span", many, class_="chip") if many else None,
            tag("div", step.id, class_="mute small"),
            *(tag("div", f"seen: {reason}", class_="mute small") for reason in reasons[-2:]),
        ),
        tag("td", tag("span", step.state, class_=f"state {row.bars[-1].look}")),
        tag("td", f"+{span((step.started or start) - start)}", class_="num"),
        tag("td", span(row.seconds), class_="num"),
        tag("td", span(step.estimate), class_="num mute"),
    )


def _kernels(view: View) -> Safe:
    rows = [
        tag("tr", tag("td", f"Linux {b.release}"), tag("td", tag("code", b.boot_id)),
            tag("td", moment(b.first)), tag("td", span(b.last - b.first), class_="num"))
        for b in view.report.boots
    ]  # fmt: skip
    head = _head("kernel", "boot id", "first event", "at work for")
    return tag("section", tag("h2", "Kernels seen"), tag("table", head, tag("tbody", *rows)))


def _head(*names: str) -> Safe:
    return tag("thead", tag("tr", *(tag("th", name, scope="col") for name in names)))


def _footer(view: View) -> Safe:
    report = view.report
    return join(
        tag("p", f"driver {report.driver} · plan ", tag("code", report.plan_digest)),
        tag("p", f"mkupgrade {__version__}, from the journal of {view.host}"),
    )
