"""Text -> tree of nodes: libyaml's events feed our composer; every error gets a place.

PyYAML's binding of libyaml, and nothing else of PyYAML: its resolver and constructor read YAML
1.1, where `no` is false. What a scalar means is decided in `scalars`. The scanner being C is what
bounds the time that a hostile document takes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from orchestrator.loading import limits
from orchestrator.loading.compose import NESTED, Composer, StopParsingError
from orchestrator.loading.findings import Finding
from orchestrator.loading.nodes import Mapping, Node, Place, Sequence
from orchestrator.loading.problems import Hints, quoted
from orchestrator.model.errors import NotSupportedError

_QUOTE = "text cannot begin with this character; put it in quotes"
_TAB = "a tab is not allowed here; indent with spaces"
_FRIENDLY = (
    ("that cannot start any token", _QUOTE),
    ("found a tab character", _TAB),
    ("mapping values are not allowed", 'a ":" is not allowed here; indent with care, or quote'),
    ("could not find expected ':'", 'expected ":" after the key'),
    ("did not find expected key", "the indentation does not fit the lines above"),
    ("did not find expected '-' indicator", "the indentation does not fit the lines above"),
    ("found unexpected end of stream", "the quoted text is never closed"),
    ("found unexpected document indicator", "the quoted text is never closed"),
    ("did not find expected ',' or ']'", 'expected "," or "]"'),
    ("did not find expected ',' or '}'", 'expected "," or "}"'),
    ("did not find expected <document start>", "the document goes on where it should have ended"),
    ("found unknown escape character", "unknown escape after the backslash; use single quotes"),
    ("exceeded maximum nesting depth", NESTED),
    ("found incompatible YAML document", "expected YAML 1.2"),
)
_STRANGE = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff]")
"""What YAML does not allow in a text, and what libyaml takes for the end of a line as YAML 1.1 did,
changing the text (U+0085, U+2028, U+2029)."""


def parse(
    text: str, noun: str = "plan", hints: Hints | None = None
) -> tuple[Node | None, list[Finding]]:
    """The tree of a YAML 1.2 document, as far as it could be read, and what is wrong with it.

    Never raises on any text; time and memory are bounded by `limits`.

    Args:
        noun: what the document should be, for the message when there is nothing in it.
        hints: what words are compared by; those of the document, if it is read further.
    """
    composer = Composer(hints or Hints())
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
        found = _character(strange[0])
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
    from yaml.error import MarkedYAMLError, YAMLError

    parser, last = _parser(text), Place(1, 1)
    try:
        while parser.check_event():
            event = parser.get_event()
            last = _place(event.start_mark)
            yield event
    except MarkedYAMLError as error:
        raise StopParsingError(_mark_of(error), _friendly(error, text)) from None
    except YAMLError as error:
        raise StopParsingError(last, f"not valid YAML, behind this place: {error}") from None


def _parser(text: str) -> Any:
    try:
        from yaml._yaml import CParser
    except ImportError:
        raise NotSupportedError(
            "YAML cannot be read: PyYAML was built without libyaml",
            state="nothing was changed",
            next_command="python3 -m pip install --force-reinstall PyYAML",
        ) from None
    return CParser(text)


def _character(character: str) -> str:
    kind = "surrogate" if "\ud800" <= character <= "\udfff" else "control character"
    return f"the {kind} U+{ord(character):04X}"


def _place(mark: Any) -> Place:
    return Place(mark.line + 1, mark.column + 1)


def _mark_of(error: Any) -> Place:
    """Where a quotation begins says more than the end of the file at which it was missed."""
    unclosed = "end of stream" in str(error.problem) or "document indicator" in str(error.problem)
    mark = error.context_mark if unclosed and error.context_mark else error.problem_mark
    mark = mark or error.context_mark
    return _place(mark) if mark else Place(1, 1)


def _friendly(error: Any, text: str) -> str:
    problem = str(error.problem or error.context or error)
    mark = error.problem_mark
    rest = text[mark.index :] if mark else ""
    if "did not find expected node content" in problem:
        told = _QUOTE if rest.strip() else "the document ends inside a list or mapping in brackets"
    elif rest.startswith("\t"):
        told = _TAB
    else:
        told = next((t for part, t in _FRIENDLY if part in problem), quoted(problem)[1:-1])
    return f"not valid YAML: {told}"
