"""Running other programs: argument lists, time limits, bounded output, no orphans."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from orchestrator.model.errors import ErrorClass, NotSupportedError, ToolError

OUTPUT_LIMIT = 4 << 20
"""Bytes kept of each stream; a program may write more, it is dropped."""
TAIL_LINES = 15

PACKAGES = {
    "bootctl": "systemd-boot-tools",
    "criu": "criu",
    "grub-editenv": "grub-common",
    "grub-reboot": "grub2-common",
    "grub-set-default": "grub2-common",
    "ip": "iproute2",
    "lz4": "lz4",
    "lzop": "lzop",
    "nft": "nftables",
    "ss": "iproute2",
    "systemctl": "systemd",
    "systemd-analyze": "systemd",
    "xz": "xz-utils",
    "zstd": "zstd",
}
"""Program -> Debian package, for the message when it is missing."""


@dataclass(frozen=True)
class Completed:
    """A program that ended."""

    argv: tuple[str, ...]
    returncode: int
    """Exit status; -N: killed by signal N."""
    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        """stdout, decoded, without white space around it."""
        return self.stdout.decode("utf-8", "replace").strip()

    @property
    def error_text(self) -> str:
        return self.stderr.decode("utf-8", "replace").strip()


def available(program: str) -> str | None:
    """Path of a program on PATH, or None."""
    return shutil.which(program)


def missing(program: str) -> NotSupportedError:
    """The error that names the package to install."""
    package = PACKAGES.get(Path(program).name)
    return NotSupportedError(
        f"program {program} is not installed",
        next_command=f"apt install {package}" if package else None,
    )


def run(
    argv: Sequence[str],
    *,
    timeout: float,
    input: bytes | None = None,  # noqa: A002 -- subprocess.run's word
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    pass_fds: Sequence[int] = (),
    check: bool = True,
) -> Completed:
    """Run a program to its end, in a session of its own, with LC_ALL=C.

    Args:
        timeout: seconds; then its whole process group is killed.
        env: added to the environment.
        check: raise when the exit status is not 0.

    Raises:
        NotSupportedError: not installed; names the Debian package.
        ToolError: exit status not 0 (class FAILED) or out of time (class TIMEOUT), with the
            last lines it wrote.
    """
    raise NotImplementedError
