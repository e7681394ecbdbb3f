"""What a plain scalar means: the core schema of YAML 1.2 (section 10.3.2), nothing of 1.1.

So `no`, `on`, `yes` and `1:30` are text, and octal numbers are written 0o755.
"""

from __future__ import annotations

import re

from orchestrator.loading.nodes import Value
from orchestrator.loading.problems import quoted

_NULL = frozenset(("", "~", "null", "Null", "NULL"))
_BOOL = {
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INT = re.compile(r"[-+]?[0-9]+")
_OCTAL = re.compile(r"0o[0-7]+")
_HEX = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT = re.compile(
    r"[-+]?(?:(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|\.(?:inf|Inf|INF))"
    r"|\.(?:nan|NaN|NAN)"
)
_LEADING_ZERO = re.compile(r"[-+]?0[0-9]+")
_MOST_DIGITS = 18
_BEGINS_NUMBERS = frozenset("-+.0123456789")


class ScalarError(ValueError):
    """A plain scalar that reads as a number, and not as the one that was probably meant."""


def resolve(text: str) -> Value:
    """The value of a plain (unquoted) scalar.

    Raises:
        ScalarError: a number with a leading zero or with too many digits.
    """
    if text in _NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    if text[0] not in _BEGINS_NUMBERS:
        return text
    return _resolve_number(text)


def _resolve_number(text: str) -> Value:
    for pattern, base in ((_INT, 10), (_OCTAL, 8), (_HEX, 16)):
        if pattern.fullmatch(text):
            _refuse_doubtful(text)
            return int(text[2:] if base != 10 else text, base)
    if _FLOAT.fullmatch(text):
        return float(text.replace(".", "") if text[-1].isalpha() else text)  # .inf and .nan
    return text


def _refuse_doubtful(text: str) -> None:
    if len(text) > _MOST_DIGITS:
        raise ScalarError(
            f"expected a number of at most {_MOST_DIGITS} characters; "
            f"if it is text, write it in quotes: {quoted(text)}"
        )
    if _LEADING_ZERO.fullmatch(text):
        raise ScalarError(
            f"expected a number without a leading zero (octal numbers begin with 0o); "
            f"if it is text, write it in quotes: {quoted(text)}"
        )
