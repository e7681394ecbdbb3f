"""Files that a verb writes for people: whole or not at all."""

from __future__ import annotations

import os
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
            f"cannot be written: {reason}", where=str(path), error_class=ErrorClass.IO
        ) from error
