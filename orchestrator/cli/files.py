"""Files that a verb writes for people: whole or not at all."""

from __future__ import annotations

import os
import shlex
import tempfile
from pathlib import Path

from orchestrator.model.errors import ErrorClass, MkupgradeError


def write_text(path: Path, content: str, *, mode: int = 0o644) -> None:
    """Replace `path` by `content` in one step; a link is replaced, not followed.

    Raises:
        MkupgradeError: the directory or file cannot be written.
    """
    try:
        if path.is_dir():
            raise IsADirectoryError(21, "is a directory", str(path))
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        temporary = Path(name)
        try:
            with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as stream:
                stream.write(content)
            temporary.chmod(mode)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise MkupgradeError(
            f"cannot be written: {reason}",
            where=str(path),
            next_command=f"ls -ld {shlex.quote(str(path.parent))}",
            error_class=ErrorClass.IO,
        ) from error


def check_writable(path: Path) -> None:
    """Find out before anything happens that `write_text` would fail.

    Raises:
        MkupgradeError: it is a directory, or its directory is missing or not writable.
    """
    reason = None
    if path.is_dir():
        reason = "it is a directory"
    elif not path.parent.is_dir():
        reason = f"there is no directory {path.parent}"
    elif not os.access(path.parent, os.W_OK):
        reason = f"the directory {path.parent} is not writable"
    if reason is not None:
        raise MkupgradeError(
            f"the report cannot be written: {reason}",
            where=str(path),
            state="nothing was changed",
            error_class=ErrorClass.IO,
        )
