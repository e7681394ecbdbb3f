"""One QEMU process: how it is started, that it ends with us, and its monitor (QMP)."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.model.errors import ErrorClass, RehearsalError
from orchestrator.rehearsal.firmware import Firmware
from orchestrator.rehearsal.guest.agent import PORT_NAME
from orchestrator.rehearsal.tools import find_tool, kill_group

SERIAL_TAIL = 30
"""Lines of the serial log that an error carries."""

_FORWARD = re.compile(r"HOST_FORWARD\]\s+\d+\s+127\.0\.0\.1\s+(\d+)\s+\S+\s+(\d+)")


@dataclass(frozen=True)
class Hardware:
    """What the guest is made of."""

    kernel: Path
    """The default boot entry: what a reset or panic ends in. Not with `firmware`."""
    cmdline: str
    initrd: Path | None = None
    disk: Path | None = None
    """Raw image; not written to, unless `disk_kept`: changes last as long as the QEMU process."""
    disk_kept: bool = False
    memory_mib: int = 1024
    cpus: int = 1
    forwards: tuple[int, ...] = ()
    """TCP ports of the guest that the host can reach, at ports of 127.0.0.1 picked freely."""
    watchdog: bool = False
    """An i6300esb: a hardware watchdog that resets the guest."""
    firmware: Firmware | None = None
    """UEFI and a boot loader choose the kernel, at power-on and after every reset."""
    extra: tuple[str, ...] = field(default=())
    frozen: Path | None = None
    """Memory and devices of a machine like this one (`Qemu.freeze`): it waits for `thaw`."""


def qemu_arguments(hardware: Hardware, accelerator: Sequence[str], room: Path) -> list[str]:
    """QEMU's arguments; sockets and logs go to the directory `room`."""
    arguments = [
        "-nodefaults", "-no-user-config", "-display", "none", "-machine", "q35", *accelerator,
        "-m", str(hardware.memory_mib), "-smp", str(hardware.cpus),
        *_boot_arguments(hardware),
        "-chardev", f"file,id=serial,path={room}/serial.log", "-serial", "chardev:serial",
        "-qmp", f"unix:{room}/qmp,server=on,wait=off",
        "-device", "virtio-rng-pci",
        "-device", "virtio-serial-pci",
        "-chardev", f"socket,id=control,path={room}/control,server=on,wait=off",
        "-device", f"virtserialport,chardev=control,name={PORT_NAME}",
    ]  # fmt: skip
    if hardware.disk is not None:
        kept = "off" if hardware.disk_kept else "on"
        drive = f"file={hardware.disk},if=none,id=root,format=raw,snapshot={kept},cache=unsafe"
        # Firmware connects only what has an index, and a loader reads only what is connected.
        arguments += ["-drive", drive, "-device", "virtio-blk-pci,drive=root,bootindex=1"]
    forwards = "".join(f",hostfwd=tcp:127.0.0.1:0-10.0.2.15:{p}" for p in hardware.forwards)
    # restrict: the guest reaches nothing; what is forwarded to it still comes through.
    arguments += ["-netdev", f"user,id=net,restrict=on{forwards}"]
    arguments += ["-device", "virtio-net-pci,netdev=net"]
    if hardware.watchdog:
        arguments += ["-device", "i6300esb", "-watchdog-action", "reset"]
    if hardware.frozen is not None:
        arguments += ["-incoming", f"exec:cat {shlex.quote(str(hardware.frozen))}"]
    return [*arguments, *hardware.extra]


def _boot_arguments(hardware: Hardware) -> list[str]:
    """What the machine starts: a kernel, or firmware that looks for a loader on its disk."""
    if hardware.firmware is None:
        initrd = [] if hardware.initrd is None else ["-initrd", str(hardware.initrd)]
        return ["-kernel", str(hardware.kernel), "-append", hardware.cmdline, *initrd]
    firmware = hardware.firmware
    return [
        "-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={firmware.code}",
        "-drive", f"if=pflash,unit=1,format=raw,snapshot=on,file={firmware.variables}",
        "-drive", f"if=none,id=esp,format=raw,snapshot=on,cache=unsafe,file={firmware.disk}",
        # A late slot: the root's disk keeps its name in the guest.
        "-device", "virtio-blk-pci,drive=esp,bootindex=0,addr=0x10",
    ]  # fmt: skip


