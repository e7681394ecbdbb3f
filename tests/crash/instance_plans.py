"""Specs for hosts with instances, planned once per process, and the kernels that they are for."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from orchestrator import planning
from orchestrator.drivers.multikernel import observing, seeing
from orchestrator.model.host import Artifact, Cap, Capability, HostState, KernelState
from orchestrator.model.spec import UpgradeSpec
from orchestrator.model.steps import StepGraph
from tests.crash.graphs import WrittenOnce
from tests.crash.instance_agents import PORT
from tests.drivers.multikernel.pretend import VMLINUX
from tests.drivers.multikernel.scene import IMAGE, RELEASE, three
from tests.support.multikernel.double import Double
from tests.support.multikernel.kernel import DoubleKernel

OLD, NEW, INITRD = "/boot/old", "/boot/new", "/boot/initrd"
FILES = {OLD: VMLINUX, NEW: IMAGE, INITRD: b"070701"}
SUMS = {path: hashlib.sha256(data).hexdigest() for path, data in FILES.items()}
RELEASES = {OLD: "7.0.0-mk2", NEW: RELEASE}
STATE_DIR = "/nowhere"
_KERNEL = {"image": NEW, "release": RELEASE}
_SMALL = {"cpus": 1, "memory": "512MiB"}
_ROLLBACK = {"boot_deadline": "60s", "kernel": {"image": OLD}}
_BACK = {"rollback": _ROLLBACK | {"kernel": {"image": OLD, "initrd": INITRD}}}
_CHECKS = [{"name": "answers", "kind": "tcp", "port": 80}]
_HOOKS = {
    "before": [{"name": "drain", "run": ["drain"], "undo": ["fill"]}],
    "after": [{"name": "tell", "run": ["tell"]}],
}


@dataclass(frozen=True)
class Scenario:
    """A planned upgrade of instances, and the host that it was planned for."""

    name: str
    graph: StepGraph
    host: Double
    """To be copied for each schedule."""
    places: dict[str, str]
    """Workload -> instance that it runs in."""
    targets: dict[str, str]
    """Workload -> generation that it is planned to run in."""
    carried: tuple[str, ...] = ()
    """Workloads whose state is carried."""


@dataclass(frozen=True)
class _Wish:
    instances: tuple[dict[str, Any], ...]
    strategy: dict[str, Any]
    workloads: dict[str, str] = field(default_factory=dict)
    """Name -> instance."""
    rest: dict[str, Any] = field(default_factory=dict)


def _instance(name: str, **rest: Any) -> dict[str, Any]:
    return {"name": name, "kernel": _KERNEL} | rest


def _with_agent(name: str) -> dict[str, Any]:
    return _instance(name, agent={"port": PORT}, kernel=_KERNEL | {"initrd": INITRD})


_WEB, _API, _BATCH = (_instance(name) for name in ("web", "api", "batch"))
_LESS = (_instance("web", resources=_SMALL), _instance("batch", resources=_SMALL, after=["web"]))
_WORKLOADS = {"shop": "web", "db": "batch"}
_WISHES = {
    "surge": _Wish((_WEB,), {"kind": "surge"}, {"shop": "web"}),
    "surge-smaller": _Wish(
        _LESS, {"kind": "surge"}, _WORKLOADS,
        {"rollback": _ROLLBACK | {"keep_old_kernel": "0s"}},
    ),
    "replace": _Wish((_WEB,), {"kind": "replace"}, {"shop": "web"}, {"checks": _CHECKS}),
    "replace-all": _Wish(
        (_WEB, _API, _BATCH), {"kind": "replace"}, _WORKLOADS, {"hooks": _HOOKS}
    ),
    "rolling": _Wish(
        (_WEB, _API, _BATCH), {"kind": "rolling", "max_unavailable": 2}, _WORKLOADS,
        {"checks": _CHECKS},
    ),
    "rolling-surge": _Wish(
        _LESS, {"kind": "rolling", "each": "surge"}, _WORKLOADS,
    ),
    "canary": _Wish(
        (_WEB, _API, _BATCH), {"kind": "canary", "first": 1}, _WORKLOADS,
        {"checks": _CHECKS, "soak": {"duration": "2s", "interval": "1s"}, "hooks": _HOOKS},
    ),
    "blue-green": _Wish(
        _LESS, {"kind": "blue-green"}, _WORKLOADS, {"hooks": _HOOKS},
    ),
}  # fmt: skip
NAMES = tuple(_WISHES)
_WISHES |= {
    "carry": _Wish((_with_agent("web"),), {"kind": "surge"}, {"shop": "web"}, _BACK),
    "carry-replace": _Wish(
        (_with_agent("web"),), {"kind": "replace"}, {"shop": "web"},
        _BACK | {"checks": _CHECKS},
    ),
    "carry-rolling": _Wish(
        (_with_agent("web"), _with_agent("batch")), {"kind": "rolling", "max_unavailable": 1},
        _WORKLOADS, _BACK,
    ),
}  # fmt: skip
CARRYING = tuple(name for name in _WISHES if name not in NAMES)
"""Those in which the state of workloads is carried by agents."""


@cache
def scenario(name: str) -> Scenario:
    wish = _WISHES[name]
    spec = UpgradeSpec.model_validate(
        {
            "api_version": "mkupgrade/v1",
            "metadata": {"name": name},
            "host": {"driver": "multikernel", "state_dir": STATE_DIR},
            "instances": list(wish.instances),
            "workloads": [
                _workload(*it, carried=name in CARRYING) for it in wish.workloads.items()
            ],
            "strategy": wish.strategy,
            "soak": {"duration": "0s"},
            "rollback": _ROLLBACK,
        }
        | wish.rest
    )
    double = three()
    for it in double.world.instances.values():
        assert it.life is not None
        it.life.started = -100.0  # up long before the schedule begins
    graph = planning.plan(spec, _host_state(double))
    written = WrittenOnce(**{field: getattr(graph, field) for field in StepGraph.model_fields})
    places = {w.name: w.instance for w in spec.workloads}
    targets = {w: f"{instance}-g2" for w, instance in places.items()}
    carried = tuple(places) if name in CARRYING else ()
    return Scenario(name, written, double, places, targets, carried)


def _workload(name: str, instance: str, *, carried: bool) -> dict[str, Any]:
    if carried:
        migrate: dict[str, Any] = {"method": "criu"}
        return {"name": name, "instance": instance, "find": {"cmdline": name}, "migrate": migrate}
    migrate = {"method": "restart", "stop": ["stop", name], "start": ["start", name]}
    return {"name": name, "instance": instance, "find": {"cmdline": name}, "migrate": migrate}


def artifact(path: str) -> Artifact:
    """A pretend image, as looked at."""
    return Artifact(
        path=path,
        kind="initrd" if path == INITRD else "image",
        size=len(FILES[path]),
        sha256=SUMS[path],
        release=RELEASES.get(path),
    )


def _host_state(double: Double) -> HostState:
    """As observed, with nothing in it of the machine that this runs on."""
    now = seeing.look(DoubleKernel(double))
    yes = Capability(available=True, reason="seen")
    ports = dict.fromkeys(now.instances, PORT)
    return HostState(
        driver="multikernel",
        machine_id="0" * 32,
        hostname="h",
        boot_id="boot-1",
        kernel=KernelState(release=RELEASES[OLD], cmdline=""),
        capabilities=dict.fromkeys(Cap, yes),
        artifacts={path: artifact(path) for path in FILES},
        pool=observing._pool(now),
        instances={it.name: it for it in observing._instances(now, ports)},
        strategies=["surge", "replace", "rolling", "canary", "blue-green"],
    )
