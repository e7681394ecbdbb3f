"""From a step to the handler of its kind, the same for every driver on real parts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any, TypeVar

from pydantic import ValidationError

from orchestrator.model.errors import NotSupportedError, PlanError
from orchestrator.model.kinds import Kind
from orchestrator.model.params import params_of
from orchestrator.model.steps import Step

H = TypeVar("H")


class Handlers(Mapping[Kind, H]):
    """Handlers by kind, each imported when a step of its kind comes: behind a jump, workloads
    stand still while we import."""

    def __init__(self, package: str, classes: Mapping[Kind, str]) -> None:
        """
        Args:
            package: the one that names are looked for in.
            classes: kind -> "module.Class" in that package.
        """
        self._package = package
        self._classes = classes
        self._made: dict[Kind, H] = {}

    def __getitem__(self, kind: Kind) -> H:
        if kind not in self._made:
            module, _, name = self._classes[kind].rpartition(".")
            handler: H = getattr(import_module(f"{self._package}.{module}"), name)()
            self._made[kind] = handler
        return self._made[kind]

    def import_all(self) -> None:
        """While workloads still run: between a stopped one and the jump no code is looked for."""
        for kind in self:
            self[kind]

    def __iter__(self) -> Iterator[Kind]:
        return iter(self._classes)

    def __len__(self) -> int:
        return len(self._classes)


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
