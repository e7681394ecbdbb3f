"""How long a step takes, in seconds, from the size of what it moves.

Rates are meant to be beaten: a blackout that is shorter than announced harms nobody. They come
from runs in a virtual machine without KVM (a dump of 3.6 MB 0.4 s, its restore 0.7 s, sealing and
preserving 64 MiB 17 ms, a kexec to user space 1.7 s) and, for disks, from one slow SSD.
"""

from __future__ import annotations

from orchestrator.model.kinds import ChannelName
from orchestrator.model.spec import Workload

MEMORY_RATE = 400e6
"""Bytes per second through a checkpoint or restore in memory."""
DISK_RATE = 120e6
"""Bytes per second to or from the state directory, durably."""
HASH_RATE = 250e6
"""Bytes per second read and digested."""
CHECKPOINT_BASE = 0.4
RESTORE_BASE = 0.7
RESTART_BASE = 2.0
"""A stop or a start of a service."""
KEXEC_BOOT = 10.0
"""From reboot(2) to our unit in the new kernel."""
FIRMWARE_BOOT = 60.0
"""The same through the firmware."""
WORKER = 0.5
"""Until the program that an agent starts for a piece of work has begun with it."""
CARRIED = 256 << 20
"""Bytes that a workload in an instance is taken for: its size is not known on the host."""
REWRITTEN = 0.5
"""Part of what is copied of a workload while it runs on that is taken to be written to again by the
end of that: half is a guess to be beaten, for on the host nobody knows it. The counter of
tests/vm/test_two_kernels.py writes to less than a quarter; what fills its memory anew all the time
writes to all of it, and stands still as if nothing had been copied."""
QUICK = 0.1
"""A call or a small durable write."""


def checkpoint(workload: Workload, channel: ChannelName, size: int, *, spill: bool) -> float:
    if workload.migrate.method == "restart":
        return RESTART_BASE
    written = channel == "disk" or spill
    return _round(CHECKPOINT_BASE + size / MEMORY_RATE + (size / DISK_RATE if written else 0))


def restore(workload: Workload, channel: ChannelName, size: int) -> float:
    if workload.migrate.method == "restart":
        return RESTART_BASE
    return _round(RESTORE_BASE + size / (DISK_RATE if channel == "disk" else MEMORY_RATE))


def take(size: int) -> float:
    """Dumped and packed in the instance, and fetched to the host; each is durable."""
    return _round(WORKER + CHECKPOINT_BASE + 3 * size / DISK_RATE)


def bring(size: int) -> float:
    """Passed on, verified and unpacked in the instance, and restored."""
    return _round(WORKER + RESTORE_BASE + 2 * size / DISK_RATE + size / HASH_RATE)


def copied_to_host(size: int) -> float:
    """Copied in the instance while it runs on, packed, and fetched."""
    return take(size)


def copied_ahead(size: int) -> float:
    """The same, passed on and unpacked in the other instance."""
    return _round(take(size) + bring(size) - RESTORE_BASE)


def mapped(size: int) -> float:
    """Read by the restore, of what is unpacked in the instance already."""
    return _round(size / MEMORY_RATE)


def trial(size: int) -> float:
    """Dumped in the instance, while it stands still, and thrown away."""
    return _round(WORKER + CHECKPOINT_BASE + size / DISK_RATE)


def handover(kho_bytes: int) -> float:
    """Preserving, or retrieving and making durable, what travels in memory."""
    return _round(QUICK + kho_bytes / MEMORY_RATE)


def retrieve(kho_bytes: int, disk_bytes: int) -> float:
    """Verified, and made durable before the session is finished."""
    return _round(QUICK + kho_bytes / DISK_RATE + disk_bytes / HASH_RATE)


def jump(method: str) -> float:
    return KEXEC_BOOT if method == "kexec" else FIRMWARE_BOOT


def reading(size: int) -> float:
    """Reading and digesting files."""
    return _round(QUICK + size / HASH_RATE)


def _round(seconds: float) -> float:
    """Milliseconds: more digits would claim what nobody knows."""
    return round(seconds, 3)
