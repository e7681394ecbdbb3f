"""The process that holds the served double, in a mount namespace of its own.

    unshare --mount confine python -m tests.support.multikernel.served.server DIRECTORY SHIM

Whatever it starts is confined like itself. It mounts over /sys/fs, /run and /var/lib, in its
namespace only.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection, Listener
from pathlib import Path

import mfusepy

from tests.support.multikernel.confined import confinement_missing
from tests.support.multikernel.double import Double
from tests.support.multikernel.served.face import Face, Served
from tests.support.multikernel.served.messages import KEY, Call, Ran
from tests.support.multikernel.served.streams import Consoles, Sockets, exactly, listen

# libfuse goes to / when it serves.
_ROOT = Path(__file__).parents[4]
_MOUNT_POINT = Path("/sys/fs/multikernel")
_REQUEST = struct.Struct("=8Q")
_KEXEC, _REBOOT, _VSOCK = 1, 2, 3
_TICK = 0.02
"""Seconds."""


class Server:
    def __init__(self, directory: Path, shim: Path) -> None:
        self._directory = directory
        self._served = Served()
        self._calls: list[Call] = []
        self._environment = os.environ | {
            "LD_PRELOAD": str(shim),
            "MKDOUBLE_SOCKET": str(directory / "calls"),
            "MKDOUBLE_FACE": str(directory / "face"),
            "MKDOUBLE_CONTROL": str(directory / "control"),
        }

    def serve(self) -> None:
        """Until it is killed."""
        control = Listener(str(self._directory / "control"), authkey=KEY)
        calls = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        calls.bind(str(self._directory / "calls"))
        calls.listen()
        face = self._directory / "face"
        face.mkdir()
        threading.Thread(target=self._take, args=(calls,), daemon=True).start()
        listen(self._directory / "calls.mktty", Consoles(self._served).take)
        listen(self._directory / "calls.vsock", Sockets(self._served, self._directory).take)
        threading.Thread(target=self._obey_all, args=(control,), daemon=True).start()
        mfusepy.FUSE(
            Face(self._served), str(face), foreground=True, nothreads=True, direct_io=True,
            attr_timeout=0, entry_timeout=0, negative_timeout=0, dev=False, suid=False,
        )  # fmt: skip

    def mount(self) -> None:
        """The double over /sys/fs/multikernel; what else clients write to over nothing real."""
        for hidden in ("/sys/fs", "/run", "/var/lib"):
            _mount("-t", "tmpfs", "none", hidden)
        _MOUNT_POINT.mkdir()
        _mount("--bind", str(self._directory / "face/multikernel"), str(_MOUNT_POINT))

    def run(self, arguments: list[str], stdin: str = "") -> Ran:
        done = subprocess.run(
            arguments, cwd=_ROOT, env=self._environment, input=stdin, capture_output=True,
            text=True, check=False, timeout=240,
        )  # fmt: skip
        return Ran(done.returncode, done.stdout, done.stderr)

    def let_time_pass(self, speed: float) -> None:
        """From now on the double's time goes by itself, so many times as fast as ours."""
        threading.Thread(target=self._pass_time, args=(speed,), daemon=True).start()

    def _pass_time(self, speed: float) -> None:
        last = time.monotonic()
        while True:
            time.sleep(_TICK)
            now = time.monotonic()
            with self._served.lock:
                self._served.double.world.clock.advance((now - last) * speed)
            last = now

    def reset(self, make: Callable[[], Double]) -> None:
        with self._served.lock:
            self._served.double = make()
            self._calls.clear()

    def ask(self, question: Callable[..., object], *arguments: object) -> object:
        """A function of the double."""
        with self._served.lock:
            return question(self._served.double, *arguments)

    def calls(self) -> list[Call]:
        return list(self._calls)

    def _obey_all(self, control: Listener) -> None:
        while True:
            connection = control.accept()
            threading.Thread(target=self._obey, args=(connection,), daemon=True).start()

    def _obey(self, connection: Connection) -> None:
        while True:
            try:
                verb, arguments = connection.recv()
            except EOFError:
                return
            try:
                connection.send((True, getattr(self, verb)(*arguments)))
            except Exception as error:  # whatever a question raises goes to who asked
                connection.send((False, error))

    def _take(self, calls: socket.socket) -> None:
        while True:
            connection, _ = calls.accept()
            with connection:
                kind, *rest, pid, length = _REQUEST.unpack(exactly(connection, _REQUEST.size))
                text = exactly(connection, length)
                try:
                    answer = self._answer(kind, rest, pid, text)
                except OSError as error:
                    answer = -(error.errno or errno.EIO)
                connection.sendall(struct.pack("=q", answer))

    def _answer(self, kind: int, arguments: list[int], pid: int, text: bytes) -> int:
        with self._served.lock:
            double = self._served.double
            if kind == _VSOCK:
                return self._vsock(double, *arguments[:3])
            if kind == _REBOOT:
                magic1, magic2, command, instance, _ = arguments
                self._calls.append(Call("reboot", command, instance))
                return double.calls.reboot(magic1, magic2, command, instance)
            kernel_fd, initrd_fd, length, has_text, flags = arguments
            kernel, initrd = _content(pid, kernel_fd), _content(pid, initrd_fd)
            self._calls.append(
                Call(
                    "kexec_file_load", flags, kernel=kernel is not None, initrd=initrd is not None,
                    cmdline=text if has_text else None, cmdline_length=length,
                )
            )  # fmt: skip
            cmdline = os.fsdecode(text.removesuffix(b"\0"))
            return double.calls.kexec_file_load(kernel, initrd, cmdline, flags)

    def _vsock(self, double: Double, connect: int, cid: int, port: int) -> int:
        if not double.world.variant.vsock:
            raise OSError(errno.EAFNOSUPPORT, "no vsock")
        if connect and double.devices.connect(cid, port) == "reset":
            raise ConnectionResetError(errno.ECONNRESET, "reset")
        return 0


def _content(pid: int, fd: int) -> bytes | None:
    """What a descriptor of another process is of; None: -1."""
    return None if fd == 0xFFFFFFFF else Path(f"/proc/{pid}/fd/{fd}").read_bytes()


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


if __name__ == "__main__":
    missing = confinement_missing()
    if missing:
        sys.exit(f"not confined: {missing}")
    Server(Path(sys.argv[1]), Path(sys.argv[2])).serve()
