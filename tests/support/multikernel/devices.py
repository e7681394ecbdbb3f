"""/dev/mktty and vsock to an instance."""

from __future__ import annotations

import errno
from collections import defaultdict

from tests.support.multikernel.world import World

RING = 16 << 10


class Tty:
    """One open /dev/mktty."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._ring = b""
        self.id: int | None = None
        self.lost = False
        """It gets nothing any more, and is not told."""

    def write(self, data: bytes) -> int:
        """The first picks the instance: `<id>\\n`."""
        if self.id is None:
            number = int(data) if data.strip().isdigit() else 0
            if number < 1:
                raise OSError(errno.EINVAL, "no id")
            if number not in {instance.id for instance in self._world.instances.values()}:
                raise OSError(errno.ENODEV, "no instance of this id")
            self.id = number
        return len(data)

    def read(self, most: int = RING) -> bytes:
        """What came since; empty: nothing yet, and never an end."""
        if self.id is None:
            raise OSError(errno.ENOTCONN, "no instance was picked")
        data, self._ring = self._ring[:most], self._ring[most:]
        return data

    def put(self, data: bytes) -> None:
        if not self.lost:
            self._ring = (self._ring + data)[:RING]


class Devices:
    """What an instance is heard and asked through."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._open: list[Tty] = []
        self.typed: defaultdict[int, bytes] = defaultdict(bytes)
        """Id of an instance -> what was written to its console."""

    def open_mktty(self) -> Tty:
        tty = Tty(self._world)
        self._open.append(tty)
        return tty

    def close_mktty(self, tty: Tty) -> None:
        self._open.remove(tty)

    def say(self, name: str, text: str) -> None:
        """The kernel in an instance writes to its console: to the first reader, or to nobody."""
        number = self._world.instances[name].id
        reader = next((tty for tty in self._open if tty.id == number), None)
        if reader is not None:
            reader.put(text.encode())

    def lose_console(self, name: str) -> None:
        number = self._world.instances[name].id
        for tty in self._open:
            if tty.id == number:
                tty.lost = True

    def connect(self, cid: int, port: int) -> str:
        """A connection by vsock: `reset` (it lives, nobody listens) or `agent`.

        Raises:
            OSError: ETIMEDOUT: silence. EAFNOSUPPORT: a kernel without vsock between instances.
        """
        if not self._world.variant.vsock:
            raise OSError(errno.EAFNOSUPPORT, "no vsock")
        self._world.settle()
        instance = self._world.by_id(cid)
        if not self._world.alive(instance):
            raise OSError(errno.ETIMEDOUT, "silence")
        life = instance.life
        now = self._world.clock.now
        ready = life is not None and life.past(life.spawn.ready_in, now)
        says = life.spawn.agent if life is not None else None
        ours = life is not None and says is not None and life.past(says.answers_in, now)
        listens = (ready and port == AGENT_PORT) or (ours and says and port == says.port)
        return "agent" if listens else "reset"


AGENT_PORT = 1023
