"""The planner against networkx and graphlib: does a plan cost more than near linear time?

    python benchmarks/planner.py [WORKLOADS …]

For each size: how long `planning.plan`, `save`, `load` and `schedule` take, next to networkx doing
only what nobody can do without (building the same graph and walking its topological generations),
and to graphlib of the standard library doing the same. They take turns, and the least of three is
taken. `exponent` is that of the growth from the size before: 1 is linear. All times are of the
processor, so that what else runs on the machine counts as little as it can.
"""

from __future__ import annotations

import gc
import math
import sys
import time
from collections.abc import Callable
from functools import partial
from graphlib import TopologicalSorter
from typing import Any

import networkx as nx

from orchestrator import planning
from orchestrator.model.host import (
    Abi,
    Artifact,
    Cap,
    Capability,
    HostState,
    InstanceState,
    KernelState,
    PoolState,
    WorkloadState,
)
from orchestrator.model.spec import Strategy, UpgradeSpec
from orchestrator.model.spec.policy import OldKernel
from orchestrator.model.steps import StepGraph

SIZES = (250, 2_500, 25_000)
"""Workloads; a plan has about four steps for each."""
NAMES = ("networkx", "graphlib", "plan", "save", "load", "schedule")
IMAGE, OLD = "/boot/vmlinuz-7.3.4", "/boot/vmlinuz-7.2.13"
ABI = Abi(kho="kho-v4", luo="luo-v5", memfd="memfd-v2")


def make(count: int) -> tuple[UpgradeSpec, HostState]:
    """Workloads in a DAG: each waits for up to two earlier ones, in layers of about a hundred."""
    names = [f"w{n}" for n in range(count)]
    workloads = [
        {
            "name": name,
            "instance": "host",
            "find": {"unit": f"{name}.service"},
            "migrate": {"method": "criu"},
            "after": [names[n - step] for step in (97, 101) if n >= step],
        }
        for n, name in enumerate(names)
    ]
    kernel = {"image": IMAGE, "release": "7.3.4"}
    spec = UpgradeSpec.model_validate(
        {
            "api_version": "mkupgrade/v1",
            "metadata": {"name": "benchmark"},
            "instances": [{"name": "host", "kernel": kernel}],
            "workloads": workloads,
            "rollback": {"deadline": "30d"},
            "strategy": {"parallel": 64},
        }
    )
    yes = Capability(available=True, reason="benchmark")
    image = Artifact(path=IMAGE, kind="image", sha256="a" * 64, release="7.3.4", abi=ABI)
    host = HostState(
        driver="simulated",
        machine_id="m",
        hostname="h",
        boot_id="b",
        kernel=KernelState(release="7.2.13", cmdline="root=/dev/vda", abi=ABI, image=OLD),
        capabilities=dict.fromkeys(Cap, yes),
        artifacts={
            IMAGE: image,
            OLD: image.model_copy(update={"path": OLD, "release": "7.2.13"}),
        },
        workloads={
            n: WorkloadState(name=n, pids=[1], memory_bytes=2**20, volatile_files=[]) for n in names
        },
    )
    return spec, host


def bare(graph: StepGraph) -> int:
    """networkx alone."""
    dag: nx.DiGraph[str] = nx.DiGraph()
    dag.add_nodes_from(step.id for step in graph.steps)
    dag.add_edges_from(graph.edges)
    return sum(len(generation) for generation in nx.topological_generations(dag))


def standard(graph: StepGraph) -> int:
    """graphlib alone."""
    sorter: TopologicalSorter[str] = TopologicalSorter({step.id: () for step in graph.steps})
    for earlier, later in graph.edges:
        sorter.add(later, earlier)
    return sum(1 for _ in sorter.static_order())


