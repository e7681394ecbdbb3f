"""Which system a boot loader was given last, as its hook told us: a note for the next boot.

The note also says what was loaded for kexec by `nixos stage --preload`. The kernel keeps one image
and does not say whose it is: what the note says of this boot is ours, anything else somebody
else's. It is written before an image is loaded, where none is, and taken back after one is dropped.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from orchestrator.model.base import Record, read_json
from orchestrator.model.errors import MkupgradeError
from orchestrator.system import files

FILE = "nixos-staged.json"
_LIMIT = 1 << 20


class Preloaded(Record):
    """A system whose kernel we have loaded for kexec, for the next start."""

    toplevel: str
    boot_id: str
    """Of the boot in which it was loaded: another one has it no more."""


class Staged(Record):
    """A system that the next start of the machine should end in."""

    toplevel: str
    boot_id: str
    """Of the boot in which it was staged."""
    reasons: list[str] = []
    """What of it took another kernel then."""
    preloaded: Preloaded | None = None


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


def preloaded(state_dir: Path, boot_id: str) -> Preloaded | None:
    """What we have loaded for kexec in this boot, if it has not been dropped since."""
    staged = recall(state_dir)
    found = staged.preloaded if staged is not None else None
    return found if found is not None and found.boot_id == boot_id else None


def note_preloaded(state_dir: Path, found: Preloaded | None) -> None:
    """Write down what is about to be loaded, or (None) that what was loaded is no more.

    Raises:
        MkupgradeError: it cannot be written.
    """
    staged = recall(state_dir)
    if staged is not None and staged.preloaded != found:
        remember(state_dir, staged.model_copy(update={"preloaded": found}))
