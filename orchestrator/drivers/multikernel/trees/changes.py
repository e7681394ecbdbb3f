"""The changes that the kernel can be asked for, and the tag by which one is found again."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from orchestrator.drivers.multikernel.trees.forms import MemoryRegion, MemoryRequest

_TAG = re.compile(
    r"mkupgrade/1 (?P<transaction>[!-~]{1,64}) (?P<step>[!-~]{1,150}) (?P<attempt>[1-9]\d{0,8}) "
    r"(?P<part>[1-9]\d{0,3})/(?P<parts>[1-9]\d{0,3})"
)


class Verb(StrEnum):
    """What is done to CPUs, memory or devices of an instance or of the pool."""

    ADD = "add"
    REMOVE = "remove"


@dataclass(frozen=True, slots=True)
class CreateInstance:
    name: str
    id: int
    """Always said: the kernel's own choice may be one that no system call can name."""
    cpus: tuple[int, ...]
    memory_bytes: int
    node: int | None = None
    """NUMA node that the memory comes from."""
    pci: tuple[str, ...] = ()
    """Addresses of devices, which are added once it is there."""


@dataclass(frozen=True, slots=True)
class RemoveInstance:
    name: str


@dataclass(frozen=True, slots=True)
class CpuChange:
    target: str | None
    """An instance; None: the pool. Adding to the pool takes from the host, and back."""
    verb: Verb
    cpus: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class MemoryChange:
    target: str | None
    verb: Verb
    regions: tuple[MemoryRegion, ...] = ()
    requests: tuple[MemoryRequest, ...] = ()
    """In place of regions, and for adding to the pool only: the kernel chooses where."""


@dataclass(frozen=True, slots=True)
class DeviceChange:
    target: str | None
    verb: Verb
    pci: tuple[str, ...]
    """Addresses."""


Change = CreateInstance | RemoveInstance | CpuChange | MemoryChange | DeviceChange


@dataclass(frozen=True, slots=True)
class Tag:
    """Whose overlay it is; the kernel keeps it as the transaction's `resources`."""

    transaction: str
    step: str
    attempt: int
    part: int = 1
    parts: int = 1

    def __str__(self) -> str:
        return f"mkupgrade/1 {self.transaction} {self.step} {self.attempt} {self.part}/{self.parts}"

    @classmethod
    def parse(cls, said: str) -> Tag | None:
        """None: not one of ours."""
        found = _TAG.fullmatch(said)
        if found is None:
            return None
        attempt, part, parts = (int(found[name]) for name in ("attempt", "part", "parts"))
        return cls(found["transaction"], found["step"], attempt, part, parts)
