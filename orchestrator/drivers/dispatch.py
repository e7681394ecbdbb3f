"""From a step to the handler of its kind, the same for every driver on real parts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from orchestrator.model.errors import NotSupportedError, PlanError
from orchestrator.model.kinds import Kind
from orchestrator.model.params import params_of
from orchestrator.model.steps import Step

H = TypeVar("H")


def dispatch(step: Step, handlers: Mapping[Kind, H], driver: str) -> tuple[H, Any]:
    """The handler of the step's kind, and its parameters.

    Args:
        driver: its name, for the error.

    Raises:
        NotSupportedError: the driver has no handler for the kind.
        PlanError: the parameters do not fit the kind.
    """
    try:
        kind = Kind(step.kind)
        handler = handlers[kind]
    except (ValueError, KeyError):
        raise NotSupportedError(
            f"driver {driver} knows no step of kind {step.kind!r}", where=step.id
        ) from None
    try:
        params = params_of(kind).model_validate(step.params)
    except ValidationError as error:
        raise PlanError(
            f"the parameters of this step do not fit its kind {step.kind}",
            where=step.id,
            details=tuple(str(problem["msg"]) for problem in error.errors()[:10]),
        ) from error
    return handler, params
