"""Which two kernels a rehearsal changes between, and what they can."""

from __future__ import annotations

import os
import struct
import sys
from dataclasses import dataclass
from pathlib import Path

from orchestrator.model.errors import ErrorClass, RehearsalError
from orchestrator.rehearsal.cache import SOURCE_ROOT, cache_dir

MAKE_KERNELS = "make kernels"

_MAGIC = 0x53726448  # "HdrS"; Documentation/arch/x86/boot.rst, offset 0x202
_HEADER = struct.Struct("<I")


@dataclass(frozen=True)
class RehearsalKernel:
    """A kernel to boot in the guest."""

    image: Path
    release: str
    """What `uname -r` says in it."""
    initrd: Path | None = None


@dataclass(frozen=True)
class KernelPair:
    source: RehearsalKernel
    target: RehearsalKernel
    origin: str
    """Where they come from, for people."""


def image_release(image: Path) -> str:
    """The release inside a bzImage, from its boot header (field kernel_version).

    Raises:
        RehearsalError: not a bzImage, or without a version.
    """
    try:
        with image.open("rb") as file:
            head = file.read(0x8000)
    except OSError as error:
        raise RehearsalError(
            f"cannot read the kernel: {error.strerror}", where=str(image)
        ) from None
    refused = RehearsalError(
        "not a Linux bzImage with a release in its header",
        where=str(image),
        error_class=ErrorClass.INVALID,
    )
    if len(head) < 0x210 or _HEADER.unpack_from(head, 0x202)[0] != _MAGIC:
        raise refused
    offset = struct.unpack_from("<H", head, 0x20E)[0] + 0x200
    text, ended, _ = head[offset : offset + 256].partition(b"\0")
    words = text.decode("ascii", errors="replace").split()
    if not ended or not words:
        raise refused
    return words[0]


def kernel(image: Path, initrd: Path | None = None) -> RehearsalKernel:
    """A kernel from an image file."""
    return RehearsalKernel(image.absolute(), image_release(image), initrd)


def kernel_rooms() -> list[Path]:
    """Directories that may hold kernels made for rehearsals, best first.

    $MKUPGRADE_KERNELS; the directory shared/kernels beside the source tree; the cache that
    `make kernels` fills.
    """
    chosen = os.environ.get("MKUPGRADE_KERNELS")
    rooms = [Path(chosen)] if chosen else [SOURCE_ROOT.parent / "shared" / "kernels"]
    return [*rooms, cache_dir() / "kernels"]


def _version_key(found: RehearsalKernel) -> tuple[int, ...]:
    digits = found.release.partition("-")[0].partition("+")[0].split(".")
    return tuple(int(d) for d in digits if d.isdigit())


def kernels_in(room: Path) -> list[RehearsalKernel]:
    """The bzImages of a directory, oldest version first."""
    found = []
    if room.is_dir():
        for path in sorted(room.iterdir()):
            if path.is_file() and path.stat().st_size > (1 << 20):
                try:
                    found.append(kernel(path))
                except RehearsalError:
                    continue
    return sorted(found, key=_version_key)


def prepared_pair() -> KernelPair | None:
    """Two kernels with KHO that are at hand: the oldest and the newest of the first room
    that holds two versions."""
    for room in kernel_rooms():
        found = kernels_in(room)
        if len({k.release for k in found}) >= 2:
            return KernelPair(found[0], found[-1], f"{room}")
    return None


def main() -> int:
    """`python -m orchestrator.rehearsal.kernels`: 0 if two kernels with KHO are at hand."""
    pair = prepared_pair()
    if pair is None:
        return 1
    print(f"==> kernels: {pair.source.release} and {pair.target.release} from {pair.origin}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
