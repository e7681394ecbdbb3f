"""Which kernels are installed here, and which of them to offer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from orchestrator.offers.offering import NewKernel
from orchestrator.offers.releases import is_older, kind_of, numbers_of


@dataclass(frozen=True)
class Places:
    """Where packages put kernels; anything but `REAL` is for tests."""

    boot: Path = Path("/boot")
    modules: Path = Path("/lib/modules")

    def images(self, release: str) -> Iterator[Path]:
        """Where the image of a release may be: as Debian has it, and as kernel-install(8) does."""
        for name in ("vmlinuz", "vmlinux"):
            yield self.boot / f"{name}-{release}"
        yield self.modules / release / "vmlinuz"


REAL: Final = Places()


def kernels(places: Places) -> list[NewKernel]:
    """Every release that has both modules and an image, by name.

    What a removed package leaves in a directory of modules is no kernel, and an image without
    modules is not what a package has brought.
    """
    if not places.modules.is_dir():
        return []
    found = []
    for directory in sorted(p for p in places.modules.iterdir() if p.is_dir()):
        image = next((i for i in places.images(directory.name) if i.is_file()), None)
        if image is not None:
            found.append(NewKernel(directory.name, image))
    return found


def newest(installed: Iterable[NewKernel], running: str) -> NewKernel | None:
    """The newest that is newer than what runs; None: there is none.

    One of the running kernel's kind goes before all others: who runs Debian's cloud kernel has
    not asked for the real-time one that is installed beside it.
    """
    newer = [kernel for kernel in installed if is_older(running, kernel.release)]
    alike = [kernel for kernel in newer if kind_of(kernel.release) == kind_of(running)]
    return max(alike or newer, key=lambda k: (numbers_of(k.release), k.release), default=None)
