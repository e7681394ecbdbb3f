"""Runs in the guest: calls of the command line, each in a forked child, and facts of the host.

    verbs.py PORT

The program is imported once and its children begin where a started `mkupgrade` is after its
imports, which saves seconds per call where the processor is emulated. One JSON line in, one out:

    {"argv": [...], "user": 65534, "damage": "counter"}    {"call": 1}
    {"wait": 1}                     {"code": 0, "stdout": "…", "stderr": "…", "seconds": 1.5}
    {"facts": STATE_DIR}            what a refused upgrade must leave as it was
    {"load": IMAGE} {"unload": true}    somebody else's kernel for kexec
    {"hold": PATH} {"let_go": true}     somebody else who has a device open

`damage` stands for memory that changes on the way: the last byte of that workload's payload in the
session is another one, under a digest that was right.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import pkgutil
import socketserver
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import orchestrator.cli.main
from orchestrator.handover import kho, payload
from orchestrator.handover.frame import Header
from orchestrator.system import boot_loaders, calls, guard, kernel_image, running

WORKLOAD = Path("/var/lib/counter")
RUN_DIR = Path("/run/mkupgrade")
NOT_LEFTOVERS = ("journal.db", "journal.db-wal", "journal.db-shm", "journal.anchor", "lock")
ROOMS = ("cli", "drivers", "engine", "loading", "planning")


@dataclass
class Started:
    """A call under way."""

    pid: int
    began: float
    out: IO[bytes]
    err: IO[bytes]


class Verbs:
    """Answers requests; children that were not waited for live on."""

    def __init__(self) -> None:
        self._started: dict[int, Started] = {}
        self._held: list[int] = []

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        if "argv" in request:
            return {"call": self._start(request)}
        if "wait" in request:
            return self._wait(request["wait"])
        if "facts" in request:
            return facts(Path(request["facts"]))
        if "load" in request:
            load(request["load"])
        elif "unload" in request:
            calls.kexec_unload(guard.HostGuard.open())
        elif "hold" in request:
            self._held.append(os.open(request["hold"], os.O_RDWR | os.O_CLOEXEC))
        elif "let_go" in request:
            while self._held:
                os.close(self._held.pop())
        return {}

    def _start(self, request: dict[str, Any]) -> int:
        out, err = (tempfile.TemporaryFile(dir="/dev/shm") for _ in range(2))  # noqa: SIM115
        began = time.monotonic()
        pid = os.fork()
        if pid == 0:
            for target, file in ((1, out), (2, err)):
                os.dup2(file.fileno(), target)
            os._exit(_call(request))
        self._started[pid] = Started(pid, began, out, err)
        return pid

    def _wait(self, number: int) -> dict[str, Any]:
        started = self._started.pop(number)
        _, status = os.waitpid(started.pid, 0)
        seconds = time.monotonic() - started.began
        streams = {}
        for name, file in (("stdout", started.out), ("stderr", started.err)):
            with file:
                file.seek(0)
                streams[name] = file.read().decode(errors="replace")
        return {"code": os.waitstatus_to_exitcode(status), "seconds": seconds, **streams}


def _call(request: dict[str, Any]) -> int:
    """In the child: one call of the command line; its exit code."""
    os.setsid()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    if "damage" in request:
        kho.write_payload = functools.partial(damaged, request["damage"])
    if "user" in request:
        os.setgroups([])
        os.setresgid(*[request["user"]] * 3)
        os.setresuid(*[request["user"]] * 3)
    code: Any = 70
    try:
        orchestrator.cli.main.cli.main(request["argv"])
    except SystemExit as end:
        code = end.code
    finally:
        with suppress(OSError, ValueError):
            sys.stderr.flush()
    return int(code or 0)


def damaged(workload: str, directory: Path, fd: int, token: int, tick: payload.Tick) -> Header:
    header = payload.write_payload(directory, fd, token, tick)
    if workload not in directory.parts:
        return header
    last = os.fstat(fd).st_size - 1
    byte = os.pread(fd, 1, last)
    os.pwrite(fd, bytes([byte[0] ^ 1]), last)
    return header


def load(image: str) -> None:
    fd = os.open(image, os.O_RDONLY | os.O_CLOEXEC)
    try:
        calls.kexec_file_load(guard.HostGuard.open(), fd, None, "somebody=else")
    finally:
        os.close(fd)


def facts(state_dir: Path) -> dict[str, Any]:
    """What a refused upgrade must leave as it was, down to the processes that run."""
    nft = subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True, check=True)
    found = boot_loaders.observe()
    return {
        "boot_id": Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
        "kexec_loaded": Path("/sys/kernel/kexec_loaded").read_text().strip(),
        "boot": found.model_dump(mode="json"),
        "boot_files": tree(Path("/boot")),
        "permit": tree(Path("/etc/mkupgrade")),
        "nft": nft.stdout,
        "mounts": Path("/proc/self/mountinfo").read_text(),
        "left_on_disk": leftovers(state_dir),
        "left_in_memory": tree(RUN_DIR),
        "sessions": sessions(),
        "processes": processes(),
        "workload": workload(),
    }


def tree(root: Path) -> list[str]:
    """Names and sizes below a directory."""
    found = sorted(p for p in root.rglob("*") if not p.is_dir())
    return [f"{p.relative_to(root)} {p.lstat().st_size}" for p in found]


def leftovers(state_dir: Path) -> list[str]:
    """All but the journal, the lock, and logs that an error points at."""
    return [
        found
        for found in tree(state_dir)
        if found.split()[0] not in NOT_LEFTOVERS and "/logs/" not in found
    ]


def sessions() -> list[str]:
    """Everybody who has a session, or the device of sessions, open."""
    found = []
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):
            target = str(link.readlink())
            if "luo_session" in target or "liveupdate" in target:
                found.append(f"{link.parts[2]} {target}")
    return found


def processes() -> list[str]:
    """Programs that run, kernel threads aside; none of ours, and no dead ones left."""
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            name, _, rest = (directory / "stat").read_text().rpartition(")")
            state, parent = rest.split()[:2]
            if parent != "2" and directory.name != "2":
                zombie = " dead" if state == "Z" else ""
                found.append(f"{name.partition('(')[2]}{zombie}")
    return sorted(found)


def workload() -> dict[str, Any]:
    """Its process is the same one, is not stopped, and counts on."""
    pid = int((WORKLOAD / "pid").read_text())
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    last = (WORKLOAD / "log").read_bytes().rpartition(b"\n")[0].rpartition(b"\n")[2]
    return {
        "pid": pid,
        "started": fields[19],
        "stopped": fields[0] in "Tt",
        "number": int(last.split()[0]),
    }


class Request(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        for line in self.rfile:
            try:
                reply = self.server.verbs.answer(json.loads(line))  # type: ignore[attr-defined]
            except Exception as error:  # the other side gets every error
                reply = {"error": f"{type(error).__name__}: {error}"}
            self.wfile.write(json.dumps(reply).encode() + b"\n")


def warm_up() -> None:
    """Import what a verb may import, and look at the images: both are remembered."""
    for room in ROOMS:
        package = importlib.import_module(f"orchestrator.{room}")
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    for image in Path("/boot").glob("vmlinuz-*"):
        kernel_image.inspect_image(image)
    running.kernel_state()


def main() -> int:
    warm_up()
    server = socketserver.TCPServer(("0.0.0.0", int(sys.argv[1])), Request)  # noqa: S104
    server.verbs = Verbs()  # type: ignore[attr-defined]
    print("ready", flush=True)
    server.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
