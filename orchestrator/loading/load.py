"""The way from text to `UpgradeSpec`, and to the other documents that people write."""

from __future__ import annotations

import json
import os
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

from pydantic import ValidationError

from orchestrator.loading import limits
from orchestrator.loading.findings import Finding
from orchestrator.loading.nodes import Entry, Mapping, Node, Place, Scalar, child, to_data
from orchestrator.loading.parse import parse
from orchestrator.loading.problems import Hints, InvalidSpecError, Path
from orchestrator.loading.references import check_references
from orchestrator.loading.source import read_source
from orchestrator.model.base import Strict
from orchestrator.model.spec import UpgradeSpec

if TYPE_CHECKING:
    from orchestrator.loading.locate import Locator
    from orchestrator.model.policy import Policy

D = TypeVar("D", bound=Strict)
"""A whole document."""

_ROUNDS = 4
"""Validations in all, with what could be guessed set right in between."""


def load_spec_file(path: str | os.PathLike[str]) -> UpgradeSpec:
    """The spec in a file.

    Raises:
        SpecError: the file cannot be read.
        InvalidSpecError: everything that is wrong with its content, each with its place.
    """
    return load_spec(read_source(path), os.fspath(path))


def load_spec(text: str, filename: str = "plan.yaml") -> UpgradeSpec:
    """The spec in a text; `filename` is what its problems are reported under.

    Raises:
        InvalidSpecError: everything that is wrong, each with line, column and path.
    """
    return _load(UpgradeSpec, _Words("plan", "spec", None, "mkupgrade schema"), text, filename)


def as_written(text: str) -> dict[str, Any]:
    """The document in a text that loads, for who changes a part of it and keeps the rest: what was
    left out is not in it, and words of YAML are what they mean to the loader."""
    root, _ = parse(text.removeprefix("\ufeff"))
    assert isinstance(root, Mapping)  # noqa: S101 - it was loaded from this text
    return cast(dict[str, Any], to_data(root))


def load_policy(text: str, filename: str = "policy.yaml") -> Policy:
    """The policy in a text.

    Raises:
        InvalidSpecError: as `load_spec`.
    """
    from orchestrator.model.policy import Policy

    command = "mkupgrade schema --policy"
    return _load(Policy, _Words("policy", "policy", command, command), text, filename)


def place_of_path(text: str, path: Path) -> Place:
    """Where in a text that loads the value at `path` stands; of the nearest thing around it, if
    it was left out."""
    node, _ = parse(text.removeprefix("\ufeff"))
    place = Place(1, 1)
    for part in path:
        if node is None:
            break
        place, node = node.place, child(node, part)
    return node.place if node is not None else place


class _Words(NamedTuple):
    """What a document is called, and what to run when it is refused."""

    noun: str
    in_errors: str
    next_command: str | None
    if_no_mapping: str


def _load(document: type[D], words: _Words, text: str, filename: str) -> D:
    def error(command: str | None = words.next_command) -> InvalidSpecError:
        problems = [finding.problem(filename) for finding in findings]
        noun = words.in_errors
        return InvalidSpecError(problems, filename=filename, next_command=command, noun=noun)

    hints = Hints()
    root, findings = parse(text.removeprefix("\ufeff"), words.noun, hints)
    if root is None:
        raise error()
    if not isinstance(root, Mapping):
        message = f"expected a mapping with the keys of a {words.noun}"
        findings.append(Finding(root.place, (), message, str(root)))
        raise error(words.if_no_mapping)
    unreadable = {finding.place for finding in findings}
    if document is UpgradeSpec:
        findings += check_references(root, hints)
    loaded, told = _validate(document, root, hints, told_before=bool(findings))
    if loaded is None or findings:
        findings += [finding for finding in told if finding.place not in unreadable]
        raise error()
    return loaded


def _validate(
    document: type[D], root: Mapping, hints: Hints, *, told_before: bool
) -> tuple[D | None, list[Finding]]:
    """The document, or what is wrong.

    Pydantic does not look into unknown keys and unknown variants. So that what is wrong in there
    comes out at once too, they are set to what was probably meant and validated again.
    """
    told: dict[Any, Finding] = {}
    for number in range(_ROUNDS):
        try:
            # As JSON: "strict" then takes text for paths and enums, but never text for numbers.
            loaded = document.model_validate_json(json.dumps(to_data(root)), strict=True)
        except ValidationError as error:
            # Imported here: a document without problems needs no schema.
            from orchestrator.loading.locate import Locator
            from orchestrator.loading.schema import schema

            new = _tell(error, Locator(root, schema(document), hints), told_before=told_before)
        else:
            return (loaded if number == 0 else None), list(told.values())
        for finding in new:
            told.setdefault((finding.place, finding.message), finding)
        repaired = [_repair(root, finding) for finding in new]
        if not any(repaired) or len(told) >= limits.MAX_PROBLEMS:
            break
    return None, list(told.values())


def _tell(error: ValidationError, locator: Locator, *, told_before: bool) -> list[Finding]:
    from orchestrator.loading.messages import tell

    details = error.errors(include_url=False, include_input=False)
    findings = [
        tell(dict(detail), locator)
        for detail in islice(details, limits.MAX_PROBLEMS)
        if not (told_before and detail["type"] == "cross_reference")
    ]
    renamed = {(f.path[:-1], f.nearest) for f in findings if f.renames}
    return [f for f in findings if (f.path, f.missing) not in renamed]


def _repair(root: Mapping, finding: Finding) -> bool:
    """Rename or drop an unknown key; put the nearest value in place of an unknown one."""
    parent = _at(root, finding.path[:-1])
    key = finding.path[-1] if finding.path else None
    if not isinstance(parent, Mapping) or not isinstance(key, str) or key not in parent.entries:
        return False
    entry = parent.entries[key]
    if finding.message.startswith("unknown key"):
        del parent.entries[key]
        if finding.nearest is not None:
            parent.entries.setdefault(finding.nearest, entry)
        return True
    if finding.nearest is not None:
        value = Scalar(entry.value.place, finding.nearest, finding.nearest)
        parent.entries[key] = Entry(entry.place, value)
        return True
    return False


def _at(root: Node, path: Path) -> Node | None:
    node: Node | None = root
    for part in path:
        node = child(node, part)
    return node
