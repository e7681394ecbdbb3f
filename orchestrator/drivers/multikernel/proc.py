"""/proc/kimage, /proc/iomem and /proc/cpuinfo of a multikernel kernel; facts 1.2.

Lines that are not understood are passed over: these files say more than is asked of them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from orchestrator.drivers.multikernel.trees.forms import LAST_U64, MemoryRegion

_IMAGE = re.compile(
    r"(?P<id>\d{1,10})\s+multikernel\s+0x[0-9a-f]{1,16}\s+\d{1,10}\s+\S+(?:\s(?P<cmdline>.*))?"
)
_REGION = re.compile(
    r"\s*(?P<first>[0-9a-f]{1,16})-(?P<last>[0-9a-f]{1,16}) : "
    r"mk-instance-(?P<id>\d{1,10})-(?P<name>.{1,127})-region-(?P<number>\d{1,6})"
)

_APIC_ID = re.compile(r"apicid\s*: (\d{1,10})")


@dataclass(frozen=True, slots=True)
class OwnedRegion:
    """Memory that an instance has."""

    instance: str
    number: int
    """Its place among the instance's regions; the highest is the newest and goes first."""
    region: MemoryRegion


def command_lines(kimage: str) -> dict[int, str]:
    """Id of an instance -> command line of the image that is loaded in it."""
    found: dict[int, str] = {}
    for line in kimage.splitlines():
        row = _IMAGE.fullmatch(line.strip())
        if row is not None:
            found[int(row["id"])] = (row["cmdline"] or "").strip()
    return found


def owned_regions(iomem: str) -> list[OwnedRegion]:
    """Memory of instances. Without the privilege to see addresses: nothing."""
    found = []
    for line in iomem.splitlines():
        row = _REGION.fullmatch(line)
        if row is None:
            continue
        first, last = int(row["first"], 16), int(row["last"], 16)
        if last > 0 and first <= last <= LAST_U64:
            region = MemoryRegion(first, last - first + 1)
            found.append(OwnedRegion(row["name"], int(row["number"]), region))
    return found


def physical_ids(cpuinfo: str) -> list[int]:
    """Of the CPUs that are online, in Linux's order. Where they are not told (x86 only does):
    nothing."""
    rows = (_APIC_ID.fullmatch(line.strip()) for line in cpuinfo.splitlines())
    return list(dict.fromkeys(int(row[1]) for row in rows if row))
