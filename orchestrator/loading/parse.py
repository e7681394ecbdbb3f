"""Text -> tree of nodes: ruamel.yaml's parser feeds our composer; every error gets a place."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from orchestrator.loading import limits
from orchestrator.loading.compose import Composer, StopParsingError
from orchestrator.loading.findings import Finding
from orchestrator.loading.nodes import Mapping, Node, Place, Sequence
from orchestrator.loading.problems import quoted

_FRIENDLY = (
    ("found character '\\t'", "a tab is not allowed here; indent with spaces"),
    ("that cannot start any token", "text cannot begin with this character; put it in quotes"),
    ("mapping values are not allowed", 'a ":" is not allowed here; indent with care, or quote'),
    ("could not find expected ':'", 'expected ":" after the key'),
    ("expected <block end>", "the indentation does not fit the lines above"),
    ("found unexpected end of stream", "the quoted text is never closed"),
    ("found unexpected document separator", "the quoted text is never closed"),
    ("expected ',' or ']'", 'expected "," or "]"'),
    ("expected ',' or '}'", 'expected "," or "}"'),
    ("expected the node content", "the document ends inside a list or mapping in brackets"),
    ("expected '<document start>'", "the document goes on where it should have ended"),
    ("found unknown escape character", "unknown escape after the backslash; use single quotes"),
    ("found duplicate anchor", "the anchor is defined twice"),
)
_STRANGE = re.compile("[\0\x85\u2028\u2029]")
"""NUL, and what ruamel.yaml takes for the end of a line as YAML 1.1 did, changing the text."""


def parse(text: str, noun: str = "plan") -> tuple[Node | None, list[Finding]]:
    """The tree of a YAML 1.2 document, as far as it could be read, and what is wrong with it.

    Never raises on any text; time and memory are bounded by `limits`.

    Args:
        noun: what the document should be, for the message when there is nothing in it.
    """
    composer = Composer()
    try:
        _refuse_text(text)
        _feed(composer, text)
    except StopParsingError as stop:
        composer.found.append(Finding(stop.place, (), stop.message))
        return None, composer.found
    if composer.root is None or _is_nothing(composer.root):
        empty = f"expected a mapping with the keys of a {noun}, found an empty document"
        composer.found.append(Finding(Place(1, 1), (), empty))
        return None, composer.found
    return composer.root, composer.found


def _is_nothing(root: Node) -> bool:
    return not isinstance(root, Mapping | Sequence) and root.value is None


def _refuse_text(text: str) -> None:
    if len(text) > limits.MAX_BYTES:
        raise StopParsingError(Place(1, 1), f"too large: at most {limits.MAX_BYTES} characters")
    strange = _STRANGE.search(text)
    if strange:
        found = _character(ord(strange[0]))
        raise StopParsingError(place_of(text, strange.start()), f"expected text, found {found}")
    for number, line in enumerate(text.split("\n"), 1):
        if len(line) > limits.MAX_LINE:
            raise StopParsingError(
                Place(number, limits.MAX_LINE + 1),
                f"line too long: at most {limits.MAX_LINE} characters",
            )


def place_of(text: str, index: int) -> Place:
    """The place of the character at this index."""
    before = text.count("\n", 0, index)
    return Place(before + 1, index - (text.rfind("\n", 0, index) + 1) + 1)


def _feed(composer: Composer, text: str) -> None:
    documents = 0
    for event in _events(text):
        kind = type(event).__name__
        place = _place(event.start_mark)
        if kind == "ScalarEvent":
            composer.scalar(event, place)
        elif kind == "MappingStartEvent":
            composer.start(Mapping(place), event)
        elif kind == "SequenceStartEvent":
            composer.start(Sequence(place), event)
        elif kind in {"MappingEndEvent", "SequenceEndEvent"}:
            composer.end()
        elif kind == "AliasEvent":
            composer.alias(str(event.anchor), place)
        elif kind == "DocumentStartEvent":
            documents += 1
            _refuse_document(event, place, documents)


def _refuse_document(event: Any, place: Place, documents: int) -> None:
    if documents > 1:
        raise StopParsingError(place, "expected one document, found a second one")
    version = event.version
    if version is not None and tuple(version) != (1, 2):
        shown = ".".join(str(part) for part in version)
        raise StopParsingError(place, f"expected YAML 1.2, found %YAML {shown}")


def _events(text: str) -> Iterator[Any]:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError
    from ruamel.yaml.reader import ReaderError

    last = Place(1, 1)
    try:
        for event in YAML(typ="safe", pure=True).parse(text):
            last = _place(event.start_mark)
            yield event
    except ReaderError as error:
        raise StopParsingError(
            place_of(text, error.position), f"expected text, found {_character(error.character)}"
        ) from None
    except MarkedYAMLError as error:
        raise StopParsingError(_mark_of(error), _friendly(error)) from None
    except StopParsingError:
        raise
    except (YAMLError, ValueError, OverflowError, LookupError, TypeError, AttributeError) as error:
        # The scanner itself stumbles over some input, e.g. "\UFFFFFFFF".
        raise StopParsingError(last, f"not valid YAML, behind this place: {error}") from None


def _character(character: Any) -> str:
    code = character if isinstance(character, int) else ord(str(character)[:1] or "\0")
    return f"the control character U+{code:04X}"


def _place(mark: Any) -> Place:
    return Place(mark.line + 1, mark.column + 1)


def _mark_of(error: Any) -> Place:
    """Where a quotation begins says more than the end of the file at which it was missed."""
    unclosed = "end of stream" in str(error.problem) or "separator" in str(error.problem)
    mark = error.context_mark if unclosed and error.context_mark else error.problem_mark
    mark = mark or error.context_mark
    return _place(mark) if mark else Place(1, 1)


def _friendly(error: Any) -> str:
    problem = str(error.problem or error.context or error)
    for part, text in _FRIENDLY:
        if part in problem:
            return f"not valid YAML: {text}"
    return f"not valid YAML: {quoted(problem)[1:-1]}"
