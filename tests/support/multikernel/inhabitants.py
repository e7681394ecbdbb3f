"""What lives in the instances of the double: agents that work, and workloads, doubled at their own
seam. An instance's disk stays when its kernel stops; what runs in it does not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from orchestrator.agent.client import About, AgentClient, over
from orchestrator.agent.keys import Key
from orchestrator.handover.stream import ConnectionLostError
from tests.support.carried import Kernel
from tests.support.multikernel.world import Instance, Life, World


class Inhabitants:
    """Of all instances of one world.

    Args:
        directory: their disks, one below it for each.
    """

    def __init__(self, world: World, directory: Path) -> None:
        self._world = world
        self._directory = directory
        self._lives: dict[str, Life] = {}
        self.kernels: dict[str, Kernel] = {}
        """By name of the generation, as they were when last spoken to."""
        self.dead: set[str] = set()
        """Generations whose agent has ended, while their kernel runs on."""
        self.made: Callable[[Kernel], None] = lambda kernel: None
        """Told of each kernel that is spoken to for the first time."""
        self.connections = 0
        self.before: Callable[[int], None] = lambda number: None
        """Called before each connection, with its number from 1."""

    def open(
        self, instance: Instance, holds: Key, key: Key, remaining: Callable[[], float], about: About
    ) -> AgentClient:
        """
        Args:
            holds: the key that the instance was loaded with.
            key: that of whoever connects.
        """
        self.connections += 1
        self.before(self.connections)
        kernel = self.at(instance, holds)
        if instance.name in self.dead:
            raise ConnectionLostError("no agent answers", where=instance.name)
        return over(kernel.agent.stream(), key, instance.name, remaining, about)

    def at(self, instance: Instance, holds: Key) -> Kernel:
        """The kernel that runs there now; one that booted anew has nothing running."""
        name, life = instance.name, instance.life
        assert life is not None
        if name not in self.kernels:
            self.kernels[name] = Kernel(self._directory / name, holds)
            self.made(self.kernels[name])
        elif self._lives[name] is not life or self.kernels[name].agent.key != holds:
            self.kernels[name].agent.key = holds
            self.kernels[name].restart()
        self._lives[name] = life
        return self.kernels[name]

    def places(self) -> list[str]:
        """`GENERATION/WORKLOAD:NUMBER` of all that runs."""
        found = []
        for name, kernel in self.kernels.items():
            instance = self._world.instances.get(name)
            alive = instance is not None and instance.status == "active"
            if alive and instance is not None and instance.life is self._lives[name]:
                found += [f"{name}/{w}:{number}" for w, number in kernel.workloads.running.items()]
        return sorted(found)

    def close(self) -> None:
        for kernel in self.kernels.values():
            kernel.close()
