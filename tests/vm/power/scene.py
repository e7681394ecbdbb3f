"""The guest of a power cut: its kernels, its workload, and the update that is cut."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from orchestrator.engine.events import Envelope
from orchestrator.engine.journal import Journal
from orchestrator.model.errors import MkupgradeError, RehearsalError
from orchestrator.rehearsal.client import Client, Seen
from orchestrator.rehearsal.control import GuestRestartedError
from orchestrator.rehearsal.copied import copied
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
_PATIENCE = 60.0
"""Seconds for a workload to answer a watcher."""
_PROGRAMS = Path(__file__).parents[1] / "guest"
_HOME = "/usr/lib/mkupgrade-test"
_WRITERS = f"{_HOME}/writers.py"
_PID_FILE = f"{MOUNT}/ledger/pid"
_SETTLED = f"""
until test -e {up.ENDED} || {{ test ! -d {MOUNT}/mkupgrade && test -s {_PID_FILE}; }}
do sleep 0.3
done
"""


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

    def setup(self, power: tuple[str, ...], **fields: Any) -> Setup:
        """The guest with this disk (`disk.plain`), and further fields of `Setup`. Its image is the
        same for all runs."""
        programs = {
            f"{_HOME}/{p}": LayerFile(_PROGRAMS / p, 0o644) for p in ("ledger.py", "writers.py")
        }
        images = {k.release: k.image for k in (self.kernels.source, self.kernels.target)}
        return Setup(
            kernel=self.kernels.source.image,
            cmdline="init=/usr/sbin/power-init",
            workloads=(ledger(honest=self.honest),),
            forwards=(PORT,),
            cpus=1,
            memory_mib=512,
            extra=power,
            **fields,
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


class Watcher:
    """A client that need not get an answer: connects in a thread of its own. A context manager."""

    def __init__(self, port: int) -> None:
        self._port, self._left = port, False
        self._client: Client | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        threading.Thread(target=self._connect, name="watcher", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._left = True
            if self._client is not None:
                self._client.close()

    def seen(self) -> Seen:
        """What came so far."""
        with self._lock:
            return self._client.seen() if self._client is not None else Seen()

    def _connect(self) -> None:
        with suppress(RehearsalError):
            client = Client(self._port, _PATIENCE)
            with self._lock:
                self._client = client
                if self._left:
                    client.close()


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
            guest.run(["sh", "-c", _SETTLED], timeout=max(1.0, deadline - time.monotonic()))
            return
        except GuestRestartedError:
            guest.next_kernel(max(1.0, deadline - time.monotonic()))


def seen_in(guest: Guest, *, calls: bool = False) -> dict[str, Any]:
    """What is on the host, for `promises.judge`. Its files are read here, where that is quick.

    Args:
        calls: ask its command line, too: whether the journal is whole, and for the next plan.
    """
    found: dict[str, Any] = {
        "writers": guest.run([up.PYTHON, "-IS", _WRITERS, LEDGER]).stdout.split(),
        "kexec_loaded": guest.text("/sys/kernel/kexec_loaded").strip(),
        "planned": None,
    }
    with copied(guest, LEDGER, state_dir=f"{MOUNT}/mkupgrade") as left:
        found["ledger"] = (left / Path(LEDGER).name).read_text()
        found |= history(left / "state")
    if calls and found["transactions"]:
        verified = guest.run(["mkupgrade", "history", "--verify"], check=False)
        found["verified"] = None if "whole" in verified.stdout else verified.output
    if calls:
        planned = guest.run(["mkupgrade", "plan", up.PLAN, "--json"], check=False)
        found["planned"] = None if planned.code == 0 else planned.output
    return found


def history(state_dir: Path) -> dict[str, Any]:
    """What a journal holds: transactions, each with its events (in which boot, type, step,
    outcome), and in "verified" what is wrong with the journal."""
    try:
        journal = Journal.open_readonly(state_dir)
        if journal is None:
            return {"transactions": [], "verified": None}
        with journal:
            problem = journal.verify().problem
            known = [
                {"id": t.id, "events": [_event(e) for e in journal.log(t.id)]}
                for t in journal.transactions()
            ]
    except MkupgradeError as error:
        return {"transactions": [], "verified": str(error)}
    return {"transactions": known, "verified": problem}


def _event(envelope: Envelope) -> dict[str, Any]:
    event = envelope.event
    told = {f: getattr(event, f) for f in ("step", "outcome") if hasattr(event, f)}
    return {"boot": envelope.stamp.boot_id, "type": event.type} | told
