"""The run itself: boot, connect from outside, apply, follow the guest from kernel to kernel."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

from orchestrator.model.errors import ErrorClass, MkupgradeError, RehearsalError
from orchestrator.model.outcomes import ExitCode
from orchestrator.rehearsal.client import Client, Seen
from orchestrator.rehearsal.control import GuestRestartedError
from orchestrator.rehearsal.copied import STATE, copied
from orchestrator.rehearsal.machine import Guest
from orchestrator.rehearsal.result import LogSeen, Rehearsal, read_log
from orchestrator.rehearsal.scene import PLAN_PATH, STATE_DIR, Scene

RESUME_LOG = "/var/log/mkupgrade-resume.log"
RESUME_ENDED = "/run/mkupgrade-resume.ended"
"""Written by the guest's init when `mkupgrade resume --boot` has ended, in each kernel."""

ReadReport = Callable[[Path], dict[str, Any]]
"""State directory -> the last transaction's report as `report --json` prints it; {}: none."""

_POLL = 0.4
_MESSAGES_BEFORE = 40
_MESSAGES_AFTER = 40
"""Numbers that the client shall see before the plan is applied, and at the end."""


class Watcher(Protocol):
    """Who is told while it happens; called from several threads."""

    def say(self, text: str) -> None:
        """One line about what the rehearsal does."""
        ...

    def output(self, text: str) -> None:
        """One line that mkupgrade printed in the guest."""
        ...

    def kernel(self, release: str) -> None:
        """The guest runs this kernel now."""
        ...

    def client(self, client: Client | None) -> None:
        """The client outside, from now on; None: it is about to hang up."""
        ...


def perform(
    scene: Scene, watcher: Watcher, read_report: ReadReport, *, keep: bool = False
) -> Rehearsal:
    """Run the scene once.

    Args:
        read_report: reads a copy of the guest's journal, here: a look in the guest takes seconds.

    Raises:
        RehearsalError: the guest could not be booted or talked to; what mkupgrade itself did
            not achieve is in the result instead.
    """
    started = time.monotonic()
    with Guest.boot(scene.setup, watcher.say) as guest:
        watcher.kernel(guest.release())
        guest.put(PLAN_PATH, json.dumps(scene.spec.model_dump(mode="json"), indent=2))
        with _connected(guest, scene, watcher) as client:
            deadline = time.monotonic() + scene.spec.rollback.deadline
            try:
                _apply(guest, watcher)
                _follow(guest, watcher, deadline)
                return _look(guest, scene, client, read_report, started)
            except MkupgradeError as error:
                raise _with_serial(error, guest) from None
            finally:
                if keep:
                    _stay(guest, watcher)


@contextlib.contextmanager
def _connected(guest: Guest, scene: Scene, watcher: Watcher) -> Iterator[Client | None]:
    if scene.counter_port is None:
        yield None
        return
    with Client(guest.forwarded(scene.counter_port)) as client:
        watcher.client(client)
        client.wait_messages(_MESSAGES_BEFORE, 30.0)
        try:
            yield client
        finally:
            watcher.client(None)


def _apply(guest: Guest, watcher: Watcher) -> None:
    """`mkupgrade apply`; that the kernel changes under it is the point of it."""
    watcher.say(f"guest: mkupgrade apply {PLAN_PATH}")
    lines = _Lines(watcher)
    argv = ["mkupgrade", "apply", PLAN_PATH, "--yes"]
    with contextlib.suppress(GuestRestartedError):
        guest.run(argv, timeout=900, on_output=lines.take, check=False)
    lines.end()


