"""The real kerf 0.4.0 and our driver's parts, each told the same on a double like the other's."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from orchestrator.system.device_tree import unflatten
from tests.support.multikernel.served import state
from tests.support.multikernel.served.kerf import Kerf
from tests.support.multikernel.served.messages import Call, Ran
from tests.support.multikernel.served.session import Served
from tests.support.multikernel.settings import GRANULE

GIB = 1 << 30
CPUS = [8, 10, 12, 14, 16, 18]
POOL = ["pool", CPUS, 4 * GIB]
CREATE = ["create", "web", 2, [8, 10], GIB]
LINE = "quiet console=mktty0"
"""kerf adds the console by itself; we give what the plan says."""
START = ["start", "web", 2]
TOP = 0x1_0000_0000 + 4 * GIB - GRANULE
"""kerf puts more memory at the end of the pool."""

INIT = ["init", "--cpus", "8,10,12,14,16,18", "--memory", "4GB"]
MAKE = ["create", "web", "--id", "2", "--cpus", "8,10", "--memory", "1GB"]


class Pair:
    """Both clients, one after the other, each on a double that is like the other's."""

    def __init__(self, double: Served, directory: Path) -> None:
        self.double = double
        self.kerf = Kerf(double)
        self.image = directory / "vmlinux"
        self.image.write_bytes(b"\x7fELF" + bytes(60) + b" vmlinux")
        self.initrd = directory / "initrd"
        self.initrd.write_bytes(b"070701")

    def load(self, initrd: bool = False) -> tuple[list[str], list[Any]]:
        its = ["load", "web", "-k", str(self.image), "-c", "quiet"]
        ramdisk = str(self.initrd) if initrd else None
        return (
            [*its, "-i", str(self.initrd)] if initrd else its,
            ["load", "web", 2, str(self.image), LINE, ramdisk],
        )

    def theirs(self, steps: list[Any]) -> tuple[list[bool], dict[str, Any], list[Call]]:
        """A number is seconds that go by."""
        went = []
        for step in steps:
            if isinstance(step, list):
                went.append(self.kerf.run(*step).code == 0)
            else:
                self.double.ask(state.advance, step)
        return went, self.double.ask(state.picture), self.double.calls()

    def ours(self, steps: list[Any]) -> tuple[list[str], dict[str, Any], list[Call]]:
        went: list[str] = []
        for step in steps:
            if isinstance(step, list):
                went += json.loads(self.run_driver([step]).out)
            else:
                self.double.ask(state.advance, step)
        return went, self.double.ask(state.picture), self.double.calls()

    def run_driver(self, steps: list[Any]) -> Ran:
        module = "tests.support.multikernel.served.driver"
        done = self.double.run(sys.executable, "-m", module, stdin=json.dumps(steps))
        assert done.code == 0, done.err
        return done

    def asked(self) -> list[Asked]:
        """What the kernel was asked for since the double was made: of each item of each operation,
        in their order, the target, the operation, and what it says. Names of items, our tags, and
        what kerf says of CPUs and memory that the kernel does not read are no part of it."""
        return [it for dtbo in self.double.ask(state.overlays) for it in _asked(dtbo)]


Asked = tuple[str, str, tuple[tuple[str, bytes], ...]]


def _asked(dtbo: bytes) -> list[Asked]:
    found = []
    for fragment in unflatten(dtbo, "overlay").children:
        target = fragment.properties["target-path"].rstrip(b"\0").decode()
        (body,) = fragment.children
        for operation in body.children:
            items = operation.children or (operation,)
            own = operation.properties if operation.children else {}
            found += [
                (target, operation.name, tuple(sorted(_said({**own, **item.properties}))))
                for item in items
            ]
    return found


def _said(properties: dict[str, bytes]) -> list[tuple[str, bytes]]:
    return [it for it in properties.items() if it[0] not in {"cpu-affinity", "memory-policy"}]
