"""Which two kernels a rehearsal changes between, and what they can."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from orchestrator.model.errors import ErrorClass, RehearsalError
from orchestrator.rehearsal.cache import kernel_rooms
from orchestrator.system.kernel_image import inspect_image

MAKE_KERNELS = "make kernels"


@dataclass(frozen=True)
class RehearsalKernel:
    """A kernel to boot in the guest."""

    image: Path
    release: str
    """What `uname -r` says in it."""
    initrd: Path | None = None
    kho: bool = False
    """Built with KHO and LUO."""


@dataclass(frozen=True)
class KernelPair:
    source: RehearsalKernel
    target: RehearsalKernel
    origin: str
    """Where they come from, for people."""


def kernel(image: Path, initrd: Path | None = None) -> RehearsalKernel:
    """A kernel from an image file.

    Raises:
        RehearsalError: the file is no kernel image, or says no release.
    """
    found = inspect_image(image.absolute())
    if found.error is not None or found.release is None:
        raise RehearsalError(
            f"not a kernel to boot: {found.error or 'no release in it'}",
            where=str(image),
            error_class=ErrorClass.INVALID,
        )
    return RehearsalKernel(image.absolute(), found.release, initrd, found.kho_config is True)


def _version_key(found: RehearsalKernel) -> tuple[int, ...]:
    digits = found.release.partition("-")[0].partition("+")[0].split(".")
    return tuple(int(d) for d in digits if d.isascii() and d.isdigit())


def kernels_in(room: Path) -> list[RehearsalKernel]:
    """The kernels with KHO in a directory, oldest version first."""
    found = []
    if room.is_dir():
        for path in sorted(room.iterdir()):
            if path.is_file() and path.stat().st_size > (1 << 20):
                try:
                    candidate = kernel(path)
                except RehearsalError:
                    continue
                if candidate.kho:
                    found.append(candidate)
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
