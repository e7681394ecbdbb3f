"""JSON Schemas (draft 2020-12) of what people write: for editors, references and our messages."""

from __future__ import annotations

import json
from functools import cache
from typing import Any, get_args

from pydantic import BaseModel, TypeAdapter
from pydantic.fields import FieldInfo

from orchestrator.loading.docstrings import field_docs
from orchestrator.model.policy import Policy
from orchestrator.model.spec import UpgradeSpec

Schema = dict[str, Any]

_NOUNS: dict[type[BaseModel], str] = {UpgradeSpec: "plan", Policy: "policy"}
"""What each document is called, in its schema and in messages."""


def noun_of(document: type[BaseModel]) -> str:
    """ "plan" or "policy"."""
    return _NOUNS[document]


def schema(document: type[BaseModel] = UpgradeSpec) -> Schema:
    """A new copy of the schema of `plan.yaml`, or of another document.

    Beyond the standard keywords: `patternErrorMessage` says in words what a pattern means
    (yaml-language-server shows it), `discriminator` which key chooses between variants.
    """
    copy: Schema = json.loads(_text(document))
    return copy


def schema_text(document: type[BaseModel] = UpgradeSpec) -> str:
    """The schema as it is committed as docs/plan.schema.json or docs/policy.schema.json."""
    return json.dumps(schema(document), indent=2, ensure_ascii=False) + "\n"


@cache
def _text(document: type[BaseModel]) -> str:
    parts = models(document)
    for model in parts:
        # A default is written by its model's serializer, and pydantic 2.12 does not build that.
        model.model_rebuild()
    made = document.model_json_schema()
    definitions = made.pop("$defs")
    for model in parts:
        _complete(made if model is document else definitions[model.__name__], model)
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:mkupgrade:{noun_of(document)}:v1",
        "title": f"mkupgrade {noun_of(document)}",
    }
    made.pop("title")
    return json.dumps({**head, **made, "$defs": dict(sorted(definitions.items()))})


def models(document: type[BaseModel] = UpgradeSpec) -> list[type[BaseModel]]:
    """Every model of a document, in the order in which a reader meets them."""
    found: list[type[BaseModel]] = []
    _collect(document, found)
    return found


def _collect(annotation: Any, found: list[type[BaseModel]]) -> None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        if annotation not in found:
            found.append(annotation)
            for info in annotation.model_fields.values():
                _collect(info.annotation, found)
        return
    for argument in get_args(annotation):
        _collect(argument, found)


def _complete(made: Schema, model: type[BaseModel]) -> None:
    """Descriptions, defaults as people write them, and no titles that only repeat the key."""
    docs = field_docs(model)
    made["description"] = " ".join((model.__doc__ or "").split())
    for name, prop in made["properties"].items():
        prop.pop("title", None)
        if name in docs:
            prop["description"] = docs[name]
        info = model.model_fields[name]
        if not info.is_required():
            prop["default"] = _default(info)


def _default(info: FieldInfo) -> Any:
    adapter: TypeAdapter[Any] = TypeAdapter(info.rebuild_annotation())
    return adapter.dump_python(info.default, mode="json", exclude_defaults=True)
