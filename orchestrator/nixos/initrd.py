"""An initrd with its secrets, where a system has some (`boot.initrd.secrets`).

The store is readable by everybody, so that secrets are not in the initrd that lies there: a program
of the system's own appends them to a copy (bootspec, `initrdSecrets`). A boot loader's installer
has it done on the boot partition; we have it done in a private directory, best in memory.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from orchestrator.model.errors import ErrorClass, MkupgradeError
from orchestrator.model.seams import Control
from orchestrator.nixos.errors import UNCHANGED
from orchestrator.system import files, subprocesses

SIZE_LIMIT = 2 << 30
"""Bytes of an initrd, with its secrets or without."""


@contextmanager
def with_secrets(
    initrd: Path, program: Path, sha256: str, directory: Path, control: Control
) -> Iterator[Path]:
    """A copy of the initrd, with what the program appends; gone again afterwards.

    Args:
        sha256: of the initrd as it lies there: another one is refused before the program runs.
        directory: a private one, made if it is not there.

    Raises:
        MkupgradeError: another initrd, or one with secrets that does not begin with it.
        ToolError: the program failed. SystemCallError: it cannot be copied.
    """
    files.make_private_directory(directory)
    copy = directory / f"initrd-{os.getpid()}"
    try:
        with files.open_followed(initrd) as source:
            files.hold_to_sha256(source, sha256, initrd)
            with files.durable_file(copy) as target:
                shutil.copyfileobj(source, target, files.CHUNK)
        size = copy.stat().st_size
        subprocesses.run([str(program), str(copy)], timeout=control.remaining(), cwd=directory)
        _require_longer(copy, size, sha256)
        copy.chmod(files.FILE_MODE)
        yield copy
    finally:
        copy.unlink(missing_ok=True)


def _require_longer(copy: Path, size: int, sha256: str) -> None:
    """The program was given a path, and could have put anything there."""
    with files.open_regular(copy) as file:
        now = os.fstat(file.fileno()).st_size
        if not size <= now <= SIZE_LIMIT:
            raise _refused(copy, f"{size} bytes before its secrets, {now} with them")
        begin = hashlib.sha256()
        while size > 0 and (chunk := file.read(min(size, files.CHUNK))):
            begin.update(chunk)
            size -= len(chunk)
    if begin.hexdigest() != sha256:
        raise _refused(copy, "with its secrets it does not begin with the initrd itself")


def _refused(copy: Path, what: str) -> MkupgradeError:
    return MkupgradeError(what, where=str(copy), state=UNCHANGED, error_class=ErrorClass.INVALID)
