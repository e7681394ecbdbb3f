"""One multikernel kernel without a kernel: /sys/fs/multikernel, its two calls, its devices.

The face is file operations on paths below /sys/fs/multikernel, which raise OSError as the kernel
does, so that it can be called in the process or served as a file system. Behaviours are those of
Linux 7.0-mk2 and later as read in its source; tests/drivers/multikernel/test_double.py names each.
"""

from __future__ import annotations

import errno
import re
import stat
from dataclasses import dataclass

from orchestrator.drivers.multikernel.trees.forms import MemoryRegion, PciDevice
from tests.support.multikernel.baseline import write_baseline
from tests.support.multikernel.calls import Calls
from tests.support.multikernel.devices import Devices
from tests.support.multikernel.memory import Memory
from tests.support.multikernel.overlays import Overlays, Transaction
from tests.support.multikernel.settings import GRANULE, NEWER, PAGE, Variant
from tests.support.multikernel.world import World

MAGIC = 0x6D6B6673
_TX = re.compile(r"overlays/tx_([1-9]\d*)(?:/(\w+))?")
_INSTANCE = re.compile(r"instances/([^/]+)(?:/(\w+))?")
_INSTANCE_FILES = ("device_tree", "id", "status")
_TX_FILES = ("dtbo", "id", "instance", "resources", "status")
_SAID_SIZE = 1 << 20


@dataclass(frozen=True)
class Stat:
    """Of a path: the mode with its kind, and the size that is said, not what a read gives."""

    mode: int
    size: int = PAGE


class Handle:
    """An open file. An instance's tree is made anew for each read: it can tear."""

    def __init__(self, double: Double, path: str) -> None:
        self._double = double
        self._path = path
        self._offset = 0
        self._kept = None if path.startswith("instances/") else double.content(path)

    def read(self, most: int = PAGE) -> bytes:
        """read(2): a page at most."""
        data = self.pread(most, self._offset)
        self._offset += len(data)
        return data

    def pread(self, most: int, offset: int) -> bytes:
        """pread(2): a page at most."""
        whole = self._double.content(self._path) if self._kept is None else self._kept
        return whole[offset : offset + min(most, PAGE)]


