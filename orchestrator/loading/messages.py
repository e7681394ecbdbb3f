"""Pydantic's errors in the operator's language."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from orchestrator.loading.findings import Finding
from orchestrator.loading.locate import Located, Locator
from orchestrator.loading.nodes import Mapping, Scalar, text_of
from orchestrator.loading.problems import Hints, quoted

YES_NO = frozenset(("yes", "no", "on", "off", "y", "n"))


def tell(error: dict[str, Any], locator: Locator) -> Finding:
    """One of `ValidationError.errors()`, told."""
    at = locator.locate(error["loc"])
    teller = _TELLERS.get(error["type"])
    if teller is not None:
        return teller(error, at, locator)
    message = _PLAIN.get(error["type"])
    if message is not None:
        return _value(at, message.format(**error.get("ctx", {})))
    return _value(at, _own_words(error))


def _value(at: Located, message: str, near: str | None = None) -> Finding:
    found = None if at.node is None else str(at.node)
    return Finding(at.place, at.path, message, found, near)


def _own_words(error: dict[str, Any]) -> str:
    text = str(error["msg"]).removeprefix("Value error, ").removeprefix("Assertion failed, ")
    return text[:1].lower() + text[1:]


def _value_error(error: dict[str, Any], at: Located, _: Locator) -> Finding:
    """Our own validators: those that begin with "expected" are about the value they saw."""
    message = _own_words(error)
    if message.startswith("expected") and isinstance(at.node, Scalar):
        return _value(at, message)
    return Finding(at.key_place, at.path, message)


def _missing(error: dict[str, Any], at: Located, locator: Locator) -> Finding:
    key = str(error["loc"][-1])
    around = locator.locate(error["loc"][:-1])
    message = f"required key {quoted(key)} is missing"
    return Finding(around.key_place, around.path, message, missing=key)


def _unknown_key(_: dict[str, Any], at: Located, locator: Locator) -> Finding:
    key = str(at.path[-1])
    known = at.parent_schema.get("properties", {})
    taken = at.parent.entries if isinstance(at.parent, Mapping) else {}
    near = locator.hints.nearest(key, [k for k in known if k not in taken])
    message = "unknown key" if near else f"unknown key; known here: {', '.join(known)}"
    return Finding(at.key_place, at.path, message, nearest=near, renames=key if near else None)


def _one_of(_: dict[str, Any], at: Located, locator: Locator) -> Finding:
    return _choice(at, at.own_schema.get("enum") or [at.own_schema.get("const")], locator.hints)


def _choice(at: Located, choices: list[Any], hints: Hints) -> Finding:
    words = [str(c) for c in choices]
    text = text_of(at.node)
    near = hints.nearest(text, words) if text else None
    return _value(at, f"expected {alternatives(words)}", near)


def alternatives(words: list[str]) -> str:
    """'"a"', or 'one of "a", "b"'."""
    shown = ", ".join(quoted(w) for w in words)
    return shown if len(words) == 1 else f"one of {shown}"


def _no_tag(error: dict[str, Any], at: Located, locator: Locator) -> Finding:
    key = str(error["ctx"]["discriminator"]).strip("'")
    choices = list(at.own_schema["discriminator"]["mapping"])
    message = f"required key {quoted(key)} is missing: {alternatives(choices)}"
    if isinstance(at.node, Mapping):
        wrong = locator.hints.nearest(key, at.node.entries)
        if wrong is not None and wrong != key:
            entry = at.node.entries[wrong]
            return Finding(entry.place, (*at.path, wrong), "unknown key", None, key, wrong)
    return Finding(at.place, at.path, message)


def _bad_tag(error: dict[str, Any], at: Located, locator: Locator) -> Finding:
    key = str(error["ctx"]["discriminator"]).strip("'")
    choices = list(at.own_schema["discriminator"]["mapping"])
    inside = locator.locate((*error["loc"], choices[0], key))
    return _choice(inside, choices, locator.hints)


def _text(_: dict[str, Any], at: Located, __: Locator) -> Finding:
    told = _value(at, "expected text")
    if isinstance(at.node, Scalar) and at.node.text:
        return Finding(
            told.place, told.path, f"expected text (write {quoted(at.node.text)})", told.found
        )
    return told


def _boolean(_: dict[str, Any], at: Located, __: Locator) -> Finding:
    if isinstance(at.node, Scalar) and at.node.text.lower() in YES_NO:
        return _value(at, "expected true or false (yes, no, on and off are text in YAML 1.2)")
    return _value(at, "expected true or false")


def _pattern(_: dict[str, Any], at: Located, __: Locator) -> Finding:
    words = at.own_schema.get("patternErrorMessage") or f"text like {at.own_schema.get('pattern')}"
    return _value(at, f"expected {words}")


def _key_of_mapping(at: Located) -> Finding:
    limits = at.parent_schema.get("propertyNames", {})
    message = "expected a key of {minLength} to {maxLength} characters".format(**limits)
    return Finding(at.key_place, at.path, message)


def _length(error: dict[str, Any], at: Located, _: Locator) -> Finding:
    if error["loc"] and error["loc"][-1] == "[key]":
        return _key_of_mapping(at)
    return _value(at, _LENGTHS[error["type"]].format(**error["ctx"]))


_Teller = Callable[[dict[str, Any], Located, Locator], Finding]

_LENGTHS = {
    "string_too_short": "expected a text of at least {min_length} character",
    "string_too_long": "expected a text of at most {max_length} characters",
}
_PLAIN = {
    "int_type": "expected a whole number",
    "int_parsing": "expected a whole number",
    "int_from_float": "expected a whole number",
    "int_parsing_size": "expected a smaller whole number",
    "finite_number": "expected a number",
    "float_type": "expected a number",
    "list_type": 'expected a list ("[a, b]", or one "- a" per line)',
    "dict_type": "expected a mapping (key: value)",
    "model_type": "expected a mapping (key: value)",
    "model_attributes_type": "expected a mapping (key: value)",
    "too_short": "expected a list with at least {min_length} item",
    "too_long": "expected a list with at most {max_length} items",
    "greater_than_equal": "expected a number of at least {ge}",
    "less_than_equal": "expected a number of at most {le}",
}
_TELLERS: dict[str, _Teller] = {
    "missing": _missing,
    "extra_forbidden": _unknown_key,
    "literal_error": _one_of,
    "enum": _one_of,
    "union_tag_invalid": _bad_tag,
    "union_tag_not_found": _no_tag,
    "string_type": _text,
    "bool_type": _boolean,
    "string_pattern_mismatch": _pattern,
    "string_too_short": _length,
    "string_too_long": _length,
    "value_error": _value_error,
}
