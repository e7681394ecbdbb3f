"""Our driver's parts, run in the namespace of a served double against its files and calls.

    python -m tests.support.multikernel.served.driver < steps.json

The steps are done in order, as far as they can be; what became of each is written as JSON: `ok`,
or the code of the error. Everything is the real one (RealKernel, the native calls) but the host
guard, which rightly refuses in a namespace: it is left out, here alone, and only where the kernel
itself refuses kexec and reboot to this process.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from orchestrator.drivers.multikernel import changing, living
from orchestrator.drivers.multikernel.kernel import RealKernel
from orchestrator.drivers.multikernel.living import Boot, Named, Patience
from orchestrator.drivers.multikernel.seeing import look
from orchestrator.drivers.multikernel.trees.changes import (
    Change,
    CpuChange,
    CreateInstance,
    DeviceChange,
    MemoryChange,
    RemoveInstance,
    Tag,
    Verb,
)
from orchestrator.drivers.multikernel.trees.forms import Baseline, MemoryRegion, MemoryRequest
from orchestrator.drivers.multikernel.trees.writing import baseline_tree
from orchestrator.model.errors import MkupgradeError
from orchestrator.system import guard
from tests.support.multikernel.confined import confinement_missing
from tests.support.multikernel.double import Double
from tests.support.multikernel.served.session import connect


class Driver:
    """Each method is a step by its name, with plain arguments."""

    def __init__(self, advance: Callable[[float], object]) -> None:
        self._kernel = RealKernel(guard.HostGuard.open())
        self._patience = Patience(lambda: 60.0, advance)
        self._attempts = itertools.count(1)

    def pool(self, cpus: list[int], memory: int) -> None:
        tree = baseline_tree(Baseline(tuple(cpus), (MemoryRequest(memory, 0),)))
        self._kernel.write("device_tree", tree)

    def baseline(self, path: str) -> None:
        """A tree out of a file."""
        self._kernel.write("device_tree", Path(path).read_bytes())

    def create(
        self, name: str, number: int, cpus: list[int], memory: int, devices: list[str] | None = None
    ) -> None:
        pci = tuple(devices or ())
        self._change(CreateInstance(name, number, tuple(cpus), memory, pci=pci))

    def remove(self, name: str) -> None:
        self._change(RemoveInstance(name))

    def cpus(self, name: str | None, verb: str, cpus: list[int]) -> None:
        self._change(CpuChange(name, Verb(verb), tuple(cpus)))

    def memory(self, name: str | None, verb: str, base: int, size: int) -> None:
        self._change(MemoryChange(name, Verb(verb), (MemoryRegion(base, size),)))

    def pool_memory(self, size: int) -> None:
        """More of it, wherever it is."""
        self._change(MemoryChange(None, Verb.ADD, requests=(MemoryRequest(size),)))

    def devices(self, name: str | None, verb: str, pci: list[str]) -> None:
        self._change(DeviceChange(name, Verb(verb), tuple(pci)))

    def load(self, name: str, number: int, image: str, cmdline: str, initrd: str | None) -> None:
        path = Path(image)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        boot = Boot(path, digest, cmdline, None if initrd is None else Path(initrd))
        living.load(self._kernel, Named(name, number), boot, self._patience)

    def start(self, name: str, number: int) -> None:
        living.start(self._kernel, Named(name, number), self._patience)

    def halt(self, name: str, number: int, force: bool) -> None:
        living.halt(self._kernel, Named(name, number), self._patience, force)

    def halt_force(self, name: str, number: int) -> None:
        self._kernel.halt_force(name, number)

    def unload(self, name: str, number: int) -> None:
        living.unload(self._kernel, Named(name, number), self._patience)

    def alive(self, name: str, number: int) -> None:
        living.wait_alive(self._kernel, Named(name, number), 1023, self._patience)

    def look(self) -> None:
        look(self._kernel)

    def _change(self, change: Change) -> None:
        changing.apply(self._kernel, change, Tag("differential", "step", next(self._attempts)))


def main() -> None:
    missing = confinement_missing()
    if missing:
        sys.exit(f"not confined: {missing}")
    guard.require = lambda host, what: None
    served = connect(os.environ["MKDOUBLE_CONTROL"])
    driver = Driver(lambda seconds: served.ask(advance, seconds))
    print(json.dumps([_done(driver, *step) for step in json.load(sys.stdin)]))


def advance(double: Double, seconds: float) -> None:
    double.world.clock.advance(seconds)


def _done(driver: Driver, name: str, *arguments: Any) -> str:
    try:
        getattr(driver, name)(*arguments)
    except MkupgradeError as error:
        return error.code
    return "ok"


if __name__ == "__main__":
    # By its name: what is sent to the server has to be found there.
    from tests.support.multikernel.served.driver import main as named_main

    named_main()
