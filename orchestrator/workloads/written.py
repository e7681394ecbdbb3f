"""Files that a workload writes: are they still as they were when its state was taken?

Memory that is older than its files does again what was done: a log gets lines twice, a database
is overwritten. CRIU looks at sizes, and not even at those of files opened for appending.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from orchestrator.model.errors import MkupgradeError
from orchestrator.system import open_files
from orchestrator.workloads.meta import WrittenFile


def paths(pids: Iterable[int]) -> list[str]:
    """Regular files on disk that these processes have open for writing; sorted."""
    found: set[str] = set()
    for pid in pids:
        with suppress(MkupgradeError):
            known = open_files.mounts(pid)
            for file in open_files.open_files(pid):
                if not (file.is_path and file.writable) or file.deleted:
                    continue
                if Path(file.target).is_file() and not open_files.is_volatile(file.target, known):
                    found.add(file.target)
    return sorted(found)


def as_they_are(known: Iterable[str]) -> list[WrittenFile]:
    """Once nobody writes to them any more. One that is gone is left out: CRIU misses it."""
    found = []
    for path in known:
        with suppress(OSError):
            status = Path(path).stat()
            found.append(WrittenFile(path=path, size=status.st_size, mtime_ns=status.st_mtime_ns))
    return found


def changed(files: Iterable[WrittenFile]) -> list[str]:
    """The paths of those that are not as they were."""
    then = {file.path: file for file in files}
    now = {file.path: file for file in as_they_are(then)}
    return [path for path, file in then.items() if now.get(path) != file]
