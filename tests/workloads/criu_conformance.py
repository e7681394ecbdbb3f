"""A workload is carried over a jump that is played in namespaces of its own.

    python3 criu_conformance.py [--fake]        (root; real criu, nft and ip, or the fake criu)

The workload: two processes, an asyncio server that ticks by monotonic deadlines, writes to a file
on disk and one on tmpfs, is bound to a UNIX socket on tmpfs, and has one established connection
to a client in another network namespace. The jump: /run emptied, the address taken away, all nft
rules gone, and a time namespace in which CLOCK_MONOTONIC begins near zero, as in a new kernel.
Prints one line per rule; exit status 1 if one does not hold. Works on any host and in a guest: it
touches nothing outside of its namespaces and a directory of its own.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve()
ROOT = HERE.parents[2]
ADDRESS, CLIENT, PORT = "10.9.0.1", "10.9.0.2", 7777
FIRST_PID = 1000

APP = """
import asyncio, os, socket, sys, time
os.makedirs("/run/app", mode=0o750, exist_ok=True)
with open("/run/app.pid", "w") as file:
    file.write(str(os.getpid()))
if not os.path.exists("/run/app/sock"):
    unix = socket.socket(socket.AF_UNIX); unix.bind("/run/app/sock"); unix.listen()
volatile = open("/run/app/journal", "a", buffering=1); os.fchmod(volatile.fileno(), 0o640)
ticks = open(sys.argv[1], "a", buffering=1)
address = sys.argv[2]
if os.fork() == 0:
    while True:
        time.sleep(0.2)
writers = set()
async def connected(reader, writer):
    writers.add(writer)
async def main():
    server = await asyncio.start_server(connected, address, 7777)
    number = 0
    while True:
        number += 1
        ticks.write(f"{number} {time.monotonic():.3f}\\n")
        volatile.write(f"{number}\\n")
        for writer in writers:
            writer.write(f"{number}\\n".encode())
        await asyncio.sleep(0.05)
asyncio.run(main())
"""

TALK = """
import socket, sys, threading, time
peer = socket.create_connection((sys.argv[1], 7777), 5); peer.settimeout(20)
def talk():  # what is sent into the gap is what a kernel without the socket answers by a reset
    while True:
        peer.sendall(b".")
        time.sleep(0.1)
threading.Thread(target=talk, daemon=True).start()
with open(sys.argv[2], "w", buffering=1) as log:
    try:
        for line in peer.makefile():
            log.write(line)
        log.write("closed by the server\\n")
    except OSError as error:
        log.write(f"{error}\\n")
