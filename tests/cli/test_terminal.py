"""No string from outside may steer a terminal, a page, or a markup language."""

from __future__ import annotations

import io
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.cli.render.errors import error_json, error_text
from orchestrator.cli.render.html import report_html
from orchestrator.cli.render.markup import Safe, tag
from orchestrator.cli.render.plan import show_plan
from orchestrator.cli.render.report import report_text
from orchestrator.cli.render.text import console, text
from orchestrator.cli.terminal import clean, clean_block
from orchestrator.model.errors import MkupgradeError
from orchestrator.model.steps import StepGraph

HOSTILE = (
    "\x1b]0;owned\x07\x1b[2J[bold red]x[/] </script><img src=http://x onerror=1>&\u202eabc\x9b31m"
)


@given(st.text())
def test_a_cleaned_line_is_printable_and_one_line(raw: str) -> None:
    safe = clean(raw)
    assert not any(c in safe for c in "\n\r\x1b\x9b\x07\u202e\u2066")
    assert len(safe.splitlines()) <= 1
    safe.encode("utf-8")


@given(st.text(alphabet=st.characters(codec="utf-8", categories=["L", "N", "P", "S", "Zs"])))
def test_letters_and_signs_stay_as_they_are(raw: str) -> None:
    assert clean(raw) == raw


@given(st.lists(st.text(), max_size=5))
def test_a_cleaned_block_keeps_its_lines(lines: list[str]) -> None:
    assert clean_block("\n".join(lines)).count("\n") == "\n".join(lines).count("\n")


def test_bytes_that_are_no_utf8_are_shown_as_bytes() -> None:
    assert clean("plan\udcff.yaml") == "plan\\xff.yaml"


def test_rich_takes_nothing_for_markup() -> None:
    out = io.StringIO()
    console(out).print(text("[bold]kernel[/bold] :warning: ", ("[red]x", "bold")))
    assert out.getvalue() == "[bold]kernel[/bold] :warning: [red]x\n"


def test_an_error_with_escapes_is_shown_not_obeyed() -> None:
    error = MkupgradeError(HOSTILE, where=HOSTILE, details=(HOSTILE,), next_command=HOSTILE)
    assert "\x1b" not in error_text(error)
    assert error_json(error).isascii()


@pytest.fixture
def hostile(make_graph: Any) -> StepGraph:
    """A plan whose every free text is hostile."""
    graph: StepGraph = make_graph()
    steps = [replace(s, title=HOSTILE) for s in graph.steps]
    host = graph.host.model_copy(update={"hostname": HOSTILE})
    texts = {"changes": [HOSTILE], "keeps": [HOSTILE], "notes": [HOSTILE], "name": HOSTILE}
    return graph.model_copy(update={"steps": steps, "host": host, **texts})


def test_a_hostile_plan_is_shown_not_obeyed(hostile: StepGraph) -> None:
    out = io.StringIO()
    show_plan(console(out), hostile, full=True)
    shown = out.getvalue()
    assert "\\x1b]0;owned\\x07" in shown
    assert not any(c in shown for c in "\x1b\x07\x9b\u202e")
    assert "[bold red]x[/]" in shown


class Page(HTMLParser):
    """Collects elements and complains about those that are not closed."""

    VOID = ("meta", "br", "hr")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def parsed(page: str) -> Page:
    parser = Page()
    parser.feed(page)
    assert not parser.open
    return parser


def test_a_page_of_hostile_strings_holds_no_foreign_element(
    hostile: StepGraph, committed: Any
) -> None:
    committed.graph = hostile
    page = parsed(report_html(committed.view()))
    assert not page.tags & {"script", "img", "iframe", "link", "object", "a", "svg", "form"}
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert "\x1b" not in report_text(committed.view(), None)


def test_a_page_loads_nothing(committed: Any) -> None:
    made = report_html(committed.view())
    page = parsed(made)
    assert not [a for a in page.attributes if a[0] in {"src", "href", "srcset", "data", "action"}]
    assert "url(" not in made
    assert "@import" not in made
    assert "default-src 'none'" in made


def test_markup_escapes_every_string_that_is_not_markup() -> None:
    assert tag("p", "<b>", Safe("<i></i>"), title='"><x>') == (
        '<p title="&quot;&gt;&lt;x&gt;">&lt;b&gt;<i></i></p>'
    )
