"""Specs for the simulated driver, planned once per process: the real planner's real graphs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

from orchestrator import planning
from orchestrator.drivers.simulated import PretendImage, kernels, looks, process, seeing
from orchestrator.drivers.simulated.creating import CMDLINE
from orchestrator.drivers.simulated.seeing import host_state
from orchestrator.drivers.simulated.world import Kernel, PretendWorkload, World
from orchestrator.model.base import digest
from orchestrator.model.host import Artifact
from orchestrator.model.spec import UpgradeSpec
from orchestrator.model.steps import StepGraph
from tests.crash.graphs import WrittenOnce
from tests.crash.simulation import patched

OLD, NEW = "7.2.13", "7.3.4"
OLD_IMAGE, NEW_IMAGE, PANICS = "/boot/old", "/boot/new", "/boot/new-panics"

_IMAGES = {
    OLD_IMAGE: PretendImage(release=OLD),
    NEW_IMAGE: PretendImage(release=NEW),
    PANICS: PretendImage(release=NEW, behaviour="panic-at-boot"),
}
_SUMS = {path: hashlib.sha256(path.encode()).hexdigest() for path in _IMAGES}


@dataclass(frozen=True)
class Scenario:
    """A planned upgrade, and the host that it was planned for."""

    name: str
    graph: StepGraph
    world: World
    durable: frozenset[str]
    """Workloads of which a copy is on disk from their checkpoint on."""
    stateless: frozenset[str]
    """Those that are merely restarted."""


@dataclass(frozen=True)
class _Wish:
    workloads: tuple[dict[str, Any], ...] = ()
    spec: dict[str, Any] = field(default_factory=dict)
    image: str = NEW_IMAGE
    loader: Literal["systemd-boot", "none"] = "systemd-boot"
    old_image: str | None = OLD_IMAGE


def _workload(name: str, **rest: Any) -> dict[str, Any]:
    found = {"name": name, "instance": "host", "find": {"cmdline": name}}
    return found | {"migrate": {"method": "criu"}} | rest


_CHECKS = [{"name": "release", "kind": "kernel", "release": NEW}]
_ALIVE = [{"name": "alive", "kind": "tcp", "port": 80}]
_RETRY = {"kernel": {"attempts": 3, "initial": "100ms"}}
_HOOKS = {
    "before": [{"name": "drain", "run": ["a"], "undo": ["b"]}],
    "after": [{"name": "tell", "run": ["c"], "undo": ["d"]}],
}

_WISHES = {
    "bare": _Wish(),
    "one": _Wish((_workload("db"),), {"checks": _CHECKS}),
    "three": _Wish(
        (
            _workload("db"),
            _workload("web", after=["db"], channel="disk"),
            _workload("mail", after=["db"], migrate={"method": "restart", "start": ["m"]}),
        ),
        {
            "checks": [*_CHECKS, *_ALIVE],
            "hooks": _HOOKS,
            "soak": {"duration": "2s", "interval": "1s"},
            "rollback": {"watchdog": "/dev/watchdog0"},
            "retry": _RETRY,
        },
    ),
    "by-hand": _Wish(
        (_workload("db", spill=False), _workload("web", after=["db"])),
        {"rollback": {"automatic": False}, "checks": _ALIVE, "soak": {"duration": "0s"}},
    ),
    "panics": _Wish((_workload("db"),), {"hooks": _HOOKS}, image=PANICS),
    "command-line": _Wish((_workload("db"),), {"checks": _ALIVE}, image=OLD_IMAGE),
    "back-by-reset": _Wish((_workload("db"),), {"checks": _ALIVE}, old_image=None),
    "no-loader": _Wish((_workload("db", channel="disk"),), {"checks": _ALIVE}, loader="none"),
}
NAMES = tuple(_WISHES)


@cache
def scenario(name: str) -> Scenario:
    wish = _WISHES[name]
    release = _IMAGES[wish.image].release
    instance: dict[str, Any] = {"name": "host", "kernel": {"image": wish.image, "release": release}}
    if release == OLD:
        instance["cmdline"] = {"append": ["mitigations=off"]}
    spec = UpgradeSpec.model_validate(
        {
            "api_version": "mkupgrade/v1",
            "metadata": {"name": name},
            "host": {"driver": "simulated", "state_dir": "/nowhere"},
            "instances": [instance],
            "workloads": list(wish.workloads),
        }
        | wish.spec
    )
    world = _world(wish)
    with in_memory():
        graph = planning.plan(spec, host_state(world, spec))
    stateless = frozenset(w.name for w in spec.workloads if w.migrate.method == "restart")
    carried = (w for w in spec.workloads if w.name not in stateless)
    durable = frozenset(w.name for w in carried if w.spill or w.channel == "disk")
    written = WrittenOnce(**{field: getattr(graph, field) for field in StepGraph.model_fields})
    return Scenario(name, written, world, durable, stateless)


def _world(wish: _Wish) -> World:
    running = Kernel(release=OLD, cmdline=CMDLINE, image=wish.old_image)
    world = World(
        machine_id="0" * 32,
        kernel=running,
        entries={f"linux-{OLD}": running.model_copy(deep=True)},
        default=f"linux-{OLD}",
        loader=wish.loader,
    )
    for number, w in enumerate(wish.workloads):
        world.workloads[w["name"]] = PretendWorkload(
            counter=1000 * (number + 1), pid=5000 + 10 * number, boot_id=world.boot_id
        )
    return world


@cache
def _boot_id(machine_id: str, boots: int) -> str:
    """As `World.boot_id`, which is asked for with every event."""
    return digest([machine_id, boots])[:32]


@contextmanager
def in_memory() -> Iterator[None]:
    """Pretend images without files, and processes without /proc."""

    def read_image(path: str) -> tuple[PretendImage, str]:
        return _IMAGES[path], _SUMS[path]

    def artifact(path: str, kind: Any) -> Artifact:
        image = _IMAGES[path]
        return Artifact(
            path=path,
            kind=kind,
            size=1000,
            sha256=_SUMS[path],
            release=image.release,
            abi=image.abi,
            kho_config=image.kho,
        )

    with patched(
        (kernels, "read_image", read_image),
        (looks, "artifact", artifact),
        (seeing, "artifact", artifact),
        (process, "_start_time", lambda pid: "1"),
        (World, "boot_id", property(lambda world: _boot_id(world.machine_id, world.boots))),
    ):
        yield
