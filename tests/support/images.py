"""Kernel images in miniature: right headers around next to nothing."""

from __future__ import annotations

import gzip
import struct


def bz_image(
    payload: bytes,
    banner: bytes = b"7.2.13 (who@where) #1 SMP PREEMPT_DYNAMIC Mon Nov 23 15:15:53 UTC 2026",
    *,
    setup_sectors: int = 4,
    version: int = 0x20F,
) -> bytearray:
    """A file with the header of an x86 bzImage (Documentation/arch/x86/boot.rst)."""
    setup = (setup_sectors + 1) * 512
    image = bytearray(setup)
    image[0x1F1] = setup_sectors
    padding = -len(payload) % 16
    struct.pack_into("<I", image, 0x1F4, (len(payload) + padding) // 16)
    image[0x1FE:0x200] = b"\x55\xaa"
    image[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", image, 0x206, version)
    struct.pack_into("<H", image, 0x20E, 0x300 - 0x200)
    struct.pack_into("<II", image, 0x248, 0, len(payload))
    image[0x300 : 0x300 + len(banner) + 1] = banner + b"\0"
    return image + payload + bytes(padding)


def kernel(release: str = "7.2.13", *, kho: bool = True, config: str | None = None) -> bytes:
    """What lies uncompressed inside an image, as far as anything looks at it."""
    strings = [b"\x7fELF", f"Linux version {release} (who@where) (gcc) #1 SMP x\n".encode()]
    if kho:
        strings += [b"kho-v4", b"luo-v5", b"memfd-v2"]
    if config is not None:
        strings.append(b"IKCFG_ST" + gzip.compress(config.encode()) + b"IKCFG_ED")
    return b"\0" + b"\0".join(strings) + b"\0"
