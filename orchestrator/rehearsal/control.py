"""The host's end of the control channel: requests to the agent in the guest.

The channel outlives the guest's kernels: each new kernel's agent greets, which ends every
request that its predecessor had not answered.
"""

from __future__ import annotations

import base64
import contextlib
import json
import queue
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.model.errors import ErrorClass, RehearsalError

_CHUNK = 48 * 1024
_LONGEST_LINE = 1 << 20
_GRACE = 15.0
"""Seconds that an answer may take on top of the request's own time limit."""


class GuestRestartedError(RehearsalError):
    """The guest's kernel changed (kexec, panic, reset) while a request was under way.

    `partial` holds what a `run` had printed until then.
    """

    code = "guest-restarted"

    def __init__(self, what: str, partial: str = "") -> None:
        super().__init__(what, details=tuple(partial.splitlines()[-25:]))
        self.partial = partial


@dataclass(frozen=True)
class Hello:
    """The greeting of one kernel's agent."""

    boot_id: str
    release: str
    uptime: float
    """Seconds from the kernel's start to the greeting."""


@dataclass(frozen=True)
class Finished:
    """A program that ran in the guest to its end."""

    code: int
    stdout: str
    stderr: str
    seconds: float

    @property
    def output(self) -> str:
        """Both streams, for messages."""
        return self.stdout + self.stderr


OnOutput = Callable[[str, bytes], None]
"""Called with "stdout" or "stderr" and a piece of output as it comes."""


