"""Headers of kernel images: x86 bzImage, arm64 Image, EFI zboot, PE. Pure, over bytes.

Sources: Documentation/arch/x86/boot.rst, Documentation/arch/arm64/booting.rst,
drivers/firmware/efi/libstub/zboot-header.S, PE/COFF specification (certificate table).
Every offset that a header names is held against the file's length before it is used.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import Literal

_SECTOR = 512
_HDRS = 0x202
_ARM64_MAGIC = b"ARM\x64"
_CERTIFICATE_TABLE = 4
_ELF = b"\x7fELF"


class ImageFormatError(ValueError):
    """The text says what is wrong with the image."""


@dataclass(frozen=True)
class Header:
    """What the uncompressed front of an image says."""

    format: Literal["bzImage", "arm64 Image", "arm64 zboot"]
    payload: tuple[int, int]
    """Offset and length of the kernel proper."""
    compressed: bool
    banner: str = ""
    """Of a bzImage: "7.3.4 (who@where) #1 SMP ..."."""


def parse_header(data: bytes) -> Header:
    """Find out what an image is and where its kernel lies.

    Raises:
        ImageFormatError: not such an image, or one that is cut off.
    """
    if data[_HDRS : _HDRS + 4] == b"HdrS":
        return _bzimage(data)
    if data[56:60] == _ARM64_MAGIC:
        return _arm64(data)
    if data[:2] == b"MZ" and data[4:8] == b"zimg":
        return _zboot(data)
    raise ImageFormatError(_what_else(data))


def pe_certificates(data: bytes) -> bool:
    """Does the image carry a PE signature? Present, not verified: that is the kernel's work.

    An image that is no PE file at all has none.
    """
    if data[:2] != b"MZ" or len(data) < 0x40:
        return False
    (pe,) = struct.unpack_from("<I", data, 0x3C)
    if data[pe : pe + 4] != b"PE\0\0" or pe + 24 + 2 > len(data):
        return False
    optional = pe + 24
    (magic,) = struct.unpack_from("<H", data, optional)
    directories = optional + {0x10B: 96, 0x20B: 112}.get(magic, len(data))
    entry = directories + 8 * _CERTIFICATE_TABLE
    if entry + 8 > len(data):
        return False
    (count,) = struct.unpack_from("<I", data, directories - 4)
    offset, size = struct.unpack_from("<II", data, entry)
    if count <= _CERTIFICATE_TABLE or size < 8 or offset + size > len(data):
        return False
    length, _revision, kind = struct.unpack_from("<IHH", data, offset)
    return bool(8 < length <= size and kind == 2)  # 2: PKCS#7 signed data


def release_of(banner: str) -> str | None:
    """The release in a banner: its first word, if it looks like one."""
    word = banner.split(" ", 1)[0]
    return word if re.fullmatch(r"\d+\.\d+[\w.+~-]*", word) else None


def build_of(banner: str) -> str | None:
    """What `uname -v` says, out of a banner: from "#1 SMP ..." on."""
    start = banner.find("#")
    return banner[start:].strip() if start >= 0 else None


def _bzimage(data: bytes) -> Header:
    if len(data) < 0x260:
        raise ImageFormatError("bzImage cut off within its header")
    version, setup_sectors = struct.unpack_from("<H", data, 0x206)[0], data[0x1F1]
    if version < 0x208:
        raise ImageFormatError(
            f"bzImage of boot protocol {version >> 8}.{version & 255:02}: too old"
        )
    (paragraphs,) = struct.unpack_from("<I", data, 0x1F4)
    setup = ((setup_sectors or 4) + 1) * _SECTOR
    whole = setup + paragraphs * 16
    if len(data) < whole:
        raise ImageFormatError(f"bzImage cut off: {len(data)} bytes of {whole}")
    offset, length = struct.unpack_from("<II", data, 0x248)
    offset += setup
    if length < 8 or offset + length > len(data):
        raise ImageFormatError("bzImage whose header points outside of the file")
    return Header("bzImage", (offset, length), compressed=True, banner=_bzimage_banner(data, setup))


def _bzimage_banner(data: bytes, setup: int) -> str:
    (pointer,) = struct.unpack_from("<H", data, 0x20E)
    start = pointer + 0x200
    if pointer == 0 or start >= setup:
        return ""
    raw = data[start : min(start + 256, setup)].split(b"\0", 1)[0]
    return raw.decode("ascii", "replace")


def _arm64(data: bytes) -> Header:
    (size,) = struct.unpack_from("<Q", data, 16)
    # image_size counts .bss, which is not in the file: nothing to hold it against.
    if len(data) < 4096 or size < 4096:
        raise ImageFormatError("arm64 Image cut off")
    return Header("arm64 Image", (0, len(data)), compressed=False)


def _zboot(data: bytes) -> Header:
    if len(data) < 64:
        raise ImageFormatError("zboot image cut off within its header")
    offset, length = struct.unpack_from("<II", data, 8)
    if length < 8 or offset + length > len(data):
        raise ImageFormatError(f"zboot image cut off: {len(data)} bytes of {offset + length}")
    return Header("arm64 zboot", (offset, length), compressed=True)


def _what_else(data: bytes) -> str:
    if not data:
        return "empty file"
    if data.startswith(_ELF):
        return "an ELF file (vmlinux?): kexec_file_load takes the bzImage or Image made from it"
    if data.startswith(b"\x1f\x8b"):
        return "a gzip file: kexec_file_load takes the uncompressed Image inside"
    if len(data) < 0x260:
        return f"no kernel image: {len(data)} bytes only"
    return "no kernel image (neither bzImage nor arm64 Image nor zboot)"
