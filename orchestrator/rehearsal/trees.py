"""The two Debian trees that guests are made of: bare, or with Debian's own kernels in it.

`python -m orchestrator.rehearsal.trees likely` makes the one that a rehearsal will need. It needs
the standard library only, so that it can run beside pip.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from orchestrator.model.errors import RehearsalError
from orchestrator.rehearsal.cache import kernel_rooms
from orchestrator.rehearsal.debian import AptRoot
from orchestrator.rehearsal.image import PACKAGES, Recipe, base_image
from orchestrator.rehearsal.tools import Progress, quiet

DEFAULT_RECIPE = Recipe()
"""No kernel in it: the guest's kernels have everything built in."""

SUITE = "trixie-backports"
"""Keeps several versions of the kernel side by side."""

SERIES = ("7.2", "7.3")

_INITRAMFS = "MODULES=list\nCOMPRESS=zstd\nCOMPRESSLEVEL=1\nRESUME=none\n"
_INITRAMFS_MODULES = "virtio_pci\nvirtio_blk\next4\n"
"""A guest knows what it needs to find its root; the rest comes from the root."""
_WITHOUT_UDEV = {
    "init-top": "#!/bin/sh\nexit 0\n",
    "init-bottom": '#!/bin/sh\n[ "$1" = prereqs ] || exec mount -n -o move /dev "$rootmnt/dev"\n',
}
"""In place of the scripts that start and stop udev in an initrd: its look at every device takes
ten seconds of emulation, and the kernel itself makes the one device that is waited for."""


BOOT_LOADERS = ("systemd-boot-efi", "systemd-boot-tools", "grub2-common", "grub-efi-amd64-unsigned")
"""systemd-boot and GRUB as Debian builds them, and their tools; none is installed to a disk."""


def stock_recipe(progress: Progress = quiet) -> Recipe:
    """The guest's tree with two of Debian's kernels in it, each with modules and initrd, and with
    the boot loaders that start such kernels.

    Raises:
        RehearsalError: the archive has no kernels of both series.
    """
    root = AptRoot(SUITE, progress)
    chosen = []
    for series in SERIES:
        numbers = series.replace(".", r"\.")
        found = root.packages(rf"linux-image-{numbers}\.\d+\+deb\d+-cloud-amd64")
        if not found:
            raise RehearsalError(f"Debian {SUITE} has no kernel {series} for cloud guests")
        chosen.append(found[-1])
    return Recipe(
        packages=(*PACKAGES, "initramfs-tools", "zstd", *BOOT_LOADERS, *chosen),
        extra_suites=(SUITE,),
        files={
            "/etc/initramfs-tools/conf.d/rehearsal": _INITRAMFS,
            "/etc/initramfs-tools/modules": _INITRAMFS_MODULES,
            **{f"/etc/initramfs-tools/scripts/{w}/udev": t for w, t in _WITHOUT_UDEV.items()},
        },
    )


def likely_recipe(progress: Progress = quiet) -> Recipe:
    """The recipe that a rehearsal without wishes will use, from a quick look at what is there."""
    for room in kernel_rooms():
        if room.is_dir() and sum(1 for p in room.iterdir() if _may_be_kernel(p)) >= 2:
            return DEFAULT_RECIPE
    return stock_recipe(progress)


def _may_be_kernel(path: Path) -> bool:
    return path.is_file() and not path.name.startswith(".") and path.stat().st_size > (1 << 20)


def main() -> int:
    """Arguments: `default`, `stock` or `likely`, several of them one after the other."""

    def tell(text: str) -> None:
        print(f"==> {text}", file=sys.stderr, flush=True)

    try:
        for wanted in sys.argv[1:]:
            base_image(_RECIPES[wanted](tell), tell)
    except RehearsalError as error:
        print("\n".join([f"error: {error}", *error.details]), file=sys.stderr)
        return 1
    return 0


_RECIPES: dict[str, Callable[[Progress], Recipe]] = {
    "default": lambda _tell: DEFAULT_RECIPE,
    "stock": stock_recipe,
    "likely": likely_recipe,
}


if __name__ == "__main__":
    sys.exit(main())
