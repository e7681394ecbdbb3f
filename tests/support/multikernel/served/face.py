"""The double as files: /sys/fs/multikernel below `multikernel`, and beside it what /proc says."""

from __future__ import annotations

import errno
import itertools
import os
import stat
import threading
from collections.abc import Iterator
from typing import Any

import mfusepy

from tests.support.multikernel.double import Double, Handle
from tests.support.multikernel.settings import GRANULE, PAGE


class Served:
    """One double at a time, and the lock under which it is asked anything."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.double = Double()


class Face(mfusepy.Operations):  # type: ignore[misc]
    """Operations of the mount. OSErrors go to the caller as they are."""

    use_ns = True

    def __init__(self, served: Served) -> None:
        self._served = served
        self._handles: dict[int, Handle] = {}
        self._numbers = itertools.count(1)

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        with self._served.lock:
            if path == "/":
                mode, size = stat.S_IFDIR | 0o755, PAGE
            elif path[1:] in _BESIDE:
                mode, size = stat.S_IFREG | 0o444, 0
            else:
                found = self._served.double.stat(_inside(path))
                mode, size = found.mode, found.size
        return {"st_mode": mode, "st_size": size, "st_nlink": 1, "st_uid": 0, "st_gid": 0}

    def readdir(self, path: str, fh: int) -> Iterator[str]:
        with self._served.lock:
            if path == "/":
                return iter([".", "..", "multikernel", *_BESIDE])
            return iter([".", "..", *self._served.double.listdir(_inside(path))])

    def open(self, path: str, flags: int) -> int:
        number = next(self._numbers)
        with self._served.lock:
            if flags & os.O_ACCMODE != os.O_WRONLY and path[1:] not in _BESIDE:
                self._handles[number] = self._served.double.open(_inside(path))
        return number

    def create(self, path: str, mode: int, fi: object = None) -> int:
        raise OSError(errno.EPERM, path)

    def release(self, path: str, fh: int) -> int:
        with self._served.lock:
            self._handles.pop(fh, None)
        return 0

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        with self._served.lock:
            beside = _BESIDE.get(path[1:])
            if beside is not None:
                return beside(self._served.double).encode()[offset : offset + size]
            return self._handles[fh].pread(size, offset)

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        with self._served.lock:
            return self._served.double.write(_inside(path), data, offset)

    def truncate(self, path: str, length: int, fh: int | None = None) -> int:
        """kernfs takes O_TRUNC and does nothing."""
        self.getattr(path)
        return 0

    def fsync(self, path: str, datasync: int, fh: int) -> int:
        return 0

    def flush(self, path: str, fh: int) -> int:
        return 0

    def mkdir(self, path: str, mode: int) -> int:
        with self._served.lock:
            self._served.double.mkdir(_inside(path))
        return 0

    def rmdir(self, path: str) -> int:
        with self._served.lock:
            self._served.double.rmdir(_inside(path))
        return 0


def _inside(path: str) -> str:
    first, _, rest = path[1:].partition("/")
    if first != "multikernel":
        raise OSError(errno.ENOENT, path)
    return rest


def _meminfo(double: Double) -> str:
    total = double.world.memory.total() >> 10
    return f"MemTotal: {total:>15} kB\nMemFree: {total:>16} kB\nMemAvailable: {total:>11} kB\n"


_BESIDE = {
    "kimage": Double.kimage,
    "iomem": Double.iomem,
    "cpuinfo": Double.cpuinfo,
    "meminfo": _meminfo,
    "mktty": lambda _: "",
    "block_size_bytes": lambda _: f"{GRANULE:x}\n",
}
"""Named like the files of the real machine that the shim opens them for."""
