"""Which system a boot loader was given last, as its hook told us: a note for the next boot."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from orchestrator.model.base import Record, read_json
from orchestrator.model.errors import MkupgradeError
from orchestrator.system import files

FILE = "nixos-staged.json"
_LIMIT = 1 << 20


class Staged(Record):
    """A system that the next start of the machine should end in."""

    toplevel: str
    boot_id: str
    """Of the boot in which it was staged."""
    reasons: list[str] = []
    """What of it took another kernel then."""


def remember(state_dir: Path, staged: Staged) -> None:
    """In the place of what was staged before.

    Raises:
        MkupgradeError: the directory is not a private one, or cannot be written.
    """
    path = files.make_private_directory(state_dir) / FILE
    files.write_durably(path, staged.model_dump_json().encode())


def recall(state_dir: Path) -> Staged | None:
    """What was staged last; None: nothing, or nothing that can be read."""
    try:
        data = files.read_regular(state_dir / FILE, _LIMIT)
        return Staged.model_validate(read_json(data))
    except (MkupgradeError, ValueError):
        return None


def forget(state_dir: Path) -> None:
    """It has started, or something else was meant to. Again is fine."""
    with suppress(FileNotFoundError):
        (state_dir / FILE).unlink()