def least(calls: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """CPU seconds by name, the least of three rounds in which each is called once."""
    best = dict.fromkeys(calls, math.inf)
    for _ in range(3):
        for name, call in calls.items():
            gc.collect()
            start = time.process_time()
            call()
            best[name] = min(best[name], time.process_time() - start)
    return best


def measure(count: int) -> tuple[int, dict[str, float]]:
    """(steps, CPU seconds by what was done) for a plan of this many workloads."""
    spec, host = make(count)
    graph = planning.plan(spec, host)
    text = planning.save(graph)
    assert bare(graph) == standard(graph) == len(graph.steps)
    assert planning.load(text) == graph
    calls: dict[str, Callable[[], Any]] = {
        "networkx": lambda: bare(graph),
        "graphlib": lambda: standard(graph),
        "plan": lambda: planning.plan(spec, host),
        "save": lambda: planning.save(graph),
        "load": lambda: planning.load(text),
        "schedule": lambda: planning.schedule(graph),
    }
    return len(graph.steps), least(calls)


def make_side_by_side(instances: int, workloads: int) -> tuple[UpgradeSpec, HostState]:
    """For a surge of instances, with workloads that are stopped there and started here."""
    names = [f"i{n}" for n in range(instances)]
    kernel = {"image": IMAGE, "release": "7.3.4"}
    migrate = {"method": "restart", "stop": ["stop"], "start": ["start"]}
    spec = UpgradeSpec.model_validate(
        {
            "api_version": "mkupgrade/v1",
            "metadata": {"name": "benchmark"},
            "instances": [
                {"name": n, "kernel": kernel, "resources": {"cpus": 1, "memory": "1GiB"}}
                for n in names
            ],
            "workloads": [
                {
                    "name": f"w{n}",
                    "instance": names[n % instances],
                    "find": {"cmdline": "w"},
                    "migrate": migrate,
                }
                for n in range(workloads)
            ],
            "rollback": {"deadline": "30d"},
            "strategy": {"kind": "surge"},
        }
    )
    _, host = make(0)
    state = {
        "pool": PoolState(
            cpus=list(range(2 * instances)),
            free_cpus=list(range(instances)),
            memory_bytes=2 * instances << 30,
            free_memory_bytes=instances << 30,
        ),
        "instances": {
            name: InstanceState(
                name=name,
                id=2 + n,
                status="active",
                cpus=[instances + n],
                memory_bytes=1 << 30,
                cmdline="",
            )
            for n, name in enumerate(names)
        },
        "strategies": ["surge", "rolling"],
    }
    return spec, host.model_copy(update=state)


def main(arguments: list[str] | None = None) -> None:
    sizes = [int(a) for a in (sys.argv[1:] if arguments is None else arguments)] or SIZES
    print("CPU ms".ljust(10) + "".join(f"{name:>10}" for name in NAMES), end="")
    print(f"{'x networkx':>12}{'x graphlib':>12}{'µs/step':>9}{'exponent':>10}")
    before: tuple[int, float] | None = None
    for size in sizes:
        steps, found = measure(size)
        plan = found["plan"]
        row = f"{steps:<10,}" + "".join(f"{found[name] * 1e3:>10.1f}" for name in NAMES)
        row += f"{plan / found['networkx']:>12.1f}{plan / found['graphlib']:>12.1f}"
        row += f"{plan / steps * 1e6:>9.1f}"
        if before is not None:
            grown = math.log(plan / before[1]) / math.log(steps / before[0])
            row += f"{grown:>10.2f}"
        print(row, flush=True)
        before = steps, plan
    instances, workloads = 200, 2_000
    surge, host = make_side_by_side(instances, workloads)
    kernel = OldKernel.model_validate({"image": OLD})
    rolling = surge.model_copy(
        update={
            "strategy": Strategy(kind="rolling", max_unavailable=8),
            "rollback": surge.rollback.model_copy(update={"kernel": kernel}),
        }
    )
    for name, spec in (("a surge", surge), ("rolling", rolling)):
        steps = len(planning.plan(spec, host).steps)
        found = least({"plan": partial(planning.plan, spec, host)})["plan"]
        print(
            f"{steps:,} steps of {name}, {instances} instances, {workloads:,} workloads: "
            f"{found * 1e3:.1f} ms"
        )


if __name__ == "__main__":
    main()