class Qemu:
    """A running QEMU. Ends when `close` is called, and when this process dies.

    The kernel ends it with the *thread* that started it (PR_SET_PDEATHSIG): start it in a
    thread that lives as long as the guest shall.
    """

    def __init__(self, hardware: Hardware, accelerator: Sequence[str]) -> None:
        # Not in the cache: the path of a UNIX socket may hold 107 bytes only.
        self.room = Path(tempfile.mkdtemp(prefix="mkupgrade-guest-"))
        self.serial_log = self.room / "serial.log"
        arguments = qemu_arguments(hardware, accelerator, self.room)
        command = [find_tool("setpriv"), "--pdeathsig", "KILL", find_tool("qemu-system-x86_64")]
        with (self.room / "qemu.log").open("wb") as log:
            self._process = subprocess.Popen(
                [*command, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            self._monitor = Monitor(self._connected("qmp"))
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """Process id of QEMU."""
        return self._process.pid

    def close(self) -> None:
        """End QEMU and remove its directory; safe to call again."""
        kill_group(self._process)
        shutil.rmtree(self.room, ignore_errors=True)

    def control_socket(self) -> Path:
        """Path of the control channel's socket."""
        return self._await_socket("control")

    def check_alive(self) -> None:
        """Raises RehearsalError when QEMU has ended."""
        if self._process.poll() is not None:
            raise RehearsalError(
                f"QEMU ended with code {self._process.returncode}", details=self.tail()
            )

    def serial(self) -> str:
        """The serial log so far."""
        try:
            return self.serial_log.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return ""

    def tail(self) -> tuple[str, ...]:
        """The end of what QEMU and the serial line said."""
        said = (self.room / "qemu.log").read_text(encoding="utf-8", errors="replace")
        return (*said.splitlines()[-5:], *self.serial().splitlines()[-SERIAL_TAIL:])

    def command(self, name: str, **arguments: Any) -> Any:
        """A QMP command, e.g. "system_reset"; its return value."""
        return self._monitor.command(name, **arguments)

    def freeze(self, memory: Path) -> None:
        """Stop the machine and save its memory and devices; its disks are flushed, and rest.

        Copies of `memory` and of the disks, taken until `command("cont")`, are one moment: see
        `Hardware.frozen`.

        Raises:
            RehearsalError: it cannot be saved.
        """
        self.command("stop")
        self.command("migrate", uri=f"exec:cat >{shlex.quote(str(memory))}")
        self._await_status("postmigrate")

    def thaw(self) -> None:
        """Go on from `Hardware.frozen`, once it is read."""
        self._await_status("paused")
        self.command("cont")

    def _await_status(self, wanted: str, timeout: float = 120.0) -> None:
        deadline = time.monotonic() + timeout
        while (status := self.command("query-status")["status"]) != wanted:
            self.check_alive()
            if time.monotonic() > deadline:
                what = f"QEMU is {status}, not {wanted}, after {timeout:g} s"
                raise RehearsalError(what, error_class=ErrorClass.TIMEOUT, details=self.tail())
            time.sleep(0.05)

    def forwarded(self) -> dict[int, int]:
        """Guest port -> port of 127.0.0.1 on the host."""
        said = self.command("human-monitor-command", **{"command-line": "info usernet"})
        return {int(guest): int(host) for host, guest in _FORWARD.findall(said)}

    def _connected(self, name: str, timeout: float = 20.0) -> socket.socket:
        """To a socket of QEMU's, which is there a moment before anybody listens."""
        deadline = time.monotonic() + timeout
        path = self._await_socket(name, timeout)
        while True:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                connection.connect(str(path))
            except ConnectionRefusedError as error:
                connection.close()
                self.check_alive()
                if time.monotonic() > deadline:
                    what = f"nobody listens at QEMU's {name} socket within {timeout:g} s"
                    raise RehearsalError(
                        what, error_class=ErrorClass.TIMEOUT, details=self.tail()
                    ) from error
                time.sleep(0.02)
            else:
                return connection

    def _await_socket(self, name: str, timeout: float = 20.0) -> Path:
        path = self.room / name
        deadline = time.monotonic() + timeout
        while not path.exists():
            self.check_alive()
            if time.monotonic() > deadline:
                what = f"QEMU did not open its {name} socket within {timeout:g} s"
                raise RehearsalError(what, error_class=ErrorClass.TIMEOUT, details=self.tail())
            time.sleep(0.02)
        return path


class Monitor:
    """QMP: one command at a time, events skipped."""

    def __init__(self, connection: socket.socket, timeout: float = 20.0) -> None:
        connection.settimeout(timeout)
        self._stream = connection.makefile("rw", encoding="utf-8")
        self._stream.readline()
        self.command("qmp_capabilities")

    def command(self, name: str, **arguments: Any) -> Any:
        """Raises RehearsalError when QEMU refuses or does not answer."""
        try:
            self._stream.write(json.dumps({"execute": name, "arguments": arguments}) + "\n")
            self._stream.flush()
            while line := self._stream.readline():
                reply = json.loads(line)
                if "return" in reply:
                    return reply["return"]
                if "error" in reply:
                    raise RehearsalError(f"QEMU refused {name}: {reply['error']['desc']}")
        except OSError as error:
            raise RehearsalError(f"QEMU's monitor does not answer {name}: {error}") from None
        raise RehearsalError(f"QEMU ended while asked for {name}")
