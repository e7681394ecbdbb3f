"""The two system calls, as the double's kernel answers them."""

from __future__ import annotations

import errno
from collections.abc import Callable

from tests.support.multikernel.settings import HALT_SECONDS, Spawn
from tests.support.multikernel.world import Image, Life, World

UNLOAD = 0x1
NO_INITRAMFS = 0x4
MULTIKERNEL = 0x10
ID_MASK, ID_SHIFT = 0xFFE0, 5
STOCK_FLAGS = 0x3F
"""All that a stock kernel of 6.17 knows: our flag is NO_CMA there, and id 1 is FORCE_DTB."""

MAGIC1, MAGIC2 = 0xFEE1DEAD, 672274793
START, HALT, HALT_FORCE = 0x4D4B4C49, 0x4D4B4C48, 0x4D4B4C46


class Calls:
    """kexec_file_load(2) and reboot(2)."""

    def __init__(self, world: World, say: Callable[[str, str], None]) -> None:
        """
        Args:
            say: an instance writes to its console.
        """
        self._world = world
        self._say = say

    def kexec_file_load(
        self, kernel: bytes | None, initrd: bytes | None, cmdline: str, flags: int
    ) -> int:
        """The files' contents stand for their descriptors; None: -1.

        Raises:
            OSError
        """
        self._world.settle()
        if not flags & MULTIKERNEL or not self._world.variant.mounted:
            return self._host_image(kernel, flags)
        number = (flags & ID_MASK) >> ID_SHIFT
        if number <= 0:
            raise OSError(errno.EINVAL, "no id")
        self._world.lock()
        if flags & UNLOAD:
            return self._unload(number)
        instance = self._world.by_id(number)
        if instance.image is not None:
            raise OSError(errno.EBUSY, "an image is there")
        if self._world.faults.signature_errno is not None:
            raise OSError(self._world.faults.signature_errno, "signature")
        if kernel is None or not kernel.startswith(b"\x7fELF"):
            raise OSError(errno.ENOEXEC, "not an ELF vmlinux")
        if (initrd is None) != bool(flags & NO_INITRAMFS):
            raise OSError(errno.EBADF, "initrd and flag differ")
        instance.image = Image(kernel, initrd, cmdline)
        instance.status = "loaded"
        return 0

    def reboot(self, magic1: int, magic2: int, command: int, number: int) -> int:
        """Start and the two kinds of halt.

        Raises:
            OSError
        """
        if (magic1, magic2) != (MAGIC1, MAGIC2) or command not in {START, HALT, HALT_FORCE}:
            raise OSError(errno.EINVAL, "not a command of ours")
        if not self._world.variant.mounted:
            raise OSError(errno.EINVAL, "not a command of this kernel")
        self._world.settle()
        self._world.lock()
        {START: self._start, HALT: self._halt, HALT_FORCE: self._force}[command](number)
        return 0

    def _host_image(self, kernel: bytes | None, flags: int) -> int:
        """What the same call does to the host itself."""
        if flags & ~STOCK_FLAGS:
            raise OSError(errno.EINVAL, "flags that this kernel does not know")
        self._world.host_image = None if flags & UNLOAD else kernel
        return 0

    def _unload(self, number: int) -> int:
        instance = self._world.by_id(number)
        if instance.image is None:
            raise OSError(errno.ENOENT, "no image")
        if instance.status == "active":
            self._world.wrecked.append(instance.name)
        instance.image = None
        instance.life = None
        instance.status = "ready"
        return 0

    def _start(self, number: int) -> None:
        instance = self._world.by_id(number)
        if not instance.cpus:
            raise OSError(errno.EINVAL, "no CPU")
        if instance.image is None:
            raise OSError(errno.EINVAL, "no image")
        if not self._world.parked(instance):
            raise OSError(errno.EBUSY, "its CPUs are not parked")
        spawn = self._world.spawns.get(instance.name, Spawn())
        known = frozenset(self._world.members)
        instance.life = Life(spawn, self._world.clock.now, known, instance.cpus[0])
        instance.status = "active"
        self._say(instance.name, "" if spawn.console_lost else spawn.says)

    def _halt(self, number: int) -> None:
        instance = self._world.by_id(number)
        if instance.status != "active":
            raise OSError(errno.EINVAL, f"it is {instance.status}")
        if not self._world.alive(instance):
            self._world.clock.advance(HALT_SECONDS)
            self._world.settle()
            raise OSError(errno.ETIMEDOUT, "no answer from the instance")
        self._world.stop(instance, self._world.clock.now)

    def _force(self, number: int) -> None:
        instance = self._world.by_id(number)
        if instance.status not in {"active", "loaded"}:
            raise OSError(errno.EINVAL, f"it is {instance.status}")
        self._world.force_stop(instance)
