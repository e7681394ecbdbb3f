"""Defaults that are made without validation say what validation would have made of them."""

from __future__ import annotations

import pytest
from pydantic import BaseModel

from orchestrator.handover import manifest
from orchestrator.model import host
from orchestrator.model.spec import document, instances, policy
from orchestrator.workloads import meta

DEFAULTS = [
    pytest.param(field.default, id=f"{model.__name__}.{name}")
    for module in (host, document, instances, policy, manifest, meta)
    for model in vars(module).values()
    if isinstance(model, type) and issubclass(model, BaseModel)
    for name, field in model.model_fields.items()
    if isinstance(field.default, BaseModel)
]


@pytest.mark.parametrize("default", DEFAULTS)
def test_a_default_is_what_validation_makes_of_its_keys(default: BaseModel) -> None:
    keys = default.model_dump(mode="json", include=default.model_fields_set)
    validated = type(default).model_validate(keys)
    assert validated == default
    assert validated.model_dump_json() == default.model_dump_json()


def test_there_are_such_defaults() -> None:
    assert len(DEFAULTS) > 15
