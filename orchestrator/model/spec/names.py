"""Names and paths that appear in a spec."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema

Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9._-]{0,46}[a-z0-9])?$")]
"""Lower-case, 1 to 48 characters: safe in step ids, file names and LUO session names."""

Label = Annotated[str, Field(min_length=1, max_length=63)]


def _absolute(value: Any) -> PurePosixPath:
    if not isinstance(value, str | PurePosixPath) or not str(value):
        raise ValueError("expected an absolute path")
    path = PurePosixPath(value)
    if not path.is_absolute() or ".." in path.parts or "\0" in str(path):
        raise ValueError('expected an absolute path without ".."')
    return path


AbsolutePath = Annotated[
    PurePosixPath,
    BeforeValidator(_absolute),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "pattern": "^/"}),
]
"""A path on the host; pure, so that validating a spec touches no file."""

Argv = Annotated[list[Annotated[str, Field(max_length=4096)]], Field(min_length=1, max_length=256)]
"""A command as a list of arguments. There is no shell: write ["sh", "-c", …] if you want one."""
