"""Valid specs, as data that YAML can hold."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import strategies as st

Data = dict[str, Any]

names = st.from_regex(r"[a-z0-9]([a-z0-9._-]{0,20}[a-z0-9])?", fullmatch=True)
odd_words = st.sampled_from(
    (
        *("<<", "=", "~", "null", "no", "on", "true", "1", "010", "0x1f", "1e3", ".inf", "1:30"),
        *("!a", "&a", "*a", "- a", "? a", "?a", "a: b", "a:", ": a", " #a", "%a", "@a", "`a"),
        *("---", "...", "|", ">", "_", " ", " a ", "'", '"', "\\"),
        *("\n", "\t", "\x85", "\u2028", "\ufeff", "\x7f"),
    )
)
texts = st.one_of(
    odd_words,
    st.text(
        st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=30
    ),
)
paths = st.lists(st.from_regex(r"[A-Za-z0-9_ é-]{1,8}", fullmatch=True), max_size=4).map(
    lambda parts: "/" + "/".join(parts)
)
commands = st.lists(texts, min_size=1, max_size=4)
durations = st.one_of(
    st.integers(0, 10**6).map(lambda n: f"{n}ms"),
    st.tuples(st.integers(0, 99), st.integers(0, 99)).map(lambda t: f"{t[0]}h{t[1]}.5s"),
)
sizes = st.integers(0, 10**6).map(lambda n: f"{n}MiB")
hexes = st.from_regex(r"[0-9a-f]{64}", fullmatch=True)


def record(required: Data, optional: Data) -> st.SearchStrategy[Data]:
    return st.fixed_dictionaries(required, optional=optional)


def checks(name: str) -> st.SearchStrategy[Data]:
    common = {
        "when": st.lists(st.sampled_from(["before", "after", "soak"]), max_size=3),
        "timeout": durations,
        "within": durations,
    }
    fixed = {"name": st.just(name)}

    def kind(word: str, required: Data, optional: Data) -> st.SearchStrategy[Data]:
        return record({**fixed, "kind": st.just(word), **required}, {**common, **optional})

    ports = st.integers(1, 65535)
    return st.one_of(
        kind("http", {"url": st.just("http://[::1]:80/x?y=z")}, {"contains": texts}),
        kind("tcp", {"port": ports}, {"expect": texts}),
        kind("command", {"run": commands}, {"stdout_contains": texts}),
        kind("systemd", {"unit": st.just("a@b.service")}, {}),
        kind("kernel", {}, {"log_excludes": st.lists(texts, max_size=2)}),
        kind("file", {"path": paths}, {"contains": texts}),
    )


@st.composite
def workloads(draw: st.DrawFn, name: str, earlier: list[str]) -> Data:
    find = draw(
        st.one_of(
            record({"pid_file": paths}, {}),
            record({"unit": st.just("x.service")}, {}),
            record({"cmdline": st.just("shop( |$)")}, {}),
            record({"cgroup": paths}, {}),
        )
    )
    migrate = draw(
        st.one_of(
            record(
                {"method": st.just("criu")},
                {"trial": st.booleans(), "timeout": durations, "carry": st.lists(paths)},
            ),
            record({"method": st.just("hooks"), "save": commands, "load": commands}, {}),
            record({"method": st.just("restart"), "start": commands}, {"stop": commands}),
        )
    )
    more = draw(
        record(
            {},
            {
                "channel": st.sampled_from(["auto", "kho", "disk"]),
                "spill": st.booleans(),
                "checks": checks(f"of-{name}").map(lambda c: [c]),
            },
        )
    )
    after = draw(st.lists(st.sampled_from(earlier), unique=True)) if earlier else []
    return {
        "name": name,
        "instance": "host",
        "find": find,
        "migrate": migrate,
        "after": after,
        **more,
    }


@st.composite
def specs(draw: st.DrawFn) -> Data:
    kernel = draw(
        record(
            {"image": paths, "release": st.sampled_from(["7.3", "7.3.4", "7.10-rc1+", "on"])},
            {"initrd": paths, "sha256": hexes, "modules": paths},
        )
    )
    workload_names = draw(st.lists(names, max_size=3, unique=True))
    parts = {
        "api_version": "mkupgrade/v1",
        "metadata": draw(
            record(
                {"name": names},
                {
                    "labels": st.dictionaries(texts, st.text(max_size=20).filter(_clean)),
                    "description": texts,
                },
            )
        ),
        "instances": [
            draw(
                record(
                    {"name": st.just("host"), "kernel": st.just(kernel)},
                    {
                        "resources": record({}, {"memory": sizes, "cpus": st.integers(1, 512)}),
                    },
                )
            )
        ],
        "workloads": [
            draw(workloads(name, workload_names[:index]))
            for index, name in enumerate(workload_names)
        ],
    }
    optional = draw(
        record(
            {},
            {
                "checks": checks("whole").map(lambda c: [c]),
                "soak": record({}, {"duration": durations, "max_failures": st.integers(0, 9)}),
                "rollback": record({}, {"automatic": st.booleans(), "deadline": durations}),
                "retry": record({}, {"kernel": record({}, {"on": st.just(["busy", "io"])})}),
            },
        )
    )
    return {**parts, **optional}


def _clean(text: str) -> bool:
    return "\0" not in text and not any("\ud800" <= c <= "\udfff" for c in text)


@pytest.fixture(scope="session")
def valid_specs() -> st.SearchStrategy[Data]:
    """Any valid spec, as the data that its YAML holds."""
    return specs()
