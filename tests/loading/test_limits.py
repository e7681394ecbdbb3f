"""Hostile documents are refused, at a place, in bounded time."""

from __future__ import annotations

import sys
import time

import pytest

from orchestrator.loading import InvalidSpecError, limits, load_spec
from orchestrator.model.errors import NotSupportedError

MIB = 1 << 20


def refusal(text: str, within: float = 10.0) -> str:
    """The first line of the error; fails if it took more than `within` seconds of the processor."""
    began = time.thread_time()
    with pytest.raises(InvalidSpecError) as caught:
        load_spec(text)
    assert time.thread_time() - began < within
    return caught.value.details[0]


def billion_laughs(levels: int, width: int) -> str:
    lines = ["a0: &a0 [x]"]
    for level in range(1, levels):
        repeats = ", ".join([f"*a{level - 1}"] * width)
        lines.append(f"a{level}: &a{level} [{repeats}]")
    return "\n".join(lines) + "\n"


def test_aliases_that_multiply_are_stopped() -> None:
    assert "too large: at most 40000 values" in refusal(billion_laughs(20, 10))


def test_aliases_of_one_long_text_are_stopped() -> None:
    block = "\n".join("  " + "x" * 100 for _ in range(1000))
    text = f"a: &a |\n{block}\nb: [{', '.join(['*a'] * 1000)}]\n"

    assert "too large" in refusal(text)


def test_aliases_that_nest_are_counted_as_depth() -> None:
    text = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 40))

    assert "nested too deeply: at most 32 levels" in refusal(text)


@pytest.mark.parametrize("opening", ["[", "{a: ", "- ", "? ", "[[{x: "])
def test_deep_nesting_is_stopped_without_recursion(opening: str) -> None:
    assert "nested too deeply" in refusal(opening * 2000)


def test_deep_nesting_by_indentation_is_stopped() -> None:
    text = "".join(" " * depth + "a:\n" for depth in range(400))

    line = refusal(text)

    assert line.startswith("plan.yaml:33:")
    assert "nested too deeply" in line


def workloads(count: int) -> str:
    """An honest spec."""
    return (
        "api_version: mkupgrade/v1\nmetadata: {name: a}\n"
        "instances: [{name: host, kernel: {image: /boot/a, release: a}}]\nworkloads:\n"
    ) + "".join(
        f"- name: w{n}\n  instance: host\n  find: {{unit: w{n}.service}}\n"
        f"  migrate: {{method: criu, timeout: 30s}}\n  after: [w{max(n, 1) - 1}]\n"
        for n in range(count)
    ).replace("after: [w0]", "after: []", 1)


@pytest.mark.slow
def test_two_thousand_workloads_are_read() -> None:
    assert len(load_spec(workloads(2000)).workloads) == 2000


@pytest.mark.slow
def test_a_misspelt_name_among_two_thousand_is_still_recognised() -> None:
    text = workloads(2000).replace("after: [w1234]", "after: [x1234]", 1)

    assert refusal(text).endswith('unknown workload "x1234"; did you mean "w1234"?')


@pytest.mark.slow
def test_of_many_problems_only_so_many_are_looked_for() -> None:
    text = "workloads:\n" + "".join(f"- {{name: w{n}, after: [x{n}, y{n}]}}\n" for n in range(3500))

    with pytest.raises(InvalidSpecError) as caught:
        load_spec(text)

    found = len(caught.value.problems)
    assert limits.MAX_PROBLEMS <= found <= 2 * limits.MAX_PROBLEMS
    assert caught.value.what == f"the spec has at least {found} problems"


def test_of_many_names_only_so_many_are_listed() -> None:
    text = "workloads:\n" + "".join(f"- {{name: w{n}}}\n" for n in range(100))
    text += "- {name: a, after: [nothing-like-them]}\n"
    with pytest.raises(InvalidSpecError) as caught:
        load_spec(text)

    line = next(p.message for p in caught.value.problems if "nothing-like-them" in p.message)
    assert line.count('"w') == limits.MAX_LISTED
    assert line.endswith('"w19" and 81 more')


def test_without_libyaml_the_reason_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml._yaml", None)

    with pytest.raises(NotSupportedError, match="built without libyaml"):
        load_spec("a: b")


def test_the_deepest_allowed_document_is_read() -> None:
    depth = limits.MAX_DEPTH - 1
    with pytest.raises(InvalidSpecError) as caught:
        load_spec("soak: " + "[" * depth + "]" * depth)
    assert "nested" not in " ".join(caught.value.details)


def test_more_than_a_mebibyte_is_not_parsed() -> None:
    assert "too large: at most 1048576" in refusal("#" * 80 + "\n" + "x\n" * MIB, within=1.0)


def test_a_line_without_end_is_refused_at_its_place() -> None:
    line = refusal("a: 1\nb: " + "x" * 20_000)

    assert line == "plan.yaml:2:16385: line too long: at most 16384 characters"


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    [
        "- a\n" * (MIB // 4),
        "#\n" * (MIB // 2),
        "\n" * MIB,
        "a: |\n" + " x\n" * (MIB // 3),
        "a: 'b\n" + " x\n" * (MIB // 3) + "'",
        "".join(f"k{i}: &a{i} v\n" for i in range(40_000)),
        ("a: !<" + "x" * 16_000 + "> b\n") * 64,
        "%TAG ! x\n" * (MIB // 10),
        "a: " + "  \\\n" * (MIB // 4),
        "a: &" + "x" * 16_000,
        "[" + "a, " * 5000 + "\n" + ("b, " * 5000 + "\n") * 60,
        "{" + "a: b, " * 2500 + "\n" + ("c: d, " * 2500 + "\n") * 60,
        "workloads:\n" + "- {name: w, after: [w, x], migrate: {method: cri}}\n" * 3000,
        "names:\n" + "".join(f"- &a{n} b\n" for n in range(12_000)) + "- *x\n" * 2000,
        "missing:\nworkloads:\n" + "".join(f"- name: w{n}\n" for n in range(9000)),
    ],
    ids=lambda text: text[:12].encode("unicode_escape").decode(),
)
def test_a_large_file_of_anything_is_over_soon(text: str) -> None:
    assert refusal(text[: MIB // 8], within=5.0).startswith("plan.yaml:")
