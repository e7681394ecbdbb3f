"""The example plans are what a user would write, and they load."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from orchestrator.loading import load_spec_file
from orchestrator.loading.nodes import Mapping, Node, Sequence
from orchestrator.loading.parse import parse
from orchestrator.loading.schema import schema

ROOT = Path(__file__).resolve().parents[2]
PLANS = sorted((ROOT / "plans").glob("*.yaml"))
MODELINE = "# yaml-language-server: $schema="


@pytest.mark.parametrize("path", PLANS, ids=lambda path: path.stem)
def test_every_example_plan_loads(path: Path) -> None:
    spec = load_spec_file(path)

    assert spec.metadata.name
    assert spec.instances


@pytest.mark.parametrize("path", PLANS, ids=lambda path: path.stem)
def test_editors_are_told_where_the_schema_is(path: Path) -> None:
    first = path.read_text(encoding="utf-8").splitlines()[0]

    assert first.startswith(MODELINE)
    assert (path.parent / first.removeprefix(MODELINE)).resolve() == ROOT / "docs/plan.schema.json"


def test_the_demo_plan_carries_a_counter_with_its_connections() -> None:
    spec = load_spec_file(ROOT / "plans" / "live-update.yaml")

    counter = spec.workloads[0]
    assert counter.name == "counter"
    assert counter.migrate.method == "criu"
    assert counter.migrate.tcp_established
    assert counter.find.pid_file is not None
    assert [c.kind for c in counter.checks] == ["tcp"]
    assert spec.instances[0].kernel.release == "7.3.4"
    assert 0 < spec.soak.duration <= 10


def test_the_disk_plan_asks_for_the_disk_only() -> None:
    spec = load_spec_file(ROOT / "plans" / "disk-channel.yaml")

    assert {w.channel for w in spec.workloads} == {"disk"}


def keys_used(node: Node, part: dict[str, Any], root: dict[str, Any], used: set[str]) -> None:
    """Collect "Definition.key" for every key that the document uses."""
    while "$ref" in part or "anyOf" in part:
        if "$ref" in part:
            part = root["$defs"][part["$ref"].rsplit("/", 1)[1]]
        else:
            part = next(p for p in part["anyOf"] if p.get("type") != "null")
    if isinstance(node, Sequence):
        for item in node.items:
            keys_used(item, part["items"], root, used)
    if isinstance(node, Mapping) and "discriminator" in part:
        chooser = part["discriminator"]
        tag = node.entries[chooser["propertyName"]].value
        keys_used(node, {"$ref": chooser["mapping"][str(tag).strip('"')]}, root, used)
    elif isinstance(node, Mapping) and "properties" in part:
        for key, entry in node.entries.items():
            used.add(f"{part.get('title')}.{key}")
            keys_used(entry.value, part["properties"][key], root, used)


def test_the_full_plan_has_every_key_there_is() -> None:
    root = schema()
    every = {
        f"{definition['title']}.{key}"
        for definition in [root, *root["$defs"].values()]
        for key in definition.get("properties", ())
    }
    document, _ = parse((ROOT / "plans" / "full.yaml").read_text(encoding="utf-8"))
    assert document is not None

    used: set[str] = set()
    keys_used(document, root, root, used)

    common = re.compile(r"\w+Check\.(when|timeout|within|interval)$")
    missing = {key for key in every - used if not common.match(key)}
    assert missing == set()
    assert used <= every
