"""The disk whose power is cut: it holds what mkupgrade and the workload must not lose.

It is mounted on /var/lib of the guest; the rest of the guest is thrown away with each QEMU, as if
it were never written to. QEMU writes to the image at once (`no-flush`: into the host's page cache,
which outlives QEMU), so that killing QEMU costs what the guest had not sent to its disk yet. With a
log of all requests the disk itself may forget, too (`write_log`).
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

from orchestrator.rehearsal.tools import run_tool
from tests.vm.power import write_log

_SIZE = "96M"
_LOG_SIZE = 4 << 30
"""Sparse."""
SUPERBLOCK = range(2, 4)
"""Sectors of ext4's superblock. Its checksum is over both, and a mount refuses one that does not
match (fs/ext4/super.c): ext4 stands on a disk that writes these 1024 bytes whole, as one with
sectors of 4096 bytes does. All else may be torn at any sector."""
MOUNT = "/var/lib"
INIT = f"""#!/bin/sh
# The disk that may lose its power, and then the guest's own init.
[ -e /dev/vdb ] || mount -t devtmpfs dev /dev
mount -t ext4 /dev/vdb {MOUNT} || echo "power-init: /dev/vdb cannot be mounted" >/dev/console
exec /usr/sbin/mkupgrade-init
"""


def make_empty(path: Path) -> None:
    """An empty file system, with nothing left to be done in the background."""
    options = "lazy_itable_init=0,lazy_journal_init=0,nodiscard"
    argv: list[str | Path] = ["mke2fs", "-qF", "-t", "ext4", "-m", "0", "-E", options, path, _SIZE]
    run_tool(argv, timeout=60.0, what="make the disk")


@dataclass(frozen=True)
class Disk:
    """The disk of one run; `room` is a directory of its own."""

    room: Path

    @property
    def image(self) -> Path:
        return self.room / "disk"

    @property
    def log(self) -> Path:
        return self.room / "log"

    @property
    def cut(self) -> Path:
        """What the power cut has left of it."""
        return self.room / "cut"

    @property
    def first(self) -> Path:
        """What it was at first."""
        return self.room / "first"

    def prepare(self, first: Path | None = None) -> None:
        """Make image and log anew.

        Args:
            first: what is on it at first; nothing by default.
        """
        if first is None:
            make_empty(self.first)
        else:
            copy(first, self.first)
        copy(self.first, self.image)
        with self.log.open("wb") as log:
            log.truncate(_LOG_SIZE)

    def after_plain_kill(self) -> None:
        """All that QEMU had written is there."""
        copy(self.image, self.cut)

    def after_loss_of_cache(self, draw: random.Random, requests: int) -> write_log.Replay:
        """Of so many requests: what was flushed is there, and some of what came later."""
        return self.replayed(self.first, self.log, draw, requests=requests)

    def requests(self) -> int:
        """How many are in the log; QEMU begins it with the first flush."""
        with self.log.open("rb") as log:
            if not any(log.read(write_log.SECTOR)):
                return 0
            return sum(1 for _ in write_log.entries(log))

    def replayed(
        self,
        first: Path,
        log: Path,
        draw: random.Random,
        *,
        requests: int | None = None,
        lost_flushes: int = 0,
    ) -> write_log.Replay:
        """What a cut of this recording leaves; see `write_log.replay`."""
        copy(first, self.cut)
        if requests == 0:
            return write_log.Replay(0, 0, 0, 0, 0)
        with log.open("rb") as source, self.cut.open("r+b") as left:
            return write_log.replay(
                source,
                left,
                draw,
                requests=requests,
                lost_flushes=lost_flushes,
                whole=SUPERBLOCK,
            )


def copy(source: Path, target: Path) -> None:
    """Copy an image, holes and all."""
    argv: list[str | Path] = ["cp", "--sparse=always", "--reflink=auto", source, target]
    run_tool(argv, timeout=60.0, what="copy the disk")


def plain(image: Path) -> tuple[str, ...]:
    """QEMU's arguments for a disk on `image`: the guest's /dev/vdb."""
    node = f"driver=file,node-name=power,filename={image},cache.no-flush=on"
    return ("-blockdev", node, *_DEVICE)


def logged(image: Path, log: Path) -> tuple[str, ...]:
    """The same, with each request written to `log` as well."""
    files = [
        f"driver=file,node-name={name},filename={path},cache.no-flush=on"
        for name, path in (("data", image), ("log", log))
    ]
    node = "driver=blklogwrites,node-name=power,file=data,log=log,log-sector-size=512"
    return (*(word for file in files for word in ("-blockdev", file)), "-blockdev", node, *_DEVICE)


# A high slot: the guest's root must be found first.
_DEVICE = ("-device", "virtio-blk-pci,drive=power,addr=0x1e")
