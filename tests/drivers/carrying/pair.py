"""Two kernels whose workloads are doubled, and the host between them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.agent.client import About, AgentClient
from orchestrator.drivers.carrying.carry import Carrier
from orchestrator.drivers.carrying.ends import Cargo, End
from orchestrator.drivers.records import Records
from orchestrator.handover.disk import DiskChannel
from orchestrator.handover.parcel import Parcel
from orchestrator.handover.stream import ConnectionLostError
from orchestrator.model.spec.workloads import Workload
from orchestrator.model.steps import Inspection, Section
from tests.support.carried import Kernel, workload
from tests.support.control import Control

T = "t-20260901-ab12cd"
WAY = Parcel(T, Section.FORWARD, "counter")


class Died(BaseException):
    """The host's process is gone."""


@dataclass
class Pair:
    """Two kernels and the host between them."""

    directory: Path
    old: Kernel
    new: Kernel
    connections: int = 0
    dies_at: int | None = None
    """At which connection the host's process dies, before it is made."""
    running: dict[str, bool] = field(default_factory=lambda: {"old": True, "new": True})
    fenced: list[str] = field(default_factory=list)
    unreachable: set[str] = field(default_factory=set)
    clock: float = 0.0
    before: dict[int, Callable[[], object]] = field(default_factory=dict)
    """Number of a connection -> what happens right before it."""

    def end(self, name: str, *, fenced: bool = False) -> End:
        kernel = getattr(self, name)

        def opened(remaining: Callable[[], float], about: About) -> AgentClient:
            self.connections += 1
            if self.connections == self.dies_at:
                raise Died
            self.before.pop(self.connections, lambda: None)()
            if name in self.unreachable or not self.running[name]:
                raise ConnectionLostError("no agent answers", where="vsock:3:1022")
            client: AgentClient = kernel.agent.open(remaining, about)
            return client

        def sleep(seconds: float) -> None:
            self.clock += seconds

        def fence() -> None:
            self.fenced.append(name)
            self.stop(name)

        return End(
            name, opened, lambda: self.running[name], fence if fenced else None,
            now=lambda: self.clock, sleep=sleep,
        )  # fmt: skip

    def stop(self, name: str) -> None:
        """The kernel of an instance stops, with all that runs in it."""
        self.running[name] = False
        getattr(self, name).workloads.running.clear()

    def carrier(self) -> Carrier:
        """Of a new process."""
        cargo = Cargo(Workload.model_validate(workload()), WAY, "ab" * 32)
        return Carrier(self.directory, Records(self.directory, T, WAY.section), cargo, Control())

    def places(self) -> list[str]:
        """Where it runs, with what it remembers."""
        return [
            f"{name}:{kernel.workloads.running['counter']}"
            for name, kernel in (("old", self.old), ("new", self.new))
            if "counter" in kernel.workloads.running
        ]

    def carry(self) -> dict[str, Any]:
        return self.carrier().carry(self.end("old"), self.end("new", fenced=True))

    def inspect(self) -> Inspection:
        return self.carrier().inspect(self.end("old"), self.end("new")).verdict

    def undo(self) -> dict[str, Any]:
        return self.carrier().undo(self.end("old"), self.end("new", fenced=True))

    def left(self) -> list[str]:
        """What the host has kept on disk."""
        return sorted(str(p.relative_to(self.directory)) for p in self.directory.rglob("*.json"))


def damage(channel: DiskChannel) -> None:
    payload = channel.dir / "payload-000001"
    data = payload.read_bytes()
    payload.write_bytes(data[:5000] + b"\xff" + data[5001:])
