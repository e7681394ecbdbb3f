"""A plan as a file: readable JSON with its own digest inside, read back as if it were hostile.

The digest shows damage and editing by hand. It is no signature: whoever can write the file can
write the digest, so that what is read is held to the same rules as what is made.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any, NoReturn

from pydantic import ValidationError

from orchestrator.model.errors import MkupgradeError, PlanError
from orchestrator.model.steps import StepGraph
from orchestrator.planning.planner import plan
from orchestrator.planning.soundness import check_graph

FORMAT = "mkupgrade-plan/v1"
SIZE_LIMIT = 512 * 2**20
"""Bytes; a plan of 100,000 steps has about 170 MB."""
DEPTH_LIMIT = 24
"""Levels of nesting; our own plans have 9."""
_MOST_EDITS = 10
_LONGEST = 80


def save(graph: StepGraph) -> str:
    """The text of a plan file: one JSON object, `digest` first."""
    body = graph.model_dump_json(indent=1)
    return f'{{\n "digest": "{graph.digest()}",{body[1:]}\n'


def load(text: str | bytes, source: str = "plan") -> StepGraph:
    """Read a plan file.

    Args:
        text: its content.
        source: the file's name, for messages.

    Raises:
        PlanError: it is no plan, of another version, damaged, edited, or not safe to run; `where`
            and `details` name the place.
    """
    body = _parse(text, source)
    stated = _check_format(body, source)
    try:
        graph = StepGraph.model_validate(body)
        actual = graph.digest()
    except ValidationError as error:
        lines = tuple(_line(e) for e in error.errors(include_url=False, include_input=False)[:20])
        _refuse(source, "it does not hold what a plan holds", details=lines)
    except (ValueError, RecursionError) as error:
        _refuse(source, f"it cannot be digested: {error}")
    if actual != stated:
        _refuse(
            source,
            "its content does not fit its digest: it was edited or damaged",
            details=(f"digest: {stated} in the file, {actual} by content", *_edited(graph)),
        )
    if graph.spec is not None and graph.spec.digest() != graph.spec_digest:
        _refuse(source, "the spec in it is not the one that it was made from")
    check_graph(graph)
    return graph


def _parse(text: str | bytes, source: str) -> dict[str, Any]:
    if len(text) > SIZE_LIMIT:
        _refuse(source, f"{len(text)} bytes; no plan is larger than {SIZE_LIMIT}")
    try:
        body = json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        _refuse(f"{source}:{error.lineno}:{error.colno}", f"not JSON: {error.msg}")
    except UnicodeDecodeError as error:
        _refuse(source, f"not UTF-8 at byte {error.start}")
    except RecursionError:
        _refuse(source, f"nested deeper than {DEPTH_LIMIT} levels")
    except ValueError as error:
        _refuse(source, f"not JSON: {error}")
    if not isinstance(body, dict):
        _refuse(source, "not a plan: the outermost value is no object")
    if _deeper_than(body, DEPTH_LIMIT):
        _refuse(source, f"nested deeper than {DEPTH_LIMIT} levels")
    return body


def _check_format(body: dict[str, Any], source: str) -> str:
    """Takes `digest` out of the body and returns it."""
    found = body.get("format")
    if found != FORMAT:
        what = "not a plan" if found is None else f"format {str(found)[:64]!r}"
        _refuse(source, f'{what}; expected "format": "{FORMAT}"')
    digest = body.pop("digest", None)
    if not isinstance(digest, str):
        _refuse(source, 'there is no "digest" in it')
    return digest[:128]


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A key that occurs twice would mean one thing to us and another to somebody else."""
    result = dict(pairs)
    if len(result) != len(pairs):
        twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise ValueError(f'the key "{twice[:64]}" occurs twice in one object')
    return result


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _deeper_than(value: Any, limit: int) -> bool:
    level = [value]  # of JSON's types alone, whose classes can be compared: half the time
    for _ in range(limit - 1):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if type(outer) is dict else outer)
            if type(inner) is dict or type(inner) is list
        ]
        if not level:
            return False
    return any(level)


def _edited(graph: StepGraph) -> list[str]:
    """Where a plan is not what its own spec and host give: what was edited, as far as that can be
    told. Another version of mkupgrade may have made another plan of them."""
    if graph.spec is None:
        return []
    if graph.spec.digest() != graph.spec_digest:
        return ["spec: it is not the one that the plan was made from"]
    try:
        made = plan(graph.spec, graph.host)
    except MkupgradeError as error:
        return [f"its spec and host give no plan: {error.what}"]
    found = _differences(graph.model_dump(mode="json"), made.model_dump(mode="json"), "")
    lines = [f"{path}: {_shown(there)}, planned was {_shown(here)}" for path, there, here in found]
    return lines[:_MOST_EDITS] or ["host: it is not the one that the plan was made from"]


def _differences(there: Any, here: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    """Paths at which two JSON values differ, with both values."""
    if isinstance(there, dict) and isinstance(here, dict):
        for key in sorted(there.keys() | here.keys()):
            where = f"{path}.{key}" if path else key
            yield from _differences(there.get(key), here.get(key), where)
    elif isinstance(there, list) and isinstance(here, list) and len(there) == len(here):
        for index, (one, other) in enumerate(zip(there, here, strict=True)):
            yield from _differences(one, other, f"{path}[{index}]")
    elif there != here:
        yield path, there, here


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _line(error: Any) -> str:
    path = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in error["loc"])
    return f"{path.lstrip('.')}: {error['msg']}"


def _refuse(where: str, what: str, *, details: tuple[str, ...] = ()) -> NoReturn:
    raise PlanError(
        f"the plan cannot be used: {what}",
        where=where,
        state="nothing was changed",
        next_command="mkupgrade plan",
        details=details,
    )
