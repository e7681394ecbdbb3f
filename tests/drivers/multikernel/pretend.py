"""Short ways to talk to the double as a well-behaved program does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from orchestrator.drivers.multikernel.trees.cells import text, u64
from orchestrator.drivers.multikernel.trees.changes import Change, CreateInstance, Tag
from orchestrator.drivers.multikernel.trees.forms import (
    Baseline,
    InstanceTree,
    MemoryRequest,
    PciDevice,
    PoolTree,
)
from orchestrator.drivers.multikernel.trees.overlay import overlays
from orchestrator.drivers.multikernel.trees.reading import read_instance, read_pool
from orchestrator.drivers.multikernel.trees.writing import baseline_tree
from orchestrator.system.device_tree import Node, flatten
from tests.support.multikernel.calls import (
    HALT,
    HALT_FORCE,
    ID_SHIFT,
    MAGIC1,
    MAGIC2,
    MULTIKERNEL,
    NO_INITRAMFS,
    START,
    UNLOAD,
)
from tests.support.multikernel.double import Double
from tests.support.multikernel.settings import NEWER, Spawn, Variant

GIB = 1 << 30
POOL = (8, 10, 12, 14, 16, 18, 20, 22)
NIC = PciDevice("0000:09:00.0", 0x1AF4, 0x1041)
VMLINUX = b"\x7fELF\0Linux version 7.0.0-mk2 (a@b) #1 SMP\n\0"


@contextmanager
def refused(number: int) -> Iterator[None]:
    """By that errno."""
    with pytest.raises(OSError) as caught:
        yield
    assert caught.value.errno == number


def fragment(target: str, *operations: Node, unit: int = 0) -> Node:
    body = Node("__overlay__", {}, operations)
    return Node(f"fragment@{unit:x}", {"target-path": text(target)}, (body,))


def blob(*fragments: Node, tag: str | None = None) -> bytes:
    """An overlay as anybody may write one."""
    root = {} if tag is None else {"mk,resources": text(tag)}
    return flatten(Node("", root, fragments))


def cpu(number: int, unit: int = 0, name: str = "cpu") -> Node:
    return Node(f"{name}@{unit}", {"reg": u64(number)})


def add_cpus(*numbers: int) -> Node:
    return Node("cpu-add", {}, tuple(cpu(n, unit) for unit, n in enumerate(numbers)))


@dataclass
class Client:
    """Works on one double."""

    double: Double
    count: int = field(default=0)

    @classmethod
    def pooled(cls, variant: Variant = NEWER) -> Client:
        double = Double(variant, pci=(NIC,))
        memory = (MemoryRequest(4 * GIB),)
        double.write("device_tree", baseline_tree(Baseline(POOL, memory, {"nic": NIC})))
        return cls(double)

    def change(self, change: Change) -> str:
        """Status of the last of its overlays."""
        self.count += 1
        status = ""
        for overlay in overlays(change, Tag("t", "step", self.count)):
            status = self.write(overlay.encode())
        return status

    def write(self, data: bytes) -> str:
        assert self.double.write("overlays/new", data) == len(data)
        return self.status(f"overlays/{self.double.listdir('overlays')[-1]}")

    def status(self, path: str) -> str:
        return self.double.read(f"{path}/status").decode().strip()

    def state(self, name: str) -> str:
        return self.status(f"instances/{name}")

    def create(self, name: str = "web", number: int = 2, cpus: tuple[int, ...] = (8, 10)) -> None:
        assert self.change(CreateInstance(name, number, cpus, GIB)) == "applied"

    def pool(self) -> PoolTree:
        return read_pool(self.double.read("device_tree"), "root")

    def instance(self, name: str = "web") -> InstanceTree:
        return read_instance(self.double.read(f"instances/{name}/device_tree"), name)

    def load(self, number: int = 2) -> None:
        flags = MULTIKERNEL | number << ID_SHIFT | NO_INITRAMFS
        self.double.calls.kexec_file_load(VMLINUX, None, "console=mktty0", flags)

    def unload(self, number: int = 2) -> None:
        flags = MULTIKERNEL | number << ID_SHIFT | UNLOAD
        self.double.calls.kexec_file_load(None, None, "", flags)

    def start(self, number: int = 2) -> None:
        self.double.calls.reboot(MAGIC1, MAGIC2, START, number)

    def halt(self, number: int = 2) -> None:
        self.double.calls.reboot(MAGIC1, MAGIC2, HALT, number)

    def force(self, number: int = 2) -> None:
        self.double.calls.reboot(MAGIC1, MAGIC2, HALT_FORCE, number)

    def run(self, name: str = "web", spawn: Spawn | None = None) -> None:
        """Created, loaded, started and up."""
        if spawn is not None:
            self.double.world.spawns[name] = spawn
        self.create(name)
        self.load()
        self.start()
        self.wait(5)

    def wait(self, seconds: float) -> None:
        self.double.world.clock.advance(seconds)
