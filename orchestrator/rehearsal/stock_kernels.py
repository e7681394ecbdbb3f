"""Debian's own kernels, as most hosts run them: modules, an initrd of their own, no KHO."""

from __future__ import annotations

from pathlib import Path

from orchestrator.model.errors import RehearsalError
from orchestrator.rehearsal.cache import cache_dir, locked
from orchestrator.rehearsal.debian import version_key
from orchestrator.rehearsal.image import Recipe, base_image, copy_out, names_in
from orchestrator.rehearsal.kernels import KernelPair, RehearsalKernel
from orchestrator.rehearsal.tools import Progress, quiet
from orchestrator.rehearsal.trees import SERIES, SUITE, stock_recipe


def stock_pair(progress: Progress = quiet) -> tuple[KernelPair, Recipe]:
    """Debian's kernels and the recipe of the guest that holds them (the first time: minutes).

    Raises:
        RehearsalError: packages cannot be had, or the tree cannot be made.
    """
    recipe = stock_recipe(progress)
    image = base_image(recipe, progress)
    room = cache_dir() / f"boot-{image.stem}"
    with locked(cache_dir() / ".boot.lock"):
        room.mkdir(parents=True, exist_ok=True)
        kernels = [_kernel_of(image, name, room) for name in names_in(image, "/boot")]
    found = sorted((k for k in kernels if k), key=lambda k: version_key(k.release))
    if len(found) != len(SERIES):
        raise RehearsalError(f"expected {len(SERIES)} kernels in the guest's /boot, not {found}")
    return KernelPair(found[0], found[-1], f"Debian {SUITE}"), recipe


def _kernel_of(image: Path, name: str, room: Path) -> RehearsalKernel | None:
    if not name.startswith("vmlinuz-"):
        return None
    release = name.removeprefix("vmlinuz-")
    for inside in (name, f"initrd.img-{release}"):
        if not (room / inside).exists():
            part = room / f".{inside}"
            copy_out(image, f"/boot/{inside}", part)
            part.replace(room / inside)
    return RehearsalKernel(room / name, release, room / f"initrd.img-{release}")
