"""Disks that a guest boots from through UEFI: Debian's systemd-boot or GRUB, on an ESP.

What lies on them is what an installer leaves: the loader at the path that firmware looks at, and
its configuration.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from orchestrator.rehearsal.cache import drop_old, kept
from orchestrator.rehearsal.firmware import esp_disk
from orchestrator.rehearsal.image import copy_out
from orchestrator.rehearsal.kernels import RehearsalKernel

_FIRMWARE_LOOKS_AT = "EFI/BOOT/BOOTX64.EFI"
_SYSTEMD_BOOT = "/usr/lib/systemd/boot/efi/systemd-bootx64.efi"
_GRUB = "/usr/lib/grub/x86_64-efi/monolithic/grubx64.efi"
"""The image that Debian signs; on its own it reads /EFI/debian/grub.cfg of its ESP."""


def entry_id(token: str, release: str) -> str:
    """Id of a kernel's entry, as kernel-install forms it."""
    return f"{token}-{release}.conf"


def systemd_boot_disk(
    base: Path, token: str, kernels: Sequence[RehearsalKernel], options: str, default: str
) -> Path:
    """systemd-boot with a Boot Loader Specification entry per kernel.

    Args:
        base: image of the Debian tree that holds the loader (`trees.BOOT_LOADERS`).
        token: the entry token, e.g. the machine id.
        options: the kernels' command line.
        default: release of the kernel that loader.conf names.
    """
    files: dict[str, bytes | Path] = {
        _FIRMWARE_LOOKS_AT: _loader(base, _SYSTEMD_BOOT),
        "EFI/systemd/systemd-bootx64.efi": _loader(base, _SYSTEMD_BOOT),
        "loader/loader.conf": f"default {entry_id(token, default)}\ntimeout 0\n".encode(),
    }
    for kernel in kernels:
        room = f"{token}/{kernel.release}"
        files[f"{room}/linux"] = kernel.image
        lines = [
            f"title Debian GNU/Linux\nversion {kernel.release}\nmachine-id {token}",
            f"sort-key debian\noptions {options}\nlinux /{room}/linux",
        ]
        if kernel.initrd is not None:
            files[f"{room}/initrd"] = kernel.initrd
            lines.append(f"initrd /{room}/initrd")
        text = "\n".join(lines) + "\n"
        files[f"loader/entries/{entry_id(token, kernel.release)}"] = text.encode()
    return esp_disk(files)


def grub_disk(base: Path, kernel: str, options: str) -> Path:
    """GRUB that goes on to /boot/grub/grub.cfg of the root's disk, as Debian installs it.

    Args:
        base: image of the Debian tree that holds the loader (`trees.BOOT_LOADERS`).
        kernel: path in the guest of what is booted as long as there is no grub.cfg.
        options: that kernel's command line.
    """
    config = f"""search --no-floppy --file --set=root /usr/sbin/mkupgrade-init
set prefix=($root)/boot/grub
if [ -e $prefix/grub.cfg ]; then
    configfile $prefix/grub.cfg
fi
linux {kernel} {options}
boot
"""
    loader = _loader(base, _GRUB)
    return esp_disk({_FIRMWARE_LOOKS_AT: loader, "EFI/debian/grub.cfg": config.encode()})


def _loader(base: Path, inside: str) -> Path:
    """A loader's .efi file out of the Debian tree."""

    def make(product: Path, work: Path) -> None:
        copy_out(base, inside, work / "loader")
        (work / "loader").replace(product)

    digest = hashlib.sha256(f"{base.name} {inside}".encode()).hexdigest()
    loader = kept("loader", digest, ".efi", make)
    drop_old("loader", keep=4)
    return loader
