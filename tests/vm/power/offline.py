"""What a cut has left on the disk, seen without booting it: the file system replays its journal,
as at a mount, and our own programs read what is there. Cheap enough for hundreds of cuts; what
`mkupgrade resume` makes of it takes a boot (`cut.py`).
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from orchestrator.engine.journal import Journal
from orchestrator.model.errors import MkupgradeError
from orchestrator.rehearsal.tools import find_tool, run_tool
from tests.vm.power.promises import gapless

_REPAIRED = 1
"""What e2fsck ends with where it had something to do: a journal to replay, say."""


def broken(image: Path, told: int) -> list[str]:
    """Promises about the disk alone that this image does not keep. The image is mended.

    Args:
        told: the last number that the workload had told of before the cut.
    """
    checked = subprocess.run(
        [find_tool("e2fsck"), "-p", image], capture_output=True, text=True, check=False
    )
    if checked.returncode > _REPAIRED:
        return [f"the file system is damaged: {checked.stdout}"]
    room = Path(tempfile.mkdtemp(prefix="mkupgrade-cut-"))
    try:
        run_tool(["debugfs", "-R", f"rdump / {room}", image], timeout=60.0, what="read the disk")
        return [*_ledger(room / "ledger/log", told), *_journal(room / "mkupgrade")]
    finally:
        shutil.rmtree(room)


def _ledger(path: Path, told: int) -> list[str]:
    text = path.read_text() if path.exists() else ""
    whole = text[: text.rfind("\n") + 1]  # its own start cuts half a line off
    problem = gapless(whole)
    kept = whole.count("\n")
    lost = [f"{told} had been told of, and the file holds {kept}"] if kept < told else []
    return [*lost, *([problem] if problem else [])]


def _journal(state_dir: Path) -> list[str]:
    """It opens, and its chain is whole."""
    if not (state_dir / "journal.db").exists():
        return []
    try:
        journal = Journal.open_readonly(state_dir)
        if journal is None:
            return []
        with journal:
            verified = journal.verify()
    except MkupgradeError as error:
        return [f"the journal: {error}"]
    return [] if verified.problem is None else [f"the journal is not whole: {verified}"]
