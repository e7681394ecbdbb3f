"""Plans that change what instances have as they run: nothing is handed out that is not there."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import networkx as nx
from hypothesis import event, given, settings
from hypothesis import strategies as st

from orchestrator import planning
from orchestrator.model.errors import PlanError
from orchestrator.model.host import HostState
from orchestrator.model.kinds import Kind
from orchestrator.model.spec import UpgradeSpec
from orchestrator.model.steps import Section, Step, StepGraph
from tests.support.profile import examples

GRANULE = 128 << 20
IMAGE = "/boot/vmlinux-7.1.0-mk3"
SHA = "a" * 64
NAMES = ("web", "api", "batch")


@dataclass
class Account:
    """Who has which CPUs and how much memory; a step that takes what is not there fails."""

    free: set[int]
    free_memory: int
    cpus: dict[str, set[int]] = field(default_factory=dict)
    memory: dict[str, int] = field(default_factory=dict)
    host: set[int] = field(default_factory=set)
    """CPUs that are not the pool's."""

    def carry_out(self, step: Step) -> None:
        name = str((step.params.get("target") or step.params.get("generation") or {}).get("name"))
        match Kind(step.kind):
            case Kind.ADD_CPUS:
                self._take(name, step.params["cpus"], 0)
            case Kind.ADD_MEMORY:
                self._take(name, [], step.params["size"])
            case Kind.CREATE_INSTANCE:
                assert name not in self.cpus
                self._take(name, step.params["cpus"], step.params["memory_bytes"])
            case Kind.REMOVE_CPUS:
                self._give(name, step.params["cpus"], 0)
            case Kind.REMOVE_MEMORY:
                self._give(name, [], sum(it["size"] for it in step.params["pieces"]))
            case Kind.GROW_POOL:
                joined = set(step.params["cpus"])
                assert joined <= self.host
                self.host -= joined
                self.free |= joined
                self.free_memory += step.params["memory"]
            case Kind.SHRINK_POOL:
                gone = set(step.params["cpus"])
                size = sum(it["size"] for it in step.params["chunks"])
                assert gone <= self.free
                assert size <= self.free_memory
                self.free -= gone
                self.host |= gone
                self.free_memory -= size
            case Kind.REMOVE_INSTANCE:
                self._give(name, list(self.cpus[name]), self.memory[name])
                del self.cpus[name], self.memory[name]

    def _take(self, name: str, cpus: list[int], size: int) -> None:
        assert len(set(cpus)) == len(cpus)
        assert set(cpus) <= self.free
        assert size <= self.free_memory
        self.free -= set(cpus)
        self.free_memory -= size
        self.cpus.setdefault(name, set()).update(cpus)
        self.memory[name] = self.memory.get(name, 0) + size

    def _give(self, name: str, cpus: list[int], size: int) -> None:
        assert set(cpus) <= self.cpus[name]
        assert size <= self.memory[name]
        self.free |= set(cpus)
        self.free_memory += size
        self.cpus[name] -= set(cpus)
        self.memory[name] -= size


def account(host: HostState) -> Account:
    assert host.pool is not None
    return Account(
        set(host.pool.free_cpus),
        host.pool.free_memory_bytes,
        {it.name: set(it.cpus) for it in host.instances.values()},
        {it.name: it.memory_bytes for it in host.instances.values()},
        set(host.cpu_ids),
    )


@st.composite
def hosts(draw: st.DrawFn) -> dict[str, Any]:
    """Three instances of which some run the wanted kernel, and a pool with something left."""
    cpus = iter(range(8, 200, 2))
    at = 32 * GRANULE
    instances = {}
    for number, name in enumerate(NAMES, 2):
        own = [next(cpus) for _ in range(draw(st.integers(1, 6)))]
        pieces = []
        for size in draw(st.lists(st.integers(1, 4), min_size=1, max_size=3)):
            pieces.append({"base": at, "size": size * GRANULE})
            at += size * GRANULE
        mark = f"mkupgrade.image={SHA[:16]}" if draw(st.booleans()) else "quiet"
        instances[name] = {
            "name": name,
            "id": number,
            "status": "active",
            "cpus": own,
            "memory_bytes": sum(it["size"] for it in pieces),
            "memory": pieces,
            "cmdline": f"console=mktty0 {mark}",
        }
    free = [next(cpus) for _ in range(draw(st.integers(0, 8)))]
    chunks = [{"base": 32 * GRANULE, "size": at - 31 * GRANULE}]
    at += GRANULE
    for size in draw(st.lists(st.integers(1, 4), max_size=3)):
        chunks.append({"base": at, "size": size * GRANULE})
        at += size * GRANULE
    left = sum(it["size"] for it in chunks[1:])
    used = [cpu for it in instances.values() for cpu in it["cpus"]]
    pool = {
        "cpus": sorted([*used, *free]),
        "free_cpus": free,
        "memory_bytes": at - 32 * GRANULE,
        "chunks": chunks,
        "free_memory_bytes": left,
    }
    return {
        "pool": pool,
        "instances": instances,
        "cpu_ids": [0, 2, 4, 6],
        "memory_available_bytes": 8 * GRANULE,
    }


