"""Whether QEMU's `-kernel` can start an ELF vmlinux: by its PVH entry point, an ELF note.

docs.kernel.org/arch/x86/boot.html; include/xen/interface/elfnote.h (XEN_ELFNOTE_PHYS32_ENTRY).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

_HEADER = struct.Struct("<16sHHIQQQIHHH")
_SEGMENT = struct.Struct("<IIQQQQQQ")
_NOTE = struct.Struct("<III")
_PT_NOTE = 4
_PHYS32_ENTRY = 18


def why_qemu_cannot_start(image: Path) -> str | None:
    """None: it can. What is no ELF file is a bzImage to it."""
    data = image.read_bytes()
    if not data.startswith(b"\x7fELF") or (b"Xen\0", _PHYS32_ENTRY) in set(_notes(data)):
        return None
    return (
        f"{image} is an ELF vmlinux without a PVH entry, which QEMU cannot start as the host's "
        "kernel: give the bzImage of the same build, or build with CONFIG_PVH=y"
    )


def _notes(data: bytes) -> Iterator[tuple[bytes, int]]:
    """(owner, type) of each."""
    *_, offset, _, _, _, size, count = _HEADER.unpack_from(data)
    for number in range(count):
        kind, _, at, _, _, length, _, _ = _SEGMENT.unpack_from(data, offset + number * size)
        end = at + length
        while kind == _PT_NOTE and at + _NOTE.size <= end:
            name, content, note = _NOTE.unpack_from(data, at)
            at += _NOTE.size
            yield data[at : at + name], note
            at += -(-name // 4) * 4 + -(-content // 4) * 4
