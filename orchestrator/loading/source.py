"""A file -> its text."""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from orchestrator.loading import limits
from orchestrator.loading.nodes import Place
from orchestrator.loading.problems import InvalidSpecError, Problem
from orchestrator.model.errors import ErrorClass, SpecError

_BOMS = (
    (b"\xef\xbb\xbf", None),
    (b"\xff\xfe\x00\x00", "UTF-32"),
    (b"\x00\x00\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
)


def read_source(path: str | os.PathLike[str]) -> str:
    """The text of a spec file: UTF-8, at most `limits.MAX_BYTES`.

    A pipe (`<(…)` of a shell) is read too; a directory or a device is refused.

    Raises:
        SpecError: it cannot be read, is too large, or is not UTF-8.
    """
    name = os.fspath(path)
    with open_source(name) as file:
        return decode(file.read(limits.MAX_BYTES + 1), name)


@contextmanager
def open_source(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """The file, open for reading; what goes wrong while it is read is told, too.

    Raises:
        SpecError: it cannot be read, or is a directory or a device.
    """
    name = os.fspath(path)
    try:
        _refuse_devices(name)
        with Path(name).open("rb") as file:
            yield file
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise SpecError(
            f"the spec cannot be read: {reason}",
            where=name,
            state="nothing was changed",
            next_command=_look(name),
            error_class=ErrorClass.INVALID,
        ) from None


def _look(name: str) -> str:
    """The command that shows what is there instead."""
    return f"ls -ld {shlex.quote(os.path.dirname(name) or '.')}"  # noqa: PTH120 - may be no path


def _refuse_devices(name: str) -> None:
    """Before opening: to open a device (a watchdog, a tape) may already do something."""
    mode = Path(name).stat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode)):
        raise SpecError(
            "the spec is not a file",
            where=name,
            state="nothing was changed",
            next_command=_look(name),
        )


def decode(data: bytes, name: str) -> str:
    """The text of a spec file's content.

    Args:
        name: of the file, for the error.

    Raises:
        InvalidSpecError: larger than `limits.MAX_BYTES`, or not UTF-8, with the place.
    """
    if len(data) > limits.MAX_BYTES:
        raise _error(name, Place(1, 1), f"too large: at most {limits.MAX_BYTES} bytes are read")
    for bom, encoding in _BOMS:
        if data.startswith(bom):
            if encoding is not None:
                raise _error(name, Place(1, 1), f"expected UTF-8, found {encoding}")
            data = data[len(bom) :]
            break
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line_start = before.rfind(b"\n") + 1
        place = Place(
            before.count(b"\n") + 1, len(before[line_start:].decode("utf-8", "replace")) + 1
        )
        message = f"expected UTF-8, found the byte 0x{data[error.start]:02X}"
        raise _error(name, place, message) from None


def _error(name: str, place: Place, message: str) -> InvalidSpecError:
    return InvalidSpecError([Problem(name, *place, "", message)], filename=name)