def _follow(guest: Guest, watcher: Watcher, deadline: float) -> None:
    """Until the transaction is at rest: its resume has ended in a kernel that stays."""
    log = _GuestLog(watcher)
    while True:
        try:
            seen = len(guest.control.hellos)
            if seen > guest.kernels_seen:
                watcher.kernel(guest.next_kernel().release)
            if guest.kernels_seen == 1:
                return  # apply ended in the kernel that it began in
            log.show_new(guest)
            if _has_file(guest, RESUME_ENDED):
                log.show_new(guest)
                return
        except GuestRestartedError:
            continue
        if time.monotonic() > deadline:
            what = "the transaction in the guest did not come to rest in time"
            raise RehearsalError(what, error_class=ErrorClass.TIMEOUT)
        time.sleep(_POLL)


def _has_file(guest: Guest, path: str) -> bool:
    """Asked of the agent itself: a program started for it would prolong the blackout."""
    try:
        guest.get(path)
    except GuestRestartedError:
        raise
    except RehearsalError:
        return False
    return True


def _look(
    guest: Guest, scene: Scene, client: Client | None, read_report: ReadReport, started: float
) -> Rehearsal:
    seen: Seen | None = None
    served: bool | None = None
    again_plan = ["mkupgrade", "plan", PLAN_PATH, "--detailed-exitcode"]
    with ThreadPoolExecutor(1) as pool:  # it spends seconds on starting Python
        again = pool.submit(guest.run, again_plan, check=False)
        report = _report(guest, read_report)
        if client is not None and scene.counter_port is not None:
            client.wait_messages(_MESSAGES_AFTER, 60.0)
            served = _new_client_served(guest.forwarded(scene.counter_port))
            seen = client.seen()
    return Rehearsal(
        source=scene.source.release,
        target=scene.target.release,
        notes=scene.notes,
        report=report,
        release_after=guest.release(),
        seen=seen,
        logs={name: _log(guest, path) for name, path in scene.logs.items()},
        new_client_served=served,
        nothing_left=again.result().code == ExitCode.DONE,
        serial_log=str(guest.keep_serial()),
        seconds=time.monotonic() - started,
    )


def _report(guest: Guest, read_report: ReadReport) -> dict[str, Any]:
    with copied(guest, state_dir=str(STATE_DIR)) as room:
        try:
            return read_report(room / STATE)
        except MkupgradeError as error:
            return {"reason": str(error)}


def _log(guest: Guest, path: str) -> LogSeen:
    try:
        return read_log(guest.text(path))
    except RehearsalError:
        return LogSeen(0, 0, 0)


def _new_client_served(port: int) -> bool:
    try:
        with Client(port) as client:
            return client.wait_messages(2, 20.0)
    except RehearsalError:
        return False


def _with_serial(error: MkupgradeError, guest: Guest) -> RehearsalError:
    kept = f"serial log of the guest: {guest.keep_serial()}"
    return RehearsalError(error.what, details=(*error.details, *guest.qemu.tail(), kept))


def _stay(guest: Guest, watcher: Watcher) -> None:
    watcher.say(f"the guest stays until Ctrl-C; serial log: {guest.qemu.serial_log}")
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            time.sleep(1.0)
            guest.qemu.check_alive()


class _Lines:
    """Pieces of output -> whole lines for the watcher."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher
        self._rest: dict[str, bytes] = {}

    def take(self, stream: str, data: bytes) -> None:
        *lines, self._rest[stream] = (self._rest.get(stream, b"") + data).split(b"\n")
        for line in lines:
            self._tell(line)

    def end(self) -> None:
        for rest in self._rest.values():
            if rest:
                self._tell(rest)

    def _tell(self, line: bytes) -> None:
        self._watcher.output(line.decode(errors="replace").rstrip())


class _GuestLog:
    """What the guest's init has mkupgrade say at boot, as it grows over several kernels."""

    def __init__(self, watcher: Watcher) -> None:
        self._lines = _Lines(watcher)
        self._shown = 0

    def show_new(self, guest: Guest) -> None:
        try:
            data = guest.control.get(RESUME_LOG, self._shown)
        except GuestRestartedError:
            raise
        except RehearsalError:
            return  # not there yet
        if data:
            self._lines.take("log", data)
            self._shown += len(data)
