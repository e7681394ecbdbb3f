"""A whole upgrade by the command line, on whatever multikernel host there is: pool, a first
generation, `plans/multikernel-surge.yaml` with it, and the way back.

The same steps run on the served double and, in QEMU, on a real kernel (docs/multikernel.md).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tests.drivers.multikernel.examples import document
from tests.support.multikernel.served.messages import Ran

POOL_CPUS = 4
POOL_MIB = 1792
"""Four generations of 384 MiB, a granule for the pool's own park area, and one to spare. It is to
be had in one piece, so it is no more than needed."""
_SIZE = {"cpus": 1, "memory": "384MiB"}
POOL_PROGRAM = Path(__file__).parents[2] / "vm/guest/pool.py"


class NoPoolError(Exception):
    """Nothing can be set aside for instances on this host; says why."""


class Machine(Protocol):
    """A host that can be told what to do."""

    mkupgrade: tuple[str, ...]
    """How the command is called."""
    python: str
    directory: Path
    """A place of its own on it."""

    def run(self, *argv: str) -> Ran: ...

    def put(self, path: Path, data: bytes) -> None: ...


@dataclass(frozen=True)
class Files:
    """What instances boot, by paths of the machine."""

    kernel: str
    release: str
    initrd: str | None
    cmdline: tuple[str, ...]
    up: str
    """What the init in it says on its console."""
    within: str = "60s"
    """Once its kernel answers."""


@dataclass(frozen=True)
class Upgrade:
    """What was seen of it."""

    first: dict[str, dict[str, Any]]
    """Instances after the first generation, as `mkupgrade status` has them, by name."""
    upgraded: dict[str, dict[str, Any]]
    answers: dict[str, str]
    """Of new generations, to a connection by vsock: silence, where there is none."""
    back: dict[str, dict[str, Any]]
    """After the rollback."""
    reports: list[dict[str, Any]]


def make_pool(machine: Machine) -> list[int]:
    """Physical ids of the CPUs in it.

    Raises:
        NoPoolError
    """
    program = machine.directory / "pool.py"
    machine.put(program, POOL_PROGRAM.read_bytes())
    done = machine.run(machine.python, str(program), str(POOL_CPUS), str(POOL_MIB))
    try:
        said = json.loads(done.out)
    except ValueError:
        raise NoPoolError(f"the pool's program ended with {done.code}: {done.err}") from None
    if said["why_not"] is not None:
        raise NoPoolError(said["why_not"])
    cpus: list[int] = said["cpus"]
    return cpus


def upgrade(machine: Machine, files: Files) -> Upgrade:
    """On a host with a pool and no instances. What the command refuses is an AssertionError."""
    reports = [_applied(machine, _plan(machine, files, "1", only="web"))]
    first = instances(machine)
    reports.append(_applied(machine, _plan(machine, files, "2")))
    upgraded = instances(machine)
    _mkupgrade(machine, "rollback", "--yes", "--state-dir", str(machine.directory / "state"))
    reports.append(_report(machine))
    return Upgrade(first, upgraded, _answers(reports[1]), instances(machine), reports)


def instances(machine: Machine) -> dict[str, dict[str, Any]]:
    """As they are at this moment."""
    state = str(machine.directory / "state")
    said = json.loads(_mkupgrade(machine, "status", "--json", "--state-dir", state))
    return {it["name"]: it for it in said["side_by_side"]["instances"]}


def assert_whole(found: Upgrade) -> None:
    """That it was an upgrade and a way back, and cost no CPU and no memory."""
    assert _states(found.first) == {"web-g1": "active"}
    assert _states(found.upgraded) == {
        "web-g1": "loaded", "web-g2": "active", "db-g1": "active", "batch-g1": "active",
    }  # fmt: skip
    assert set(found.answers) == {"web-g2", "db-g1", "batch-g1"}
    outcomes = [report["outcome"] for report in found.reports]
    assert outcomes == ["committed", "committed", "rolled-back"]
    assert found.back == found.first


def _states(found: dict[str, dict[str, Any]]) -> dict[str, str]:
    return {name: it["status"] for name, it in found.items()}


def _answers(report: dict[str, Any]) -> dict[str, str]:
    awaited = "await-instance/"
    return {
        step["id"].removeprefix(awaited): step["result"]["answer"]
        for step in report["steps"]
        if step["id"].startswith(awaited)
    }


def _plan(machine: Machine, files: Files, which: str, only: str | None = None) -> dict[str, Any]:
    """The example's shape: the same kernel for all, told apart by `which` on the command line."""
    plan = document("multikernel-surge", machine.directory, checks=[])
    kernel = {"image": files.kernel, "release": files.release}
    if files.initrd is not None:
        kernel["initrd"] = files.initrd
    line = {"inherit": False, "append": [*files.cmdline, f"upgrade={which}"]}
    named = [it for it in plan["instances"] if only in (None, it["name"])]
    there = {it["name"] for it in named}
    ready = _said_on_the_console(machine, files)
    plan["instances"] = [
        it | {"kernel": kernel, "cmdline": line, "resources": _SIZE}
        | {"ready": [check | {"name": f"{it['name']}-is-up"} for check in ready]}
        | {"after": [name for name in it.get("after", []) if name in there]}
        for it in named
    ]  # fmt: skip
    return plan


def _said_on_the_console(machine: Machine, files: Files) -> list[dict[str, Any]]:
    """A check that an instance's init came up, where there are consoles: by the log that the
    driver keeps of them while it waits."""
    look = "import os, sys; sys.exit(not os.path.exists('/dev/mktty'))"
    if machine.run(machine.python, "-c", look).code != 0:
        return []
    script = 'grep -q "$0" "$1"/transactions/*/forward/console."$MKUPGRADE_INSTANCE".log'
    run = ["sh", "-c", script, files.up, str(machine.directory / "state")]
    return [{"kind": "command", "run": run, "within": files.within}]


def _applied(machine: Machine, plan: dict[str, Any]) -> dict[str, Any]:
    """The report."""
    path = machine.directory / "plan.yaml"
    machine.put(path, json.dumps(plan).encode())
    _mkupgrade(machine, "apply", str(path), "--yes")
    return _report(machine)


def _report(machine: Machine) -> dict[str, Any]:
    state = str(machine.directory / "state")
    found: dict[str, Any] = json.loads(
        _mkupgrade(machine, "report", "--json", "--state-dir", state)
    )
    return found


def _mkupgrade(machine: Machine, *arguments: str) -> str:
    done = machine.run(*machine.mkupgrade, *arguments)
    assert done.code == 0, f"mkupgrade {' '.join(arguments)}: {done.code}\n{done.out}{done.err}"
    return done.out
