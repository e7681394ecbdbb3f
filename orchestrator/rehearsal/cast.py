"""Who plays the plan's workloads in the guest.

The guest has three workloads of its own; a plan that names their pid files gets them as they
are. A workload that the guest does not have is played by a counter: that rehearses kernels,
transaction and handover, not the workload itself, and the notes say so.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from orchestrator.model.spec import Find, Hooks, UpgradeSpec, Workload
from orchestrator.model.spec.checks import Check
from orchestrator.model.spec.workloads import CriuMigrate
from orchestrator.rehearsal.package import GUEST_PROGRAMS

COUNTER_PORT = 7777
_FIRST_STAND_IN_PORT = 7800
_INTERPRETER = "/usr/bin/python3"

GUEST_WORKLOADS: dict[str, tuple[str, ...]] = {
    "/var/lib/counter/pid": ("counter.py", str(COUNTER_PORT), "/var/lib/counter/log"),
    "/var/lib/sleeper/pid": ("sleeper.py", "7778", "/var/lib/sleeper/log"),
    "/var/lib/tree/pid": ("tree.py", "/var/lib/tree/log", "/var/lib/tree/socket"),
}
"""Pid file -> the guest's workload that writes it, and its arguments."""


@dataclass
class Cast:
    """The plan with the workloads that play, and what the guest starts."""

    spec: UpgradeSpec
    started: list[dict[str, Any]] = field(default_factory=list)
    """For `Setup.workloads`."""
    logs: dict[str, str] = field(default_factory=dict)
    """Workload -> the file in the guest to which it appends a number per line."""
    counter_port: int | None = None
    """Guest port of the first counter."""
    notes: list[str] = field(default_factory=list)


def cast_workloads(spec: UpgradeSpec) -> Cast:
    """Give every workload of the plan to a program of the guest."""
    cast = Cast(spec)
    workloads = [_play(cast, workload, number) for number, workload in enumerate(spec.workloads)]
    foreign = [w.name for w, played in zip(spec.workloads, workloads, strict=True) if w != played]
    update: dict[str, Any] = {"workloads": workloads}
    if foreign:
        names = ", ".join(foreign)
        cast.notes.append(f"not in the guest, played by a counter without its checks: {names}")
        update["checks"] = _possible(spec.checks)
        if len(update["checks"]) < len(spec.checks):
            cast.notes.append("checks that need the host are left out")
        if spec.hooks != Hooks():
            update["hooks"] = Hooks()
            cast.notes.append("hooks are left out: their commands are the host's")
    cast.spec = spec.model_copy(update=update)
    return cast


def _play(cast: Cast, workload: Workload, number: int) -> Workload:
    arguments = GUEST_WORKLOADS.get(str(workload.find.pid_file))
    if arguments is not None:
        _start(cast, workload, arguments)
        return workload
    room = f"/var/lib/{workload.name}"
    stand_in = workload.model_copy(
        update={
            "find": Find(pid_file=PurePosixPath(f"{room}/pid")),
            "migrate": CriuMigrate(method="criu"),
            "checks": [],
        }
    )
    port = str(_FIRST_STAND_IN_PORT + number)
    _start(cast, stand_in, ("counter.py", port, f"{room}/log"))
    return stand_in


def _start(cast: Cast, workload: Workload, arguments: tuple[str, ...]) -> None:
    program, *rest = arguments
    argv = [_INTERPRETER, f"{GUEST_PROGRAMS}/{program}", *rest]
    cast.started.append({"argv": argv, "pid_file": str(workload.find.pid_file)})
    cast.logs[workload.name] = next(a for a in rest if a.endswith("/log"))
    if program == "counter.py" and cast.counter_port is None:
        cast.counter_port = int(rest[0])


def _possible(checks: list[Check]) -> list[Check]:
    """Those that ask the kernel only."""
    return [c for c in checks if c.kind == "kernel"]
