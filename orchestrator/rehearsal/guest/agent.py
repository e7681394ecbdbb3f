"""The guest's end of the control channel: JSON lines over a virtio-serial port.

Every kernel of the guest starts one of these; it greets with the boot id, so that the other
side knows that a new kernel is there and that nothing of the old one will be answered.

Requests `{"id": n, "op": …}` are answered by any number of `{"id": n, "stream": …, "data": …}`
and one `{"id": n, "done": true, …}` or `{"id": n, "error": …}`. Bytes travel in base64.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, Any

PORT_NAME = "org.mkupgrade.control.0"
CHUNK = 48 * 1024
POLL = 0.05
"""Seconds between two looks."""


def find_port(patience: float = 60.0) -> Path:
    """The port's device node; waits for it, since its driver may be a module."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        for name in Path("/sys/class/virtio-ports").glob("*/name"):
            if name.read_text().strip() == PORT_NAME:
                return Path("/dev") / name.parent.name
        time.sleep(0.05)
    raise SystemExit(f"no virtio-serial port named {PORT_NAME}")


class Channel:
    """The port: whole lines in, whole lines out, one writer at a time."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self._lock = threading.Lock()
        self._rest = b""

    def send(self, message: dict[str, Any]) -> None:
        line = json.dumps(message).encode() + b"\n"
        with self._lock:
            while line:
                line = line[os.write(self._fd, line) :]

    def receive(self) -> dict[str, Any]:
        """The next request; what is no JSON object (half a line of a former kernel) is skipped."""
        while True:
            line, found, rest = self._rest.partition(b"\n")
            if found:
                self._rest = rest
                try:
                    message = json.loads(line)
                except ValueError:
                    continue
                if isinstance(message, dict):
                    return message
                continue
            data = os.read(self._fd, 65536)
            if not data:
                time.sleep(0.05)  # nobody is connected on the other side
            self._rest += data


def encode(data: bytes) -> str:
    return base64.b64encode(data).decode()


def hello() -> dict[str, Any]:
    return {
        "hello": Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
        "release": os.uname().release,
        "uptime": float(Path("/proc/uptime").read_text().split()[0]),
    }


def pump(channel: Channel, request_id: int, name: str, pipe: IO[bytes]) -> None:
    """Send what a program prints as it comes."""
    while data := os.read(pipe.fileno(), CHUNK):
        channel.send({"id": request_id, "stream": name, "data": encode(data)})


def run(channel: Channel, request: dict[str, Any]) -> dict[str, Any]:
    """Run a program to its end; a time limit kills its whole process group."""
    started = time.monotonic()
    process = subprocess.Popen(
        request["argv"],
        stdin=subprocess.PIPE if request.get("stdin") else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **request.get("env", {})},
        cwd=request.get("cwd", "/"),
        start_new_session=True,
    )
    pumps = [
        threading.Thread(target=pump, args=(channel, request["id"], name, pipe), daemon=True)
        for name, pipe in (("stdout", process.stdout), ("stderr", process.stderr))
        if pipe is not None
    ]
    for thread in pumps:
        thread.start()
    if process.stdin is not None:
        with process.stdin:
            process.stdin.write(base64.b64decode(request["stdin"]))
    timed_out = False
    try:
        process.wait(timeout=request["timeout"])
    except subprocess.TimeoutExpired:
        timed_out = True
        os.killpg(process.pid, 9)
        process.wait()
    for thread in pumps:
        thread.join(timeout=2.0)  # a daemon that it left behind may hold the pipe
    seconds = time.monotonic() - started
    return {"code": process.returncode, "timed_out": timed_out, "seconds": seconds}


def spawn(_channel: Channel, request: dict[str, Any]) -> dict[str, Any]:
    """Start a program that stays: own session, output into a file, nobody waits for it."""
    with Path(request["log"]).open("ab") as log:
        process = subprocess.Popen(
            request["argv"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            start_new_session=True,
        )
    threading.Thread(target=process.wait, daemon=True).start()
    return {"pid": process.pid}


def put(_channel: Channel, request: dict[str, Any]) -> dict[str, Any]:
    """Write a part of a file; the part at offset 0 makes it anew."""
    path = Path(request["path"])
    path.parent.mkdir(parents=True, exist_ok=True)
    first = request["offset"] == 0
    flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | (os.O_TRUNC if first else 0)
    descriptor = os.open(path, flags, request["mode"])
    with os.fdopen(descriptor, "wb") as file:
        file.seek(request["offset"])
        file.write(base64.b64decode(request["data"]))
        if first:
            os.fchmod(descriptor, request["mode"])
    return {}


def get(_channel: Channel, request: dict[str, Any]) -> dict[str, Any]:
    """Read a part of a file; an empty part is its end."""
    with Path(request["path"]).open("rb") as file:
        file.seek(request["offset"])
        return {"data": encode(file.read(CHUNK))}


def wait(_channel: Channel, request: dict[str, Any]) -> dict[str, Any]:
    """Wait for a file. Programs that are run again and again would slow down what is waited for."""
    deadline = time.monotonic() + request["timeout"]
    while not (there := os.path.lexists(request["path"])) and time.monotonic() < deadline:
        time.sleep(POLL)
    return {"there": there}


def status(_channel: Channel, _request: dict[str, Any]) -> dict[str, Any]:
    return hello()


OPERATIONS = {
    "run": run,
    "spawn": spawn,
    "put": put,
    "get": get,
    "wait": wait,
    "status": status,
}


def answer(channel: Channel, request: dict[str, Any]) -> None:
    try:
        reply = OPERATIONS[request["op"]](channel, request)
    except Exception as error:  # the other side gets every error
        channel.send({"id": request.get("id"), "error": f"{type(error).__name__}: {error}"})
    else:
        channel.send({"id": request["id"], "done": True, **reply})


def main() -> int:
    channel = Channel(find_port())
    channel.send(hello())
    while True:
        request = channel.receive()
        threading.Thread(target=answer, args=(channel, request), daemon=True).start()


if __name__ == "__main__":
    sys.exit(main())
