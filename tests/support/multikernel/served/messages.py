"""What goes between tests and the process that serves the double."""

from __future__ import annotations

from dataclasses import dataclass

KEY = b"the double"


@dataclass(frozen=True)
class Call:
    """A system call as it was made; file descriptors only as whether there was one."""

    name: str
    number: int
    """The command of reboot(2), the flags of kexec_file_load(2)."""
    instance: int | None = None
    kernel: bool = False
    initrd: bool = False
    cmdline: bytes | None = None
    cmdline_length: int = 0


@dataclass(frozen=True)
class Ran:
    """A program that ended."""

    code: int
    out: str
    err: str