class Control:
    """Requests over a connected UNIX socket. Safe to use from several threads."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.connect(str(path))
        self._send_lock = threading.Lock()
        self._changed = threading.Condition()
        self._pending: dict[int, queue.Queue[dict[str, Any]]] = {}
        self._hellos: list[Hello] = []
        self._last_id = 0
        self._closed = False
        threading.Thread(target=self._listen, name="guest-control", daemon=True).start()

    def close(self) -> None:
        """Hang up; requests under way fail."""
        with contextlib.suppress(OSError):  # or the thread that listens would keep it open
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    @property
    def hellos(self) -> tuple[Hello, ...]:
        """Greetings so far, one per kernel that came up."""
        with self._changed:
            return tuple(self._hellos)

    def wait_hello(self, number: int, timeout: float, alive: Callable[[], None]) -> Hello:
        """Wait until `number` kernels have greeted and return the last one's greeting.

        Args:
            alive: called now and then; raises when waiting has become pointless.

        Raises:
            RehearsalError: not within `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        with self._changed:
            while len(self._hellos) < number:
                alive()
                if self._closed or time.monotonic() > deadline:
                    raise RehearsalError(
                        f"kernel number {number} of the guest did not greet within {timeout:g} s",
                        error_class=ErrorClass.TIMEOUT,
                    )
                self._changed.wait(0.2)
            return self._hellos[-1]

    def adopt(self) -> None:
        """Count the kernel that is there as greeted: its agent did so to somebody before us."""
        there = self.status()
        with self._changed:
            self._hellos.append(there)

    def run(
        self,
        argv: list[str],
        *,
        timeout: float,
        stdin: bytes = b"",
        env: dict[str, str] | None = None,
        on_output: OnOutput | None = None,
    ) -> Finished:
        """Run a program in the guest, as root, to its end.

        Raises:
            GuestRestartedError: the guest's kernel changed meanwhile.
            RehearsalError: the program cannot be started, or took longer than `timeout`.
        """
        streams: dict[str, bytearray] = {"stdout": bytearray(), "stderr": bytearray()}

        def collect(reply: dict[str, Any]) -> None:
            data = base64.b64decode(reply["data"])
            streams[reply["stream"]] += data
            if on_output is not None:
                on_output(reply["stream"], data)

        text = base64.b64encode(stdin).decode()
        request = {"op": "run", "argv": argv, "timeout": timeout, "env": env or {}, "stdin": text}
        try:
            reply = self._ask(request, timeout, collect)
        except GuestRestartedError as error:
            partial = b"".join(streams.values()).decode(errors="replace")
            raise GuestRestartedError(f"{error.what}: {' '.join(argv)}", partial) from None
        out, err = (streams[name].decode(errors="replace") for name in ("stdout", "stderr"))
        if reply["timed_out"]:
            raise RehearsalError(
                f"in the guest: {' '.join(argv)} took longer than {timeout:g} s",
                details=tuple((out + err).splitlines()[-25:]),
                error_class=ErrorClass.TIMEOUT,
            )
        return Finished(reply["code"], out, err, reply["seconds"])

    def spawn(self, argv: list[str], log: str) -> int:
        """Start a program that stays, its output in the guest's file `log`; its process id."""
        return int(self._ask({"op": "spawn", "argv": argv, "log": log}, 30.0)["pid"])

    def put(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """Write a file in the guest, directories included."""
        for offset in range(0, max(len(data), 1), _CHUNK):
            part = base64.b64encode(data[offset : offset + _CHUNK]).decode()
            fields = {"path": path, "offset": offset, "mode": mode, "data": part}
            self._ask({"op": "put", **fields}, 30.0)

    def get(self, path: str, start: int = 0) -> bytes:
        """Read a file in the guest, from byte `start` on."""
        data = b""
        while True:
            offset = start + len(data)
            reply = self._ask({"op": "get", "path": path, "offset": offset}, 30.0)
            part = base64.b64decode(reply["data"])
            if not part:
                return data
            data += part

    def wait_path(self, path: str, timeout: float) -> bool:
        """Wait until there is such a path in the guest; False: not within `timeout` seconds.

        Raises:
            GuestRestartedError: the guest's kernel changed meanwhile.
        """
        request = {"op": "wait", "path": path, "timeout": timeout}
        return bool(self._ask(request, timeout)["there"])

    def status(self) -> Hello:
        """Which kernel answers, right now?"""
        return _hello(self._ask({"op": "status"}, 30.0))

    def _ask(
        self,
        request: dict[str, Any],
        timeout: float,
        on_stream: Callable[[dict[str, Any]], None] | None = None,
    ) -> dict[str, Any]:
        inbox: queue.Queue[dict[str, Any]] = queue.Queue()
        with self._changed:
            self._last_id += 1
            number = self._last_id
            self._pending[number] = inbox
        deadline = time.monotonic() + timeout + _GRACE
        try:
            self._send({"id": number, **request})
            while True:
                try:
                    reply = inbox.get(timeout=max(0.0, deadline - time.monotonic()))
                except queue.Empty:
                    what = f"the guest's agent does not answer ({request['op']})"
                    raise RehearsalError(what, error_class=ErrorClass.TIMEOUT) from None
                if "stream" in reply and on_stream is not None:
                    on_stream(reply)
                elif "restarted" in reply:
                    raise GuestRestartedError(reply["restarted"])
                elif "error" in reply:
                    raise RehearsalError(f"in the guest: {request['op']}: {reply['error']}")
                elif "done" in reply:
                    return reply
        finally:
            with self._changed:
                self._pending.pop(number, None)

    def _send(self, message: dict[str, Any]) -> None:
        line = json.dumps(message).encode() + b"\n"
        try:
            with self._send_lock:
                self._socket.sendall(line)
        except OSError as error:
            raise RehearsalError(f"the guest's control channel is closed: {error}") from None

    def _listen(self) -> None:
        rest = b""
        while True:
            try:
                data = self._socket.recv(65536)
            except OSError:
                data = b""
            if not data:
                break
            *lines, rest = (rest + data).split(b"\n")
            if len(rest) > _LONGEST_LINE:
                rest = b""
            for line in lines:
                self._take(line)
        with self._changed:
            self._closed = True
            self._end_pending("the guest's control channel was closed")

    def _take(self, line: bytes) -> None:
        """One line from the guest; what is no message (half a line before a jump) is dropped."""
        try:
            message = json.loads(line)
        except ValueError:
            # The last half-line of a kernel that went away sticks to the greeting of the next.
            start = line.find(b'{"hello"')
            if start > 0:
                self._take(line[start:])
            return
        if not isinstance(message, dict):
            return
        with self._changed:
            if "hello" in message and "done" not in message:
                self._hellos.append(_hello(message))
                if len(self._hellos) > 1:
                    self._end_pending("the guest's kernel changed")
                self._changed.notify_all()
                return
            inbox = self._pending.get(message.get("id", 0))
        if inbox is not None:
            inbox.put(message)

    def _end_pending(self, why: str) -> None:
        for inbox in self._pending.values():
            inbox.put({"restarted": why})


def _hello(message: dict[str, Any]) -> Hello:
    return Hello(str(message["hello"]), str(message["release"]), float(message["uptime"]))
