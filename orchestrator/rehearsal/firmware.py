"""UEFI firmware for the guest, and the disk with the boot loader that it starts.

OVMF is Debian's build of EDK II. The disk has a GPT and one partition, the EFI system partition
(ESP); it is made from a list of files, without loop devices and mounts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from orchestrator.model.errors import ErrorClass, RehearsalError
from orchestrator.rehearsal.cache import drop_old, kept
from orchestrator.rehearsal.tools import run_tool

_FORMAT = 1
"""Raised when the way a disk is made changes."""

_OVMF = Path("/usr/share/OVMF")
_MIB = 1 << 20
_SIZE = 160 * _MIB
"""Of the disk; sparse. Room for two kernels with their initrds."""
_SECTOR = 512
_START = _MIB
"""Where the ESP begins; as much is left behind it, for the second copy of the GPT."""


@dataclass(frozen=True)
class Firmware:
    """What the machine starts with instead of a kernel of QEMU's `-kernel`."""

    code: Path
    variables: Path
    """Never written to: EFI variables last as long as the QEMU process, over every reset."""
    disk: Path
    """Holds the ESP; never written to either."""


def ovmf(disk: Path) -> Firmware:
    """OVMF without Secure Boot, booting `disk`.

    Raises:
        RehearsalError: it is not installed.
    """
    code, variables = _OVMF / "OVMF_CODE_4M.fd", _OVMF / "OVMF_VARS_4M.fd"
    for path in (code, variables):
        if not path.is_file():
            raise RehearsalError(
                f"no UEFI firmware for QEMU: {path} is missing",
                next_command="apt-get install ovmf",
                error_class=ErrorClass.REFUSED,
            )
    return Firmware(code, variables, disk)


def esp_disk(files: Mapping[str, bytes | Path]) -> Path:
    """A disk whose ESP holds `files` (path from the ESP's root -> content), from the cache or
    made now (about 1 s).

    Raises:
        RehearsalError: a tool is missing or failed.
    """
    digests = {p: hashlib.sha256(_read(content)).hexdigest() for p, content in files.items()}
    text = json.dumps([_FORMAT, _SIZE, digests], sort_keys=True)

    def make(product: Path, work: Path) -> None:
        with product.open("wb") as file:
            file.truncate(_SIZE)
        what = "make the guest's EFI system partition"
        partition = ["--clear", "--new=1:0:0", "--typecode=1:ef00", "--change-name=1:esp"]
        run_tool(["sgdisk", *partition, product], timeout=60, what=what)
        esp = f"{product}@@{_START}"
        sectors = (_SIZE - 2 * _START) // _SECTOR
        geometry = ["-h", "64", "-s", "32", "-T", str(sectors), "-H", str(_START // _SECTOR)]
        run_tool(["mformat", "-i", esp, *geometry, "-v", "ESP", "::"], timeout=60, what=what)
        directories = sorted({str(d) for p in files for d in PurePosixPath(p).parents})
        for directory in directories[1:]:  # all but the root, parents first
            run_tool(["mmd", "-i", esp, f"::/{directory}"], timeout=60, what=what)
        for number, (path, content) in enumerate(files.items()):
            source = work / str(number)
            source.write_bytes(_read(content))
            run_tool(["mcopy", "-i", esp, source, f"::/{path}"], timeout=60, what=what)

    disk = kept("esp", hashlib.sha256(text.encode()).hexdigest(), ".img", make)
    drop_old("esp", keep=4)
    return disk


def _read(content: bytes | Path) -> bytes:
    return content if isinstance(content, bytes) else content.read_bytes()
