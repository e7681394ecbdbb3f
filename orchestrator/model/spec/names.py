"""Names and paths that appear in a spec."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated, Any

from pydantic import Field, PlainSerializer, PlainValidator, WithJsonSchema


def matching(pattern: str, expected: str, **limits: Any) -> Any:
    """A `Field` with a pattern and what it means in words.

    The words go into the JSON Schema as `patternErrorMessage`, which editors (yaml-language-server)
    and our own loader show instead of the pattern.
    """
    return Field(pattern=pattern, json_schema_extra={"patternErrorMessage": expected}, **limits)


Name = Annotated[
    str,
    matching(
        r"^[a-z0-9]([a-z0-9._-]{0,46}[a-z0-9])?$",
        'a name: 1 to 48 lower-case letters, digits, ".", "_" or "-", '
        "first and last a letter or digit",
    ),
]
"""Lower-case, 1 to 48 characters: safe in step ids, file names and LUO session names."""

Label = Annotated[str, Field(min_length=1, max_length=63)]


PATH_MAX = 4095
"""Linux's own limit, without the final NUL (include/uapi/linux/limits.h)."""


def _absolute(value: Any) -> PurePosixPath:
    if not isinstance(value, str | PurePosixPath) or not str(value):
        raise ValueError("expected an absolute path")
    if len(str(value)) > PATH_MAX:
        raise ValueError(f"expected a path of at most {PATH_MAX} characters")
    path = PurePosixPath(value)
    if not path.is_absolute() or ".." in path.parts or "\0" in str(path):
        raise ValueError('expected an absolute path without ".."')
    return path


AbsolutePath = Annotated[
    PurePosixPath,
    PlainValidator(_absolute),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "pattern": "^/", "patternErrorMessage": "an absolute path"}),
]
"""A path on the host; pure, so that validating a spec touches no file."""

Argument = Annotated[
    str, matching(r"^[^\x00]*$", "an argument without NUL characters", max_length=4096)
]

Argv = Annotated[list[Argument], Field(min_length=1, max_length=256)]
"""A command as a list of arguments. There is no shell: write ["sh", "-c", …] if you want one."""
