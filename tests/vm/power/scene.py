"""The guest of a power cut: its kernels, its workload, and the update that is cut."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.rehearsal.client import Client
from orchestrator.rehearsal.control import GuestRestartedError
from orchestrator.rehearsal.image import LayerFile
from orchestrator.rehearsal.kernels import KernelPair
from orchestrator.rehearsal.machine import Guest, Setup
from tests.support import upgrades as up
from tests.vm.power.disk import INIT, MOUNT

PORT = 7777
LEDGER = f"{MOUNT}/ledger/log"
JOURNAL = f"{MOUNT}/mkupgrade/journal.db"
_INTERVAL = "0.25"
"""Seconds between two numbers: each is a few requests among those of the update."""
_PROGRAMS = Path(__file__).parents[1] / "guest"
_HOME = "/usr/lib/mkupgrade-test"
JUDGE = f"{_HOME}/judge.py"
_PID_FILE = f"{MOUNT}/ledger/pid"
_SETTLED = f"test -e {up.ENDED} || {{ test ! -d {MOUNT}/mkupgrade && test -s {_PID_FILE}; }}"


def ledger(*, honest: bool = True) -> dict[str, Any]:
    """The workload, for `Setup.workloads`."""
    argv = [up.PYTHON, f"{_HOME}/ledger.py", str(PORT), LEDGER, _INTERVAL]
    return {"argv": argv if honest else [*argv, "--no-sync"], "pid_file": _PID_FILE}


@dataclass(frozen=True)
class Scene:
    """What all runs have in common."""

    kernels: KernelPair
    honest: bool = True
    """False: the workload tells of numbers that are not durable."""

    def plan(self) -> dict[str, Any]:
        """The update."""
        return up.document(self.kernels.target.release, [up.workload("ledger")])

    def setup(self, disk: tuple[str, ...]) -> Setup:
        """The guest with this disk. Its image is the same for all runs."""
        programs = {
            f"{_HOME}/{p}": LayerFile(_PROGRAMS / p, 0o644) for p in ("ledger.py", "judge.py")
        }
        images = {k.release: k.image for k in (self.kernels.source, self.kernels.target)}
        return Setup(
            kernel=self.kernels.source.image,
            cmdline="init=/usr/sbin/power-init",
            workloads=(ledger(honest=self.honest),),
            forwards=(PORT,),
            cpus=1,
            memory_mib=512,
            extra=disk,
            files={
                **{f"/boot/vmlinuz-{r}": LayerFile(i) for r, i in images.items()},
                **programs,
                "/usr/sbin/power-init": LayerFile(INIT.encode(), 0o755),
                up.PLAN: LayerFile(json.dumps(self.plan()).encode()),
            },
        )


@contextmanager
def running(setup: Setup) -> Iterator[tuple[Guest, Client]]:
    """The guest in its default kernel, and a client of its workload."""
    with Guest.boot(setup) as guest, Client(guest.forwarded(PORT), 120.0) as client:
        yield guest, client


def begin(guest: Guest) -> None:
    """Start the update; it goes on by itself."""
    guest.run(["rm", "-f", up.ENDED])
    guest.spawn(["mkupgrade", "apply", up.PLAN, "--yes", "--again"], "/var/log/apply.log")


def settle(guest: Guest, timeout: float = 600.0) -> None:
    """Wait, over as many kernels as it takes, until the resume at boot has ended, or was not
    needed because there is no journal."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            guest.wait_for(["sh", "-c", _SETTLED], timeout=max(1.0, deadline - time.monotonic()))
            return
        except GuestRestartedError:
            guest.next_kernel(max(1.0, deadline - time.monotonic()))


def seen_in(guest: Guest, *, quick: bool = False) -> dict[str, Any]:
    """What the host says of itself (`tests/vm/guest/judge.py`); quick: without the command line."""
    done = guest.run([up.PYTHON, JUDGE, *([] if quick else [up.PLAN])], timeout=600.0)
    found: dict[str, Any] = json.loads(done.stdout)
    return found
