"""What a kernel image, an initrd and a module directory say of themselves, without booting them.

Everything in these files is hostile: sizes are checked before they are used, decompression is
bounded, and a file that makes no sense ends in `Artifact.error`, never in an exception.
"""

from __future__ import annotations

from pathlib import Path

from orchestrator.model.host import Artifact


def inspect_image(path: str | Path) -> Artifact:
    """Read a kernel image: x86 bzImage, arm64 Image, or EFI zboot around one.

    Fills in size, sha256, release (as `uname -r` will say), the ABI strings of KHO, LUO and
    memfd, kho_config (None: the image does not hold its configuration, nor is there one in
    /usr/lib/modules/RELEASE/config or /boot/config-RELEASE) and pe_signed. What is wrong with
    it is in `error`; what could be read is filled in nevertheless.
    """
    raise NotImplementedError


def inspect_initrd(path: str | Path) -> Artifact:
    """Read an initrd: size, sha256; `error` unless it starts like a cpio archive, compressed
    or not."""
    raise NotImplementedError


def inspect_modules(path: str | Path) -> Artifact:
    """Look at a module directory, /usr/lib/modules/RELEASE: release and size; sha256 is that of
    modules.dep, which changes whenever a module is added or removed. `error` without one."""
    raise NotImplementedError