SIZES = st.dictionaries(
    st.sampled_from(NAMES), st.tuples(st.integers(1, 9), st.integers(1, 12)), min_size=1
)


POOLS = st.none() | st.fixed_dictionaries(
    {},
    optional={
        "cpus": st.integers(3, 30),
        "memory": st.integers(3, 40).map(lambda number: f"{number * 128}MiB"),
    },
)


def make_spec(
    sizes: dict[str, tuple[int, int]], kind: str = "surge", pool: dict[str, Any] | None = None
) -> UpgradeSpec:
    instances = [
        {
            "name": name,
            "kernel": {"image": IMAGE, "release": "7.1.0-mk3"},
            "resources": {"cpus": cpus, "memory": f"{memory * 128}MiB"},
        }
        for name, (cpus, memory) in sizes.items()
    ]
    return UpgradeSpec.model_validate(
        {
            "api_version": "mkupgrade/v1",
            "metadata": {"name": "sizes"},
            "host": {"pool": pool},
            "instances": instances,
            "strategy": {"kind": kind},
            "rollback": {"kernel": {"image": "/boot/old"}},
        }
    )


def make_host(beside: dict[str, Any]) -> HostState:
    yes = {"available": True, "reason": "seen"}
    image = {"kind": "image", "size": 1 << 20, "sha256": SHA, "release": "7.1.0-mk3"}
    return HostState.model_validate(
        {
            "driver": "multikernel",
            "machine_id": "m",
            "hostname": "h",
            "boot_id": "b",
            "kernel": {"release": "7.0.0-mk2", "cmdline": ""},
            "capabilities": {"root": yes, "side-by-side": yes, "durable-state": yes},
            "artifacts": {
                IMAGE: image | {"path": IMAGE},
                "/boot/old": image | {"path": "/boot/old", "sha256": "b" * 64},
            },
            "strategies": ["surge", "replace", "rolling", "canary", "blue-green"],
        }
        | beside
    )


def some_order(graph: StepGraph, seed: int) -> Iterator[Step]:
    """Any that the edges allow."""
    dag = graph.as_networkx(Section.FORWARD)
    rng = random.Random(seed)
    key = {step: rng.random() for step in dag}
    for step in nx.lexicographical_topological_sort(dag, key=key.__getitem__):
        yield graph.step(step)


@settings(max_examples=examples(300))
@given(hosts(), SIZES, st.sampled_from(["surge", "replace", "rolling"]), POOLS, st.integers(0))
def test_never_more_is_handed_out_than_there_is(
    beside: dict[str, Any],
    sizes: dict[str, tuple[int, int]],
    kind: str,
    pool: dict[str, Any] | None,
    seed: int,
) -> None:
    host, spec = make_host(beside), make_spec(sizes, kind, pool)
    try:
        graph = planning.plan(spec, host)
    except PlanError as error:
        event("refused")
        assert error.details
        return
    event("planned")
    books = account(host)
    for step in some_order(graph, seed):
        books.carry_out(step)
    for name, (cpus, memory) in sizes.items():
        now = f"{name}-g2" if f"{name}-g2" in books.cpus else name
        assert (len(books.cpus[now]), books.memory[now]) == (cpus, memory * GRANULE)
    members = len(books.free) + sum(len(it) for it in books.cpus.values())
    size = books.free_memory + sum(books.memory.values()) + GRANULE
    wanted = spec.host.pool
    if wanted is not None and wanted.cpus is not None:
        assert members == wanted.cpus
    if wanted is not None and wanted.memory is not None:
        assert size == wanted.memory
    assert 0 in books.host, "the host keeps the CPU that it began with"
    if graph.is_empty:
        event("nothing to do")
        assert books == account(host)


@settings(max_examples=examples(300))
@given(hosts(), SIZES)
def test_an_instance_that_runs_the_kernel_gets_a_new_one_only_with_a_reason(
    beside: dict[str, Any], sizes: dict[str, tuple[int, int]]
) -> None:
    host = make_host(beside)
    try:
        graph = planning.plan(make_spec(sizes), host)
    except PlanError:
        return
    for name in sizes:
        runs = SHA[:16] in beside["instances"][name]["cmdline"]
        made = any(it.id == f"create-instance/{name}-g2" for it in graph.steps)
        told = any(
            f"instance {name} gets a new generation for its resources" in it for it in graph.notes
        )
        assert made == (told or not runs)


@settings(max_examples=examples(300))
@given(hosts(), SIZES)
def test_the_cpu_of_the_boot_and_the_memory_of_the_image_stay(
    beside: dict[str, Any], sizes: dict[str, tuple[int, int]]
) -> None:
    host = make_host(beside)
    try:
        graph = planning.plan(make_spec(sizes), host)
    except PlanError:
        return
    for step in graph.section(Section.FORWARD):
        if step.kind == Kind.REMOVE_CPUS:
            state = host.instances[step.params["target"]["name"]]
            assert state.cpus[0] not in step.params["cpus"]
        if step.kind == Kind.REMOVE_MEMORY:
            pieces = host.instances[step.params["target"]["name"]].model_dump()["memory"]
            gone = step.params["pieces"]
            assert gone == list(reversed(pieces[-len(gone) :]))
            assert len(gone) < len(pieces)
