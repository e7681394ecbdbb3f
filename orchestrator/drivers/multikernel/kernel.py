"""The multikernel kernel as the driver uses it, and the one real implementation.

Everything that changes anything sits behind `Kernel`, so that the driver can be held to its rules
against a double, on any machine.
"""

from __future__ import annotations

import stat
import time
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from orchestrator.drivers.multikernel.consoles import Console, Device
from orchestrator.model.errors import DeadlineError
from orchestrator.system import vsock
from orchestrator.system.guard import HostGuard
from orchestrator.system.multikernel import FileSystem

if TYPE_CHECKING:
    from orchestrator.agent.client import About, AgentClient
    from orchestrator.agent.keys import Key
    from orchestrator.agent.status import Status

_CONSOLE = Path("/dev/mktty")
_IMAGES = Path("/proc/kimage")
_MEMORY = Path("/proc/iomem")
_PROCESSORS = Path("/proc/cpuinfo")
_MOST_PROC_BYTES = 4 << 20


class Answer(StrEnum):
    """What an instance says to a connection by vsock."""

    SILENCE = "silence"
    """Nothing: it has not booted, hangs, or has stopped."""
    RESET = "reset"
    """Its kernel lives, and nobody listens there."""
    ACCEPTED = "accepted"


class Kernel(Protocol):
    """Files and calls; errors are those of the error tree."""

    def why_not(self) -> str | None:
        """Why this is no multikernel kernel with its file system mounted; None: it is."""
        ...

    def objections(self) -> list[str]:
        """Why the guard would refuse to change anything; empty: it would not."""
        ...

    def read(self, path: str, most: int) -> bytes:
        """A file below the root; `GoneError` where there is none."""
        ...

    def names(self, path: str) -> list[str]:
        """What is in a directory below the root."""
        ...

    def write(self, path: str, data: bytes) -> None:
        """A tree to `overlays/new` or `device_tree`, in one write."""
        ...

    def load(
        self, name: str, number: int, *, kernel_fd: int, initrd_fd: int | None, cmdline: str
    ) -> None: ...

    def unload(self, name: str, number: int) -> None: ...

    def start(self, name: str, number: int) -> None: ...

    def halt(self, name: str, number: int) -> None: ...

    def halt_force(self, name: str, number: int) -> None: ...

    def images(self) -> str:
        """/proc/kimage; empty: this kernel has none."""
        ...

    def memory_map(self) -> str:
        """/proc/iomem."""
        ...

    def processors(self) -> str:
        """/proc/cpuinfo."""
        ...

    def no_console(self) -> str | None:
        """Why consoles of instances cannot be read; None: they can."""
        ...

    def console(self, number: int) -> Console:
        """Listen to the console of the instance with this id; OSError: it cannot be opened."""
        ...

    def no_vsock(self) -> str | None:
        """Why instances cannot be reached by vsock; None: they can."""
        ...

    def ask(self, number: int, port: int, seconds: float) -> Answer:
        """Try to connect to a port of an instance by vsock, for so long at most."""
        ...

    def ask_agent(self, number: int, port: int, key: Key, seconds: float) -> Status | None:
        """What the agent of an instance says; None: none answers. `NotProvenError`: one that
        does not have the key."""
        ...

    def open_agent(
        self, number: int, port: int, key: Key, remaining: Callable[[], float], about: About
    ) -> AgentClient:
        """Connect to the agent of an instance, about one workload; `ConnectionLostError`: none
        answers."""
        ...


class RealKernel:
    """This very host's. Whether anything may be changed is the guard's to say."""

    def __init__(self, guard: HostGuard) -> None:
        self._guard = guard
        self._files = FileSystem()

    def why_not(self) -> str | None:
        return self._files.why_not()

    def objections(self) -> list[str]:
        return self._guard.objections()

    def read(self, path: str, most: int) -> bytes:
        return self._files.read(path, most)

    def names(self, path: str) -> list[str]:
        return self._files.names(path)

    def write(self, path: str, data: bytes) -> None:
        self._files.write(self._guard, path, data)

    def load(
        self, name: str, number: int, *, kernel_fd: int, initrd_fd: int | None, cmdline: str
    ) -> None:
        self._files.load(
            self._guard, name, number, kernel_fd=kernel_fd, initrd_fd=initrd_fd, cmdline=cmdline
        )

    def unload(self, name: str, number: int) -> None:
        self._files.unload(self._guard, name, number)

    def start(self, name: str, number: int) -> None:
        self._files.start(self._guard, name, number)

    def halt(self, name: str, number: int) -> None:
        self._files.halt(self._guard, name, number)

    def halt_force(self, name: str, number: int) -> None:
        self._files.halt_force(self._guard, name, number)

    def images(self) -> str:
        return _text(_IMAGES)

    def memory_map(self) -> str:
        return _text(_MEMORY)

    def processors(self) -> str:
        return _text(_PROCESSORS)

    def no_console(self) -> str | None:
        try:
            if stat.S_ISCHR(_CONSOLE.stat().st_mode):
                return None
        except OSError as error:
            return f"{_CONSOLE}: {error.strerror} (kernel without CONFIG_MKTTY?)"
        return f"{_CONSOLE} is no device"

    def console(self, number: int) -> Console:
        return Device(_CONSOLE, number)

    def no_vsock(self) -> str | None:
        try:
            vsock.instance_socket().close()
        except OSError as error:
            return (
                f"no vsock between instances ({error.strerror}): kernel without "
                "CONFIG_MULTIKERNEL_VSOCKETS, which 7.0-mk2 cannot build"
            )
        return None

    def ask(self, number: int, port: int, seconds: float) -> Answer:
        with vsock.instance_socket() as connection:
            connection.settimeout(seconds)
            try:
                connection.connect((number, port))
            except ConnectionResetError:
                return Answer.RESET
            except OSError:
                return Answer.SILENCE
        return Answer.ACCEPTED

    def ask_agent(self, number: int, port: int, key: Key, seconds: float) -> Status | None:
        from orchestrator.agent.client import open_agent
        from orchestrator.agent.transport import Address
        from orchestrator.handover.stream import ConnectionLostError

        end = time.monotonic() + seconds
        address = Address("vsock", str(number), port)
        try:
            with open_agent(address, key, lambda: end - time.monotonic()) as client:
                return client.status()
        except (ConnectionLostError, DeadlineError):
            return None

    def open_agent(
        self, number: int, port: int, key: Key, remaining: Callable[[], float], about: About
    ) -> AgentClient:
        from orchestrator.agent.client import open_agent
        from orchestrator.agent.transport import Address

        return open_agent(Address("vsock", str(number), port), key, remaining, about)


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_MOST_PROC_BYTES).decode("utf-8", "replace")
    except FileNotFoundError:
        return ""
