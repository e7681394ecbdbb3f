"""The double as the driver's `Kernel`: OSErrors become those of the error tree, as for real."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from orchestrator.agent.client import About, AgentClient
from orchestrator.agent.errors import NotProvenError
from orchestrator.agent.keys import Key, parse_key
from orchestrator.agent.status import Status
from orchestrator.drivers.multikernel.kernel import Answer
from orchestrator.handover.stream import ConnectionLostError
from orchestrator.model.errors import NotSupportedError, SystemCallError
from orchestrator.system import call_errors
from orchestrator.system.multikernel_errors import (
    HALT,
    ROOT,
    START,
    UNLOAD,
    file_error,
    load_error,
    running_error,
)
from tests.support.multikernel import calls
from tests.support.multikernel.double import MAGIC, Double
from tests.support.multikernel.inhabitants import Inhabitants

_KEY = re.compile(rb"mkupgrade-agent-key/1 [^\n\0]+\n")


class DoubleKernel:
    """Implements `orchestrator.drivers.multikernel.kernel.Kernel`.

    Args:
        inhabitants: agents that work; None: there are none.
    """

    def __init__(self, double: Double, inhabitants: Inhabitants | None = None) -> None:
        self.double = double
        self.inhabitants = inhabitants
        self.refusals: list[str] = []
        self.writes: list[tuple[str, bytes]] = []

    def why_not(self) -> str | None:
        if self.double.magic != MAGIC:
            return f"no multikernel file system is mounted on {ROOT}"
        return None

    def objections(self) -> list[str]:
        return self.refusals

    def read(self, path: str, most: int) -> bytes:
        self._here()
        with _files(path):
            handle = self.double.open(path)
            data = b"".join(iter(handle.read, b""))
        assert len(data) <= most
        return data

    def names(self, path: str) -> list[str]:
        self._here()
        with _files(path):
            return self.double.listdir(path)

    def write(self, path: str, data: bytes) -> None:
        self._here()
        self.writes.append((path, data))
        with _files(path):
            assert self.double.write(path, data) == len(data)

    def load(
        self, name: str, number: int, *, kernel_fd: int, initrd_fd: int | None, cmdline: str
    ) -> None:
        self._here()
        flags = calls.MULTIKERNEL | number << calls.ID_SHIFT
        flags |= 0 if initrd_fd is not None else calls.NO_INITRAMFS
        initrd = None if initrd_fd is None else _content(initrd_fd)
        try:
            self.double.calls.kexec_file_load(_content(kernel_fd), initrd, cmdline, flags)
        except OSError as error:
            raise load_error(error.errno or 0, str(ROOT / "instances" / name)) from error

    def unload(self, name: str, number: int) -> None:
        self._here()
        where = str(ROOT / "instances" / name)
        if self.double.world.instances[name].status == "active":
            raise running_error(where)
        flags = calls.UNLOAD | calls.MULTIKERNEL | number << calls.ID_SHIFT
        with _call(UNLOAD, "kexec_file_load", where):
            self.double.calls.kexec_file_load(None, None, "", flags)

    def start(self, name: str, number: int) -> None:
        self._reboot(calls.START, number, START, name)

    def halt(self, name: str, number: int) -> None:
        self._reboot(calls.HALT, number, HALT, name)

    def halt_force(self, name: str, number: int) -> None:
        self._reboot(calls.HALT_FORCE, number, HALT, name)

    def images(self) -> str:
        return self.double.kimage()

    def memory_map(self) -> str:
        return self.double.iomem()

    def processors(self) -> str:
        return self.double.cpuinfo()

    def no_console(self) -> str | None:
        return None

    def console(self, number: int) -> DoubleConsole:
        return DoubleConsole(self.double, number)

    def no_vsock(self) -> str | None:
        return None if self.double.world.variant.vsock else "no vsock between instances"

    def ask(self, number: int, port: int, seconds: float) -> Answer:
        try:
            said = self.double.devices.connect(number, port)
        except OSError:
            self.double.world.clock.advance(seconds)
            return Answer.SILENCE
        return Answer.ACCEPTED if said == "agent" else Answer.RESET

    def ask_agent(self, number: int, port: int, key: Key, seconds: float) -> Status | None:
        instance, clock = self.double.world.by_id(number), self.double.world.clock
        life, image = instance.life, instance.image
        if self.ask(number, port, seconds) is Answer.SILENCE or life is None or image is None:
            return None
        says = life.spawn.agent
        holds = key_in(image.initrd)
        if says is None or holds is None or not life.past(says.answers_in, clock.now):
            return None
        if holds != key:
            raise NotProvenError("the agent does not have the key", where="vsock")
        ready = life.past(says.ready_in, clock.now)
        return Status(
            version="1",
            transaction=key.transaction,
            release=says.release,
            boot_id=f"boot of {instance.name}",
            tainted=0,
            ready=ready,
            works=says.works,
            problems=[] if ready else ["/run/up is not there yet"],
        )

    def open_agent(
        self, number: int, port: int, key: Key, remaining: Callable[[], float], about: About
    ) -> AgentClient:
        instance = self.double.world.by_id(number)
        if self.inhabitants is None or self.ask(number, port, 1.0) is Answer.SILENCE:
            raise ConnectionLostError("no agent answers", where=f"vsock:{number}:{port}")
        holds = key_in(instance.image.initrd if instance.image else None)
        if holds is None:
            raise ConnectionLostError("no agent answers", where=f"vsock:{number}:{port}")
        return self.inhabitants.open(instance, holds, key, remaining, about)

    def _reboot(self, command: int, number: int, meanings: call_errors.Meanings, name: str) -> None:
        self._here()
        with _call(meanings, "reboot", str(ROOT / "instances" / name)):
            self.double.calls.reboot(calls.MAGIC1, calls.MAGIC2, command, number)

    def _here(self) -> None:
        reason = self.why_not()
        if reason is not None:
            raise NotSupportedError(reason)


def key_in(initrd: bytes | None) -> Key | None:
    """The key that an instance finds in its initrd; None: there is none."""
    found = _KEY.findall(initrd or b"")
    return parse_key(found[-1], "initrd") if found else None


class DoubleConsole:
    """An open console of the double."""

    def __init__(self, double: Double, number: int) -> None:
        self._double = double
        self._tty = double.devices.open_mktty()
        self._tty.write(f"{number}\n".encode())

    def read(self) -> bytes:
        return self._tty.read()

    def close(self) -> None:
        self._double.devices.close_mktty(self._tty)


@contextmanager
def _files(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise file_error(error.errno or 0, path) from error


@contextmanager
def _call(meanings: call_errors.Meanings, call: str, where: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        found: SystemCallError = call_errors.call_error(error.errno or 0, call, meanings, where)
        raise found from error


def _content(fd: int) -> bytes:
    return os.pread(fd, os.fstat(fd).st_size, 0)
