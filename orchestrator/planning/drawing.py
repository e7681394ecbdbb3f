"""A step graph as text for other tools: dot, Mermaid, JSON; and as a picture (see `picture`)."""

from __future__ import annotations

import json
from typing import Any, Literal

from orchestrator.model.errors import NotSupportedError
from orchestrator.model.steps import Reversibility, Section, Step, StepGraph

Format = Literal["dot", "svg", "mermaid", "json"]
SECTION_TITLES = {
    Section.FORWARD: "forward: to the new kernel and commit",
    Section.RETURN: "return: back by a jump, when something fails behind the pivot",
    Section.RECOVER: "recover: in the old kernel, however it got there",
}


def draw(graph: StepGraph, form: Format) -> str:
    """The graph as one text of the given form.

    Raises:
        NotSupportedError: there is no such form.
    """
    if form == "svg":
        from orchestrator.planning.picture import to_svg

        return to_svg(graph)
    makers = {"dot": to_dot, "mermaid": to_mermaid, "json": to_json}
    if form not in makers:
        raise NotSupportedError(f'no form "{form}"; there are: dot, svg, mermaid, json')
    return makers[form](graph)


def to_dot(graph: StepGraph) -> str:
    """For graphviz."""
    lines = [
        "digraph plan {",
        "  rankdir=LR;",
        f"  label={_dot(graph.name)};",
        '  node [shape=box, style="rounded", fontname="sans-serif"];',
    ]
    for section in Section:
        steps = graph.section(section)
        if steps:
            lines += [
                f"  subgraph cluster_{section.value} {{",
                f"    label={_dot(SECTION_TITLES[section])};",
                *(f"    {_dot(s.id)} [label={_dot(s.title)}{_dot_look(s)}];" for s in steps),
                "  }",
            ]
    lines += [f"  {_dot(a)} -> {_dot(b)};" for a, b in graph.edges]
    return "\n".join([*lines, "}", ""])


def to_mermaid(graph: StepGraph) -> str:
    """For Markdown; nodes are numbered, because Mermaid's ids allow few characters."""
    number = {s.id: f"s{n}" for n, s in enumerate(graph.steps)}
    lines = ["flowchart LR"]
    for section in Section:
        steps = graph.section(section)
        if steps:
            lines += [
                f'  subgraph {section.value}["{SECTION_TITLES[section]}"]',
                *(f"    {number[s.id]}{_mermaid(s)}" for s in steps),
                "  end",
            ]
    lines += [f"  {number[a]} --> {number[b]}" for a, b in graph.edges]
    return "\n".join([*lines, ""])


def to_json(graph: StepGraph) -> str:
    """Node-link form, as networkx, d3 and others read it."""
    body = {
        "directed": True,
        "multigraph": False,
        "graph": {"name": graph.name, "format": graph.format},
        "nodes": [_node(s) for s in graph.steps],
        "links": [{"source": a, "target": b} for a, b in graph.edges],
    }
    return json.dumps(body, indent=1, ensure_ascii=False) + "\n"


def _node(step: Step) -> dict[str, Any]:
    return {k: v for k, v in step.as_dict().items() if k not in {"params", "retry"}}


def _dot(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _dot_look(step: Step) -> str:
    if step.reversibility is Reversibility.PIVOT:
        return ', style="rounded,bold", color="#c2410c", penwidth=2'
    if step.reversibility is Reversibility.COMMIT:
        return ', style="rounded,bold", color="#15803d", penwidth=2'
    return ""


def _mermaid(step: Step) -> str:
    title = step.title.replace("&", "&amp;").replace('"', "&quot;").replace("\n", " ")
    title = title.replace("<", "&lt;").replace(">", "&gt;")
    if step.reversibility is Reversibility.PIVOT:
        return f'{{{{"{title}"}}}}'
    if step.reversibility is Reversibility.COMMIT:
        return f'(["{title}"])'
    return f'["{title}"]'
