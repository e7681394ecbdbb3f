"""A policy's rules, held to everything that a plan would have run, booted or written. Pure, but
for the look at paths that it is given.

Both documents are walked whole, whatever they hold: a command is found where the model has one,
not where somebody remembered to look.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import BaseModel

from orchestrator.loading.problems import Path as Place
from orchestrator.loading.problems import quoted
from orchestrator.model.errors import MkupgradeError
from orchestrator.model.kinds import Kind
from orchestrator.model.params import params_of
from orchestrator.model.policy import CommandRule, Policy
from orchestrator.model.spec import UpgradeSpec
from orchestrator.model.spec.checks import CommandCheck
from orchestrator.model.spec.document import Host
from orchestrator.model.spec.policy import Hook
from orchestrator.model.spec.workloads import CriuMigrate, HooksMigrate, RestartMigrate
from orchestrator.model.steps import StepGraph

Resolve = Callable[[Path], Path]
"""Where a path leads; raises MkupgradeError or OSError if it cannot be trusted or is not there."""

_FILES = ("image", "initrd", "initrd_secrets", "modules")
"""Fields of every model that names kernels' files."""
COMMANDS: dict[type[BaseModel], tuple[str, tuple[str, ...]]] = {
    Hook: ("hooks", ("run", "undo")),
    CommandCheck: ("checks", ("run",)),
    HooksMigrate: ("workloads", ("save", "load", "undo")),
    RestartMigrate: ("workloads", ("stop", "start")),
}
"""Model -> kind of rule, and its fields that are commands."""


@dataclass(frozen=True)
class Objection:
    """Something that a rule does not allow."""

    place: Place
    """In the document: ("hooks", "before", 0, "run")."""
    rule: str
    """In the policy: "commands.hooks"."""
    message: str


def spec_objections(policy: Policy, spec: UpgradeSpec, resolve: Resolve) -> list[Objection]:
    """What a spec asks for and the policy does not allow."""
    return list(_Rules(policy, resolve).all(spec, ()))


def graph_objections(policy: Policy, graph: StepGraph, resolve: Resolve) -> list[Objection]:
    """What the steps of a plan would do and the policy does not allow, whatever its spec says."""
    rules = _Rules(policy, resolve)
    found = [*rules.state(graph.state_dir, ("state_dir",))]
    if graph.spec is not None:
        found += rules.all(graph.spec, ("spec",))
    for number, step in enumerate(graph.steps):
        place = ("steps", number, "params")
        try:
            params = params_of(Kind(step.kind)).model_validate(step.params)
        except ValueError:  # a plan of a journal; one out of a file was held to this before
            message = f"a step of kind {quoted(step.kind)} whose parameters are unknown"
            found.append(Objection(place, "steps", message))
        else:
            found += rules.all(params, place)
    return found


class _Rules:
    def __init__(self, policy: Policy, resolve: Resolve) -> None:
        self._policy = policy
        self._resolve = resolve
        self._seen: dict[Path, Path | str] = {}

    def all(self, document: BaseModel, place: Place) -> Iterator[Objection]:
        for where, model in _models(document, place):
            yield from self._files(model, where)
            yield from self._commands(model, where)
            if isinstance(model, Host):
                yield from self.state(str(model.state_dir), (*where, "state_dir"))

    def state(self, directory: str, place: Place) -> Iterator[Objection]:
        """A plan's state directory, and the directories above it, which could be exchanged."""
        state = self._policy.state
        if state is None:
            return
        if PurePosixPath(directory) not in state.directories:
            known = ", ".join(str(d) for d in state.directories)
            yield Objection(place, "state.directories", f"{quoted(directory)} is none of {known}")
            return
        path = Path(directory)
        found = self._look(path if os.path.lexists(path) else path.parent)
        if isinstance(found, str) and os.path.lexists(path.parent):
            yield Objection(place, "state.directories", found)

    def _files(self, model: BaseModel, place: Place) -> Iterator[Objection]:
        images = self._policy.images
        if images is None:
            return
        for field in _FILES:
            value = getattr(model, field, None)
            if not isinstance(value, str | PurePosixPath):
                continue
            message = self._not_below(Path(value), images.directories)
            if message is not None:
                yield Objection((*place, field), "images.directories", message)

    def _not_below(self, path: Path, directories: list[PurePosixPath]) -> str | None:
        found = self._look(path)
        if isinstance(found, str):
            return found
        allowed = [self._look(Path(directory)) for directory in directories]
        if any(found == d or (isinstance(d, Path) and d in found.parents) for d in allowed):
            return None
        known = ", ".join(str(directory) for directory in directories) or "no directory"
        return f"{quoted(str(found))} is not below {known}"

    def _commands(self, model: BaseModel, place: Place) -> Iterator[Objection]:
        commands = self._policy.commands
        if commands is None:
            return
        kind, fields = COMMANDS.get(type(model), ("", ()))
        rules: list[CommandRule] | None = getattr(commands, kind) if kind else None
        for field in fields:
            argv: list[str] | None = getattr(model, field)
            if rules is not None and argv is not None:
                message = self._not_allowed(argv, rules)
                if message is not None:
                    yield Objection((*place, field), f"commands.{kind}", message)
        secrets = getattr(model, "initrd_secrets", None)
        if secrets is not None and commands.hooks is not None:
            message = self._not_allowed([str(secrets)], commands.hooks)
            if message is not None:
                yield Objection((*place, "initrd_secrets"), "commands.hooks", message)
        if isinstance(model, CriuMigrate):
            allowed = commands.criu_arguments
            if allowed is None:
                allowed = model.extra if commands.workloads is None else []
            for number, argument in enumerate(model.extra):
                if argument not in allowed:
                    where = (*place, "extra", number)
                    message = f"{quoted(argument)} is not allowed"
                    yield Objection(where, "commands.criu_arguments", message)

    def _not_allowed(self, argv: list[str], rules: list[CommandRule]) -> str | None:
        if not argv[0].startswith("/"):
            return f"the program {quoted(argv[0])} is not named by its absolute path"
        program = PurePosixPath(argv[0])
        if not any(r.argv == argv or (r.program is not None and r.program == program)
                   for r in rules):  # fmt: skip
            return f"{quoted(' '.join(argv))} is allowed by no rule"
        found = self._look(Path(argv[0]))
        return found if isinstance(found, str) else None

    def _look(self, path: Path) -> Path | str:
        """Where it leads, or why it cannot be trusted."""
        if path not in self._seen:
            try:
                self._seen[path] = self._resolve(path)
            except MkupgradeError as error:
                self._seen[path] = error.what
            except OSError as error:
                self._seen[path] = f"{path}: {error.strerror}"
        return self._seen[path]


def _models(value: Any, place: Place) -> Iterator[tuple[Place, BaseModel]]:
    """Every model in a value, itself among them, with its place."""
    if isinstance(value, BaseModel):
        yield place, value
        for name in type(value).model_fields:
            yield from _models(getattr(value, name), (*place, name))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _models(item, (*place, index))
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _models(item, (*place, str(key)))
