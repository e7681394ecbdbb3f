"""A directory in memory, for tests that write much and ask nothing of the disk."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SHM = Path("/dev/shm")


@contextmanager
def in_memory(otherwise: Path) -> Iterator[Path]:
    """A new directory in tmpfs(5), or below `otherwise` where there is none."""
    base = SHM if SHM.is_dir() and os.access(SHM, os.W_OK) else otherwise
    with tempfile.TemporaryDirectory(dir=base) as directory:
        yield Path(directory)
