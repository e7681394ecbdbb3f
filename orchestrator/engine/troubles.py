"""What the journal says when it cannot be read, written or believed."""

from __future__ import annotations

import shlex
import sqlite3
from pathlib import Path

from orchestrator.engine.places import df, is_full
from orchestrator.model.errors import JournalError


class translated:  # noqa: N801 - used like a function
    """Errors of SQLite and of files as ours."""

    __slots__ = ("_path",)

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        # UnicodeDecodeError: sqlite3 stumbles over its own message about text that is no UTF-8.
        if isinstance(error, (sqlite3.Error, OSError, UnicodeDecodeError)):
            path = self._path
            raise JournalError(
                f"the journal cannot be used: {error}",
                where=str(path),
                state="nothing was changed by this command",
                next_command=df(path) if is_full(path) else "mkupgrade history --verify",
            ) from error


def damaged(path: Path, what: str) -> JournalError:
    return JournalError(
        f"the journal is damaged: {what}",
        where=str(path),
        state="nothing was changed by this command",
        next_command="mkupgrade history --verify",
    )


def unwritable(path: Path, why: str) -> JournalError:
    return JournalError(
        f"the journal cannot be written: {why}",
        where=str(path),
        state="what was running may have taken effect; `mkupgrade resume` looks before it goes on",
        next_command="mkupgrade status",
    )


def gone(path: Path) -> JournalError:
    return JournalError(
        "the journal was moved, removed or replaced while a transaction runs",
        where=str(path),
        state="nothing more is started; the host is as the last steps left it. Moved back to its "
        "place, the journal is whole, and `mkupgrade resume` looks before it goes on",
        next_command=f"ls -la {shlex.quote(str(path.parent))}",
    )