class Double:
    """A host with CPUs 0, 2, 4, …: physical ids are not Linux's numbers."""

    def __init__(
        self,
        variant: Variant = NEWER,
        *,
        cpus: int = 16,
        memory: tuple[MemoryRegion, ...] = (MemoryRegion(32 * GRANULE, 128 * GRANULE, 0),),
        pci: tuple[PciDevice, ...] = (),
    ) -> None:
        self.world = World(
            Memory(memory),
            [2 * number for number in range(cpus)],
            variant,
            host_pci={device.address: device for device in pci},
        )
        self.overlays = Overlays(self.world)
        self.devices = Devices(self.world)
        self.calls = Calls(self.world, self.devices.say)

    @property
    def magic(self) -> int:
        """What statfs(2) says."""
        return MAGIC if self.world.variant.mounted else 0x62656572

    def open(self, path: str) -> Handle:
        """For reading."""
        if stat.S_ISDIR(self.stat(path).mode):
            raise OSError(errno.EISDIR, path)
        if not self.stat(path).mode & 0o444:
            raise OSError(errno.EACCES, path)
        return Handle(self, path)

    def read(self, path: str) -> bytes:
        """All of it, as a reader gets it that reads to the end."""
        handle = self.open(path)
        return b"".join(iter(handle.read, b""))

    def write(self, path: str, data: bytes, offset: int = 0) -> int:
        """One write(2): the bytes that were taken."""
        self.world.settle()
        if path == "overlays/new":
            return self.overlays.write(data, offset)
        if path == "device_tree":
            return write_baseline(self.world, data, offset)
        raise OSError(errno.EISDIR if stat.S_ISDIR(self.stat(path).mode) else errno.EACCES, path)

    def listdir(self, path: str) -> list[str]:
        self._mounted(path)
        found = _TX.fullmatch(path)
        if path == "":
            return ["device_tree", "instances", "overlays"]
        if path == "instances":
            return list(self.world.instances)
        if path == "overlays":
            return ["new", *(f"tx_{number}" for number in self.overlays.transactions)]
        if found and not found[2] and int(found[1]) in self.overlays.transactions:
            return list(_TX_FILES)
        found = _INSTANCE.fullmatch(path)
        if found and not found[2] and found[1] in self.world.instances:
            return list(_INSTANCE_FILES)
        raise OSError(errno.ENOENT if found is None or not found[2] else errno.ENOTDIR, path)

    def stat(self, path: str) -> Stat:
        self._mounted(path)
        if path == "device_tree":
            return Stat(stat.S_IFREG | 0o644, _SAID_SIZE)
        if path == "overlays/new":
            return Stat(stat.S_IFREG | 0o200)
        if path in {"", "instances", "overlays"}:
            return Stat(stat.S_IFDIR | 0o755)
        for pattern, names in ((_TX, _TX_FILES), (_INSTANCE, _INSTANCE_FILES)):
            found = pattern.fullmatch(path)
            if found and self._there(pattern, found[1]):
                if found[2] is None:
                    return Stat(stat.S_IFDIR | 0o755)
                if found[2] in names:
                    return Stat(stat.S_IFREG | 0o444)
        raise OSError(errno.ENOENT, path)

    def mkdir(self, path: str) -> None:
        self._mounted(path)
        raise OSError(errno.EPERM, path)

    def rmdir(self, path: str) -> None:
        """Of overlays/tx_N: undo it. Of anything else: never."""
        self._mounted(path)
        self.world.settle()
        found = _TX.fullmatch(path)
        if found is None or found[2] or int(found[1]) not in self.overlays.transactions:
            raise OSError(errno.EPERM, path)
        self.overlays.rmdir(int(found[1]))

    def poll(self, path: str) -> bool:
        """Was there a change since it was read? Nobody is ever told."""
        self.stat(path)
        return False

    def kimage(self) -> str:
        """/proc/kimage, with the line of dashes that kerf tells the columns by."""
        lines = [
            "MK_ID  Type         Start Address       Segments  Mode  Cmdline",
            "-----  -----------  ------------------  --------  ----  -------",
        ]
        lines += [
            f"{i.id:<6} multikernel  0x{i.regions[0].base:016x}  4         file  {i.image.cmdline}"
            for i in self.world.instances.values()
            if i.image is not None
        ]
        return "\n".join(lines) + "\n"

    def iomem(self) -> str:
        """/proc/iomem, as far as it is about the pool."""
        lines = []
        for chunk in self.world.memory.chunks:
            lines.append(f"{_range(chunk)} : Multikernel Memory Pool")
            lines += [
                f"  {_range(region)} : mk-instance-{i.id}-{i.name}-region-{number}"
                for i in self.world.instances.values()
                for number, region in enumerate(i.regions)
                if chunk.base <= region.base < chunk.base + chunk.size
            ]
        return "".join(f"{line}\n" for line in lines)

    def cpuinfo(self) -> str:
        """/proc/cpuinfo: the CPUs that the host has left; those in the pool are offline there."""
        return "".join(
            f"processor\t: {number}\nphysical id\t: 0\ncore id\t\t: {number}\n"
            f"apicid\t\t: {cpu}\ninitial apicid\t: {cpu}\n\n"
            for number, cpu in enumerate(self.world.host_cpus)
            if cpu not in self.world.members and cpu not in self.world.offline
        )

    def content(self, path: str) -> bytes:
        """Of a file, as it is at this moment."""
        self.stat(path)
        self.world.settle()
        if path == "device_tree":
            return self.world.root_tree()
        found = _INSTANCE.fullmatch(path)
        if found is not None:
            instance = self.world.instances[found[1]]
            if found[2] == "device_tree":
                return self.world.instance_tree(instance.name)
            said = instance.status if found[2] == "status" else instance.id
            return f"{said}\n".encode()
        found = _TX.fullmatch(path)
        assert found is not None
        return _said(self.overlays.transactions[int(found[1])], found[2])

    def _there(self, pattern: re.Pattern[str], name: str) -> bool:
        if pattern is _TX:
            return int(name) in self.overlays.transactions
        return name in self.world.instances

    def _mounted(self, path: str) -> None:
        if not self.world.variant.mounted and path:
            raise OSError(errno.ENOENT, path)


def _said(transaction: Transaction, name: str) -> bytes:
    if name == "dtbo":
        return transaction.dtbo
    return f"{getattr(transaction, name)}\n".encode()


def _range(region: MemoryRegion) -> str:
    return f"{region.base:08x}-{region.base + region.size - 1:08x}"
