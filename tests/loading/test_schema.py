"""The JSON Schema and the reference that is made from it."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic.version import version_short

from orchestrator.loading import load_spec_file
from orchestrator.loading.schema import models, schema, schema_text
from orchestrator.model.policy import Policy
from orchestrator.model.spec import UpgradeSpec

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(
    tuple(map(int, version_short().split("."))) < (2, 12),
    reason="older releases of pydantic word parts of a schema otherwise",
)
@pytest.mark.parametrize("name", ["spec", "policy"])
def test_the_committed_schema_and_reference_are_current(generator: ModuleType, name: str) -> None:
    stem, document = generator.DOCUMENTS[name]
    committed = json.loads((DOCS / f"{stem}.schema.json").read_text(encoding="utf-8"))
    page = (DOCS / f"{name}.md").read_text(encoding="utf-8")

    assert committed == schema(document), "run: python docs/generate.py"
    assert generator.spec_page(page, document) == page, "run: python docs/generate.py"


@pytest.mark.parametrize(("name", "document"), [("spec", UpgradeSpec), ("policy", Policy)])
def test_the_reference_names_every_key_of_every_model(name: str, document: type[BaseModel]) -> None:
    page = (DOCS / f"{name}.md").read_text(encoding="utf-8")

    for model in models(document):
        for key in model.model_fields:
            assert f"| `{key}` |" in page, f"{model.__name__}.{key}"


def test_the_reference_names_every_default_of_every_policy() -> None:
    page = (DOCS / "spec.md").read_text(encoding="utf-8")

    for line in (
        "| `boot_deadline` | duration | `5m` |",
        "| `keep_old_kernel` | duration | `7d` |",
        "| `interval` | duration | `5s` |",
        '| `kernel` | mapping | `{"attempts": 5}` |',
        "| `state_dir` | absolute path | `/var/lib/mkupgrade` |",
    ):
        assert line in page


def test_the_schema_says_what_it_is() -> None:
    made = schema()

    assert made["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert made["$id"].startswith("urn:")
    assert made["title"]
    assert schema_text() == json.dumps(made, indent=2, ensure_ascii=False) + "\n"


def test_a_caller_cannot_change_the_schema_of_the_next_one() -> None:
    schema()["properties"].clear()

    assert schema()["properties"]


DOCUMENT_OF = {model: document for document in (UpgradeSpec, Policy) for model in models(document)}


@pytest.mark.parametrize("model", DOCUMENT_OF, ids=lambda model: model.__name__)
def test_every_key_has_a_description_for_people(model: type[BaseModel]) -> None:
    made = schema(DOCUMENT_OF[model])
    part = made if model in DOCUMENT_OF.values() else made["$defs"][model.__name__]

    assert part["description"]
    assert part["additionalProperties"] is False
    for key, prop in part["properties"].items():
        assert prop.get("description") or "const" in prop, key


def objects(value: Any) -> list[dict[str, Any]]:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    own = [value] if isinstance(value, dict) else []
    return own + [found for part in inner for found in objects(part)]


def test_every_pattern_is_explained_in_words() -> None:
    for part in objects(schema()):
        if "pattern" in part and isinstance(part["pattern"], str):
            assert part["patternErrorMessage"]
            re.compile(part["pattern"])


def test_every_reference_of_the_schema_leads_somewhere() -> None:
    made = schema()

    for part in objects(made):
        if "$ref" in part:
            assert part["$ref"].removeprefix("#/$defs/") in made["$defs"]


def test_defaults_are_written_as_people_write_them() -> None:
    """A plan that writes out every default means the same as one that writes none."""
    made = schema()
    soak = made["$defs"]["Soak"]["properties"]

    assert soak["duration"]["default"] == "30s"
    assert made["$defs"]["RetryPolicy"]["properties"]["on"]["default"] == ["busy", "timeout"]
    assert made["$defs"]["Retry"]["properties"]["kernel"]["default"] == {"attempts": 5}


def test_examples_in_the_reference_are_parts_of_a_plan_that_loads(generator: ModuleType) -> None:
    text = (ROOT / "plans" / "full.yaml").read_text(encoding="utf-8")

    for key in ("metadata", "host", "instances", "workloads", "checks", "rollback", "hooks"):
        assert generator.example(key) in text
    load_spec_file(ROOT / "plans" / "full.yaml")