"""


class Report:
    def __init__(self) -> None:
        self.failed = False

    def rule(self, text: str, holds: bool, seen: object = "") -> None:
        self.failed |= not holds
        print(f"{'pass' if holds else 'FAIL'}  {text}" + ("" if holds else f": {seen}"), flush=True)


class Control:
    def remaining(self) -> float:
        return 60.0

    def stopped(self) -> bool:
        return False

    def progress(self, text: str, fraction: float | None = None) -> None:
        pass


def workload() -> Any:
    from orchestrator.model.spec.workloads import Workload

    return Workload.model_validate(
        {
            "name": "app",
            "instance": "host",
            "find": {"pid_file": "/run/app.pid"},
            "migrate": {"method": "criu", "carry": ["/run/app/journal"]},
        }
    )


def run(*argv: str) -> None:
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)


def inside(work: Path, fake: bool) -> int:
    """In private pid, mount and network namespaces."""
    from orchestrator.workloads.facade import Workloads

    report, workloads, app = Report(), Workloads(), workload()
    run("mount", "--make-rprivate", "/")
    run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run")
    client = network()
    address = "127.0.0.1" if fake else ADDRESS
    start(work, address)
    talk(work, client, fake)
    time.sleep(0.3)
    report.rule("it is found by its pid file", len(workloads.find(app).pids) == 2)
    findings = workloads.preflight(app, "kho", work / "scratch", Control(), work)
    errors = [f.text for f in findings if f.severity == "error"]
    report.rule("preflight has no objection", errors == [], errors)
    report.rule("it goes on after the trial dump", goes_on(work))

    first = work / "first" / "app"
    first.parent.mkdir(mode=0o700)
    meta = workloads.checkpoint(app, first, Control())
    report.rule("it does not run after the dump", workloads.find(app).pids == [])
    report.rule("present", workloads.inspect_checkpoint(app, first).verdict == "present")
    workloads.undo_checkpoint(app, first, Control())
    report.rule("undone, it runs as it did", workloads.find(app).pids[:1] == meta["pids"][:1])
    report.rule("it ticks", goes_on(work))

    second = work / "second" / "app"
    second.parent.mkdir(mode=0o700)
    meta = workloads.checkpoint(app, second, Control())
    (second / "meta.json").unlink()
    found = workloads.inspect_checkpoint(app, second).verdict
    report.rule("the engine died before the seal: partial", found == "partial", found)
    workloads.undo_checkpoint(app, second, Control())
    report.rule("and it is brought back", goes_on(work))

    jumps(work, report, fake)
    final(work, report, fake)
    return int(report.failed)


def network() -> int:
    run("ip", "link", "set", "lo", "up")
    run("ip", "link", "add", "veth0", "type", "veth", "peer", "name", "veth1")
    other = subprocess.Popen(["unshare", "--net", "sleep", "1000"])
    time.sleep(0.3)
    run("ip", "link", "set", "veth1", "netns", str(other.pid))
    run("ip", "address", "add", f"{ADDRESS}/24", "dev", "veth0")
    run("ip", "link", "set", "veth0", "up")
    enter = ("nsenter", "--net", "--target", str(other.pid))
    run(*enter, "ip", "address", "add", f"{CLIENT}/24", "dev", "veth1")
    run(*enter, "ip", "link", "set", "veth1", "up")
    return other.pid


def start(work: Path, address: str) -> None:
    (work / "app.py").write_text(APP)
    Path("/proc/sys/kernel/ns_last_pid").write_text(str(FIRST_PID))
    argv = [sys.executable, str(work / "app.py"), str(work / "ticks"), address]
    null = subprocess.DEVNULL
    subprocess.run(
        ["setsid", "--fork", *argv], stdin=null, stdout=null, stderr=null, cwd="/", check=True
    )
    for _ in range(100):
        if (work / "ticks").exists() and last_tick(work) > 1:
            return
        time.sleep(0.1)
    raise SystemExit("the workload did not start")


def as_init(work: Path, fake: bool) -> int:
    """PID 1 of the namespace, which takes in what is left behind, as it should."""
    child = os.fork()
    if child == 0:
        os._exit(inside(work, fake))
    while True:
        pid, status = os.wait()
        if pid == child:
            return os.waitstatus_to_exitcode(status)


def talk(work: Path, client: int, fake: bool) -> None:
    if fake:
        return
    (work / "talk.py").write_text(TALK)
    enter = ["nsenter", "--net", "--target", str(client)]
    argv = [*enter, sys.executable, str(work / "talk.py"), ADDRESS, str(work / "heard")]
    subprocess.Popen(argv)


def last_tick(work: Path) -> int:
    lines = (work / "ticks").read_text().splitlines()
    return int(lines[-1].split()[0]) if lines else 0


def goes_on(work: Path) -> bool:
    before = (work / "ticks").stat().st_size
    until = time.monotonic() + 10
    while time.monotonic() < until:
        time.sleep(0.1)
        if (work / "ticks").stat().st_size > before:
            return True
    return False


def jumps(work: Path, report: Report, fake: bool) -> None:
    """Twice, since the way back dumps a tree that lives in a time namespace by then."""
    from orchestrator.workloads.facade import Workloads

    for number in (1,) if fake else (1, 2):
        place = work / f"jump{number}" / "app"
        place.parent.mkdir(mode=0o700)
        meta = Workloads().checkpoint(workload(), place, Control())
        (work / "meta.json").write_text(json.dumps(meta))
        for path in Path("/run").rglob("*"):
            if not path.is_dir():
                path.unlink()
        run("rmdir", "/run/app")
        run("ip", "address", "flush", "dev", "veth0")
        if not fake:
            run("nft", "flush", "ruleset")
        uptime = int(float(Path("/proc/uptime").read_text().split()[0]))
        shift = f"-{max(0, uptime - 5)}" if number == 1 else "5000"
        clocks = ["--time", f"--monotonic={shift}", f"--boottime={shift}"]
        argv = ["unshare", "--fork", *clocks, sys.executable, str(HERE), "--landed", str(work)]
        argv += ["fake" if fake else "real", str(place)]
        landed = subprocess.run(argv, check=False)
        report.rule(f"jump {number}: it goes on", landed.returncode == 0 and goes_on(work))


def landed(work: Path, fake: bool, place: Path) -> int:
    """In the "new kernel"."""
    from orchestrator.workloads.facade import Workloads

    report, workloads = Report(), Workloads()
    meta = json.loads((work / "meta.json").read_text())
    absent = workloads.inspect_restore(workload(), meta).verdict
    report.rule("nothing runs in the new kernel", absent == "absent", absent)
    held = workloads.hold({"app": meta}, Control())
    report.rule("the ports are held", fake or held["held"], held)
    if not fake:  # the network is up before the restore: without the hold, this is the end
        run("ip", "address", "add", f"{ADDRESS}/24", "dev", "veth0")
        time.sleep(0.5)
    before = time.monotonic()
    result = workloads.restore(workload(), place, meta, Control())
    print(f"      restored in {time.monotonic() - before:.2f} s: {result['notes']}")
    again = workloads.restore(workload(), place, meta, Control())
    report.rule("restored once", again["notes"] == ["it ran already"], again)
    workloads.release(Control())
    mode = Path("/run/app/journal").stat().st_mode & 0o777
    report.rule("files on tmpfs are back, as they were", mode == 0o640, oct(mode))
    mode = Path("/run/app").stat().st_mode & 0o777
    report.rule("and their directory", mode == 0o750, oct(mode))
    return int(report.failed)


def final(work: Path, report: Report, fake: bool) -> None:
    if fake:
        return
    time.sleep(1.0)
    ticks = [line.split() for line in (work / "ticks").read_text().splitlines()]
    numbers = [int(number) for number, _ in ticks]
    report.rule("no number is missing", numbers == list(range(1, len(numbers) + 1)))
    clock = [float(seconds) for _, seconds in ticks]
    steps = [b - a for a, b in itertools.pairwise(clock)]
    report.rule("its monotonic clock never goes back", min(steps) > 0, min(steps))
    report.rule("nor jumps ahead", max(steps) < 3, max(steps))
    heard = (work / "heard").read_text().splitlines()
    whole = all(line.isdigit() for line in heard)
    report.rule("the one connection lives", whole, heard[-1])
    if whole:
        told = [int(line) for line in heard]
        report.rule("and missed nothing", told == list(range(told[0], told[0] + len(told))))
    journal = Path("/run/app/journal").read_text().split()
    report.rule("the file on tmpfs has every number", len(journal) >= len(numbers) - 1)


def main(arguments: list[str]) -> int:
    sys.path.insert(0, str(ROOT))
    if arguments[:1] == ["--landed"]:
        return landed(Path(arguments[1]), arguments[2] == "fake", Path(arguments[3]))
    if arguments[:1] == ["--inside"]:
        return as_init(Path(arguments[1]), "--fake" in arguments)
    with tempfile.TemporaryDirectory(dir="/var/tmp") as work:
        environment = dict(os.environ)
        if "--fake" in arguments:
            shim = Path(work) / "bin" / "criu"
            shim.parent.mkdir()
            shim.write_text(f"#!{sys.executable}\n" + HERE.with_name("fake_criu.py").read_text())
            shim.chmod(0o755)
            environment["PATH"] = f"{shim.parent}:{environment['PATH']}"
        namespaces = ["--pid", "--fork", "--mount", "--mount-proc", "--net", "--kill-child"]
        argv = ["unshare", *namespaces, sys.executable, str(HERE), "--inside", work, *arguments]
        return subprocess.run(argv, check=False, env=environment).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
