"""A pretend host's boot loaders: what grub-mkconfig wrote, and tools that change it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from orchestrator.system.subprocesses import Completed

# As grub-mkconfig of Debian writes it, shortened.
GRUB_CFG = r"""
if [ -s $prefix/grubenv ]; then
  set have_grubenv=true
  load_env
fi
if [ "${next_entry}" ] ; then
   set default="${next_entry}"
   set next_entry=
   save_env next_entry
   set boot_once=true
else
   set default="${saved_entry}"
fi
function gfxmode {
	set gfxpayload="${1}"
}
menuentry 'Debian GNU/Linux' --class debian --class os $menuentry_id_option 'gnulinux-simple-11' {
	load_video
	if [ x$grub_platform = xxen ]; then insmod xzio; insmod lzopio; fi
	linux	/boot/vmlinuz-7.3.4+deb13-amd64 root=UUID=11 ro  quiet
	initrd	/boot/initrd.img-7.3.4+deb13-amd64
}
submenu 'Advanced options for Debian GNU/Linux' $menuentry_id_option 'gnulinux-advanced-11' {
	menuentry 'Debian GNU/Linux, with Linux 7.3.4+deb13-amd64' --class os $menuentry_id_option 'gnulinux-7.3.4+deb13-amd64-advanced-11' {
		linux	/boot/vmlinuz-7.3.4+deb13-amd64 root=UUID=11 ro  quiet
	}
	menuentry 'Debian GNU/Linux, with Linux 7.3.4+deb13-amd64 (recovery mode)' --class os $menuentry_id_option 'gnulinux-7.3.4+deb13-amd64-recovery-11' {
		linux	/boot/vmlinuz-7.3.4+deb13-amd64 root=UUID=11 ro single
	}
	menuentry 'Debian GNU/Linux, with Linux 7.2.12+deb13-amd64' --class os $menuentry_id_option 'gnulinux-7.2.12+deb13-amd64-advanced-11' {
		linux	/boot/vmlinuz-7.2.12+deb13-amd64 root=UUID=11 ro  quiet
	}
}
menuentry "Windows" {
	chainloader +1
}
"""  # noqa: E501
OLD = "gnulinux-advanced-11>gnulinux-7.2.12+deb13-amd64-advanced-11"
NEW = "gnulinux-advanced-11>gnulinux-7.3.4+deb13-amd64-advanced-11"


def grubenv(**values: str) -> str:
    lines = ["# GRUB Environment Block", *(f"{k}={v}" for k, v in values.items())]
    return ("\n".join(lines) + "\n").ljust(1024, "#")


class Tools:
    """Stands for grub's and systemd's programs; they change this pretend state."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.ran: list[list[str]] = []
        self.entries: list[dict[str, Any]] = []
        self.broken = False

    def run(self, argv: Sequence[str], **_: Any) -> Completed:
        self.ran.append(list(argv))
        if argv[0] == "bootctl":
            return self._bootctl(list(argv))
        if not self.broken and argv[0] == "grub-set-default":
            (self.root / "boot/grub/grubenv").write_text(grubenv(saved_entry=argv[-1]))
        return Completed(tuple(argv), 0, b"", b"")

    def _bootctl(self, argv: list[str]) -> Completed:
        if argv[1] == "set-default" and not self.broken:
            for entry in self.entries:
                entry["isDefault"] = entry.get("id") == argv[2]
        return Completed(tuple(argv), 0, json.dumps(self.entries).encode(), b"")
