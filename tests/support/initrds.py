"""Small initrds: archives in cpio's form newc, and static programs to put into them."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path


class NoStaticProgramsError(Exception):
    """This machine cannot make programs that need no libraries."""


def archive(files: Mapping[str, tuple[int, bytes]]) -> bytes:
    """Path without its first slash -> mode of a regular file, and content."""
    found = b"".join(
        _entry(name.encode(), 0o100000 | mode, data) for name, (mode, data) in files.items()
    )
    return found + _entry(b"TRAILER!!!", 0, b"")


def static_program(source: str, directory: Path) -> bytes:
    """C, compiled so that it runs where there is nothing else.

    Raises:
        NoStaticProgramsError
    """
    if shutil.which("cc") is None:
        raise NoStaticProgramsError("needs a C compiler")
    (directory / "program.c").write_text(source, encoding="ascii")
    command = ["cc", "-Wall", "-static", "-o", "program", "program.c"]
    made = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    if made.returncode:
        raise NoStaticProgramsError(f"no static programs can be made: {made.stderr[-200:]}")
    return (directory / "program").read_bytes()


def _entry(name: bytes, mode: int, data: bytes) -> bytes:
    numbers = [1, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0]
    head = b"070701" + b"".join(b"%08x" % number for number in numbers) + name + b"\0"
    return head + bytes(-len(head) % 4) + data + bytes(-len(data) % 4)
