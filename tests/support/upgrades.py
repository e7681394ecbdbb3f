"""Upgrades inside a guest: plans as documents, applying them, and waiting for their end."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from orchestrator.cli.journals import last_report
from orchestrator.engine.journal import Journal
from orchestrator.rehearsal.control import GuestRestartedError, Hello
from orchestrator.rehearsal.copied import STATE, copied
from orchestrator.rehearsal.image import LayerFile
from orchestrator.rehearsal.machine import Guest
from orchestrator.rehearsal.package import GUEST_PROGRAMS

PLAN = "/etc/mkupgrade/plan.yaml"
ENDED = "/run/mkupgrade-resume.ended"
RESUME_LOG = "/var/log/mkupgrade-resume.log"
PYTHON = "/usr/bin/python3"
RESUME_UNIT = "mkupgrade-resume.service"
STATE_DIR = "/var/lib/mkupgrade"
DIES_ONCE, DIED = "/var/lib/dies-once", "/var/lib/died.json"
_DYING = Path(__file__).parents[1] / "vm/guest/dies.py"


def started(name: str, *arguments: str) -> dict[str, Any]:
    """A workload of the guest, for `boot(workloads=…)`."""
    argv = [PYTHON, f"{GUEST_PROGRAMS}/{name}.py", *arguments]
    return {"argv": argv, "pid_file": f"/var/lib/{name}/pid"}


COUNTER = started("counter", "7777", "/var/lib/counter/log")
SLEEPER = started("sleeper", "7778", "/var/lib/sleeper/log")
TREE = started("tree", "/var/lib/tree/log", "/var/lib/tree/socket")


def workload(name: str, **fields: Any) -> dict[str, Any]:
    """A workload of a spec, found by its pid file and carried by CRIU."""
    found = {"pid_file": f"/var/lib/{name}/pid"}
    return {
        "name": name,
        "instance": "host",
        "find": found,
        "migrate": {"method": "criu"},
        **fields,
    }


def document(
    release: str, workloads: list[dict[str, Any]], cmdline: Any = None, **fields: Any
) -> dict[str, Any]:
    """A spec that wants Linux `release` in the guest, with a soak of one second."""
    instance = {
        "name": "host",
        "kernel": {"image": f"/boot/vmlinuz-{release}", "release": release},
        "cmdline": cmdline or {},
    }
    return {
        "api_version": "mkupgrade/v1",
        "metadata": {"name": f"to-{release}"},
        "host": {"driver": "live-update"},
        "instances": [instance],
        "workloads": workloads,
        "soak": {"duration": "1s", "interval": "500ms"},
        "rollback": {"panic_timeout": "1s"},
        **fields,
    }


def dying(then: str) -> dict[str, LayerFile]:
    """Files of a guest whose `mkupgrade resume` dies once, between retrieval and durable copy.

    Args:
        then: "again": the same call is made again at once; else it is the guest's init's to see.
    """
    return {
        "/usr/local/sbin/mkupgrade": LayerFile(_DYING, 0o755),
        DIES_ONCE: LayerFile(f"{then}\n".encode()),
    }


def kernel_check(release: str) -> dict[str, Any]:
    """A check that holds in one kernel only."""
    return {
        "name": "kernel",
        "kind": "kernel",
        "release": release,
        "within": "1s",
        "log_excludes": [],
    }


def silent_check(release: str) -> dict[str, Any]:
    """A check that never answers in this kernel, and does not end when it is asked to."""
    waits = f"trap '' TERM; while [ $(uname -r) = {release} ]; do sleep 1; done"
    run = ["sh", "-c", waits]
    return {"name": "silent", "kind": "command", "run": run, "timeout": "3s", "within": "3s"}


def put_plan(guest: Guest, plan: dict[str, Any]) -> None:
    """JSON is YAML."""
    guest.put(PLAN, json.dumps(plan))


def apply(guest: Guest, plan: dict[str, Any], *options: str) -> Hello:
    """Apply a plan that jumps; the kernel that came up first behind the jump."""
    put_plan(guest, plan)
    guest.run(["rm", "-f", ENDED])
    _, hello = guest.run_through(["mkupgrade", "apply", PLAN, "--yes", *options])
    return hello


def outcome(guest: Guest, timeout: float = 240.0) -> dict[str, Any]:
    """Wait, over as many kernels as it takes, until the resume at boot has ended; the report."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            guest.wait_for_path(ENDED, timeout=max(1.0, deadline - time.monotonic()))
            return report(guest)
        except GuestRestartedError:
            guest.next_kernel(max(1.0, deadline - time.monotonic()))


@contextmanager
def journal(guest: Guest) -> Iterator[Journal]:
    """The guest's journal, copied to be read here."""
    with copied(guest, state_dir=STATE_DIR) as room:
        opened = Journal.open_readonly(room / STATE)
        assert opened is not None, "the guest has no journal"
        with opened:
            yield opened


def report(guest: Guest) -> dict[str, Any]:
    """The report of the last transaction, as `mkupgrade report --json` has it."""
    with copied(guest, state_dir=STATE_DIR) as room:
        found = last_report(room / STATE)
    assert found, "the guest has no journal"
    return found


def assert_whole(guest: Guest) -> None:
    """The journal's chain holds, as `mkupgrade history --verify` proves it."""
    with journal(guest) as read:
        verified = read.verify()
    assert verified.problem is None, verified


def why(report: dict[str, Any]) -> str:
    """How it ended and what went wrong on the way, short enough for the message of an assertion:
    pytest cuts the middle out of a long one."""
    attempts = [(s["id"], a) for s in report["steps"] for a in s["attempts"]]
    errors = [f"{step}: {json.dumps(a['error'])}" for step, a in attempts if a["error"]]
    return "\n".join([f"{report['outcome']}: {report['reason']}", *errors])


def result_of(report: dict[str, Any], step: str) -> dict[str, Any]:
    """What a step left in the journal."""
    found = next(s for s in report["steps"] if s["id"] == step)
    result: dict[str, Any] = found["result"]
    return result


def numbers(guest: Guest, name: str) -> list[int]:
    """The numbers that a workload has written, one per line."""
    lines = guest.text(f"/var/lib/{name}/log").splitlines()
    return [int(line.split()[0]) for line in lines]


def assert_gapless(guest: Guest, name: str, least: int = 1) -> None:
    """Every number once, in order, from 1 on: no state was lost, and none came back."""
    seen = numbers(guest, name)
    assert seen == list(range(1, len(seen) + 1))
    assert len(seen) >= least


def assert_goes_on(guest: Guest, name: str, seconds: float = 60.0) -> None:
    """It writes further lines; behind a boot, as soon as its init has started it, which may begin
    its file anew: what a reset has left of the old one may be anything."""
    log, deadline = f"/var/lib/{name}/log", time.monotonic() + seconds
    guest.wait_for_path(log, timeout=seconds)
    before = now = guest.text(log).count("\n")
    while now <= before:
        assert time.monotonic() < deadline, f"{name} stands still at {now} lines"
        time.sleep(0.2)
        before, now = now, guest.text(log).count("\n")
