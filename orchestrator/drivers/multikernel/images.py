"""The image that an instance boots: on x86 an ELF vmlinux, on arm64 an Image.

A multikernel kernel's bzImage has no entry point for instances; the vmlinux inside it has (facts
1.1). What was signed is the file that it came in: a kernel that wants signatures refuses what was
unpacked, and takes a vmlinux that is signed itself.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from orchestrator.model.errors import ErrorClass, MkupgradeError
from orchestrator.system import calls, decompress, files, image_formats
from orchestrator.system.kernel_image import IMAGE_LIMIT

if TYPE_CHECKING:
    from orchestrator.agent.keys import Key

_ELF = b"\x7fELF"
KEY_FILE = Path("/etc/mkupgrade/agent.key")
"""Where the agent's unit looks for its key (`orchestrator/agent/mkupgrade-agent.service`)."""


@contextmanager
def instance_image(path: Path, sha256: str) -> Iterator[int]:
    """The very bytes that have this digest, open for reading, as an instance boots them.

    Args:
        sha256: of the file itself, packed or not.

    Raises:
        MkupgradeError: another file than was planned with, or none that an instance boots.
        SystemCallError: it cannot be read.
        DecompressError: what is inside cannot be unpacked.
    """
    with files.open_followed(path) as file:
        files.hold_to_sha256(file, sha256, path)
        kernel = _unpacked(path, file)
        if kernel is None:
            os.lseek(file.fileno(), 0, os.SEEK_SET)
            yield file.fileno()
            return
    fd = _read_only(kernel, path.name)
    try:
        yield fd
    finally:
        os.close(fd)


def _unpacked(path: Path, file: BinaryIO) -> bytes | None:
    """The kernel inside; None: the file is as it is booted."""
    data = file.read(len(_ELF))
    if data == _ELF:
        return None
    data += file.read(IMAGE_LIMIT)
    if len(data) > IMAGE_LIMIT:
        raise _refused(path, f"larger than {IMAGE_LIMIT >> 20} MiB and no ELF file")
    try:
        header = image_formats.parse_header(data)
    except image_formats.ImageFormatError as error:
        raise _refused(path, str(error)) from error
    if header.format == "arm64 Image":
        return None
    offset, length = header.payload
    kernel = data[offset : offset + length]
    if header.compressed:
        kernel = decompress.decompress(kernel)
    if header.format == "bzImage" and not kernel.startswith(_ELF):
        raise _refused(path, "what is inside the bzImage is no ELF file")
    return kernel


@contextmanager
def keyed_initrd(path: Path, key: Key | None) -> Iterator[int]:
    """An initrd, open for reading; with a key, it is added as `KEY_FILE`, in a copy in memory.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        if key is None:
            yield file.fileno()
            return
        data = file.read()
    # Archives stand one after the other, at multiples of four bytes (initramfs buffer format).
    fd = _read_only(data + bytes(-len(data) % 512) + _archive(key), path.name)
    try:
        yield fd
    finally:
        os.close(fd)


def _archive(key: Key) -> bytes:
    """A cpio archive in form `newc` with the key's file, root's and nobody else's."""
    made = b""
    for part in KEY_FILE.parents[-2::-1]:
        made += _entry(str(part)[1:], 0o040755, b"")
    made += _entry(str(KEY_FILE)[1:], 0o100600, key.text().encode())
    return made + _entry("TRAILER!!!", 0, b"")


def _entry(name: str, mode: int, data: bytes) -> bytes:
    numbers = (0, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
    head = b"070701" + b"".join(b"%08X" % number for number in numbers) + name.encode() + b"\0"
    return head + bytes(-len(head) % 4) + data + bytes(-len(data) % 4)


def _read_only(kernel: bytes, name: str) -> int:
    """In memory, sealed. The kernel loads no file that anybody has open for writing (ETXTBSY), so
    it is opened once more, and the writable descriptor is closed."""
    fd = calls.memfd(f"mkupgrade {name[:100]}")
    try:
        with os.fdopen(os.dup(fd), "wb") as file:
            file.write(kernel)
        calls.seal(fd)
        return os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(fd)


def _refused(path: Path, what: str) -> MkupgradeError:
    return MkupgradeError(
        what,
        where=str(path),
        state="nothing was loaded",
        next_command=f"file {path}",
        error_class=ErrorClass.INVALID,
    )
