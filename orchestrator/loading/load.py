"""The way from text to `UpgradeSpec`."""

from __future__ import annotations

import json
import os
from typing import Any

from pydantic import ValidationError

from orchestrator.loading.findings import Finding
from orchestrator.loading.locate import Locator
from orchestrator.loading.messages import tell
from orchestrator.loading.nodes import Entry, Mapping, Node, Scalar, child, to_data
from orchestrator.loading.parse import parse
from orchestrator.loading.problems import InvalidSpecError, Path
from orchestrator.loading.references import check_references
from orchestrator.loading.source import read_source
from orchestrator.model.spec import UpgradeSpec

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
    root, findings = parse(text.removeprefix("\ufeff"))
    if root is None:
        raise _error(findings, filename)
    if not isinstance(root, Mapping):
        message = "expected a mapping with the keys of a plan"
        findings.append(Finding(root.place, (), message, str(root)))
        raise _error(findings, filename, next_command="mkupgrade schema")
    unreadable = {finding.place for finding in findings}
    findings += check_references(root)
    spec, told = _validate(root, told_before=bool(findings))
    if spec is None or findings:
        findings += [finding for finding in told if finding.place not in unreadable]
        raise _error(findings, filename)
    return spec


def _error(
    findings: list[Finding], filename: str, next_command: str | None = None
) -> InvalidSpecError:
    problems = [finding.problem(filename) for finding in findings]
    return InvalidSpecError(problems, filename=filename, next_command=next_command)


def _validate(root: Mapping, *, told_before: bool) -> tuple[UpgradeSpec | None, list[Finding]]:
    """The spec, or what is wrong.

    Pydantic does not look into unknown keys and unknown variants. So that what is wrong in there
    comes out at once too, they are set to what was probably meant and validated again.
    """
    told: dict[Any, Finding] = {}
    for number in range(_ROUNDS):
        try:
            # As JSON: "strict" then takes text for paths and enums, but never text for numbers.
            spec = UpgradeSpec.model_validate_json(json.dumps(to_data(root)), strict=True)
        except ValidationError as error:
            new = _tell(error, root, told_before=told_before)
        else:
            return (spec if number == 0 else None), list(told.values())
        for finding in new:
            told.setdefault((finding.place, finding.message), finding)
        repaired = [_repair(root, finding) for finding in new]
        if not any(repaired):
            break
    return None, list(told.values())


def _tell(error: ValidationError, root: Node, *, told_before: bool) -> list[Finding]:
    locator = Locator(root)
    findings = [
        tell(dict(detail), locator)
        for detail in error.errors(include_url=False, include_input=False)
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
