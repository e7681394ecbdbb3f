"""The double keeps its own books: whatever is asked of it, nothing is lost and nothing is twice."""

from __future__ import annotations

import errno
from collections.abc import Callable
from contextlib import suppress

from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.drivers.multikernel.trees.changes import (
    Change,
    CpuChange,
    CreateInstance,
    DeviceChange,
    MemoryChange,
    RemoveInstance,
    Verb,
)
from orchestrator.drivers.multikernel.trees.forms import MemoryRegion, MemoryRequest
from tests.drivers.multikernel.pretend import NIC, Client
from tests.support.multikernel.memory import overlap
from tests.support.multikernel.settings import GRANULE, MK2, NEWER, Faults, Spawn
from tests.support.profile import examples

Act = Callable[[Client], object]

NAMES = st.sampled_from(("a", "b"))
TARGETS = st.none() | NAMES
VERBS = st.sampled_from(Verb)
SIZES = st.sampled_from((GRANULE, 2 * GRANULE, 8 * GRANULE, 4096))
REGIONS = st.builds(MemoryRegion, st.integers(30, 70).map(lambda n: n * GRANULE), SIZES)
CPUS = st.lists(st.integers(0, 20).map(lambda n: 2 * n), min_size=1, max_size=3, unique=True)
CHANGES: st.SearchStrategy[Change] = st.one_of(
    st.builds(CreateInstance, NAMES, st.sampled_from((2, 3)), CPUS.map(tuple), SIZES),
    st.builds(RemoveInstance, NAMES),
    st.builds(CpuChange, TARGETS, VERBS, CPUS.map(tuple)),
    st.builds(DeviceChange, TARGETS, VERBS, st.just((NIC.address,))),
    st.builds(lambda n, v, r: MemoryChange(n, v, (r,)), NAMES, VERBS, REGIONS),
    st.builds(lambda r: MemoryChange(None, Verb.REMOVE, (r,)), REGIONS),
    st.builds(lambda s: MemoryChange(None, Verb.ADD, (), (MemoryRequest(s),)), SIZES),
)


def _changes(change: Change) -> Act:
    return lambda client: client.change(change)


def _call(name: str, number: int) -> Act:
    return lambda client: getattr(client, name)(number)


def _undoes(number: int) -> Act:
    def undo(client: Client) -> None:
        there = client.double.listdir("overlays")[1:]
        client.double.rmdir(f"overlays/{there[number % len(there)]}" if there else "x")

    return undo


def _fails(at: int) -> Act:
    def fail(client: Client) -> None:
        client.double.world.faults.fail_at = {at: errno.EIO}

    return fail


def _behaves(spawn: Spawn) -> Act:
    return lambda client: client.double.world.spawns.update(a=spawn, b=spawn)


SPAWNS = st.sampled_from(
    (Spawn(), Spawn(wedges_at=2), Spawn(halts_at=2), Spawn(stops_silently_at=2))
)
ACTS: st.SearchStrategy[Act] = st.one_of(
    CHANGES.map(_changes),
    CHANGES.map(_changes),
    st.builds(
        _call,
        st.sampled_from(("load", "start", "halt", "force", "unload")),
        st.sampled_from((2, 3)),
    ),
    st.integers(0, 5).map(_undoes),
    st.integers(0, 2).map(_fails),
    SPAWNS.map(_behaves),
    st.just(lambda client: client.wait(5)),
)


@settings(max_examples=examples(60))
@given(st.sampled_from((MK2, NEWER)), st.lists(ACTS, max_size=25), st.sets(st.just(10)))
def test_cpus_and_memory_are_conserved(variant: object, acts: list[Act], leaking: set[int]) -> None:
    client = Client.pooled(MK2 if variant is MK2 else NEWER)
    world = client.double.world
    world.faults = Faults(leak_cpus=leaking)
    total = world.memory.total()
    for act in acts:
        with suppress(OSError):
            act(client)
        _books(client, total)


def _books(client: Client, total: int) -> None:
    world = client.double.world
    assert world.memory.total() == total
    owned = [cpu for instance in world.instances.values() for cpu in instance.cpus]
    assert len(set(owned)) == len(owned)
    assert set(owned) | set(world.free_cpus()) | (world.leaked & set(world.members)) == set(
        world.members
    )
    assert not set(owned) & set(world.free_cpus())
    regions = [region for instance in world.instances.values() for region in instance.regions]
    assert sorted(r.base for r in regions) == sorted(r.base for r in world.memory.used)
    for number, region in enumerate(regions):
        assert not any(overlap(region, other) for other in regions[number + 1 :])
        assert any(
            chunk.base <= region.base and region.base + region.size <= chunk.base + chunk.size
            for chunk in world.memory.chunks
        )
    devices = [address for instance in world.instances.values() for address in instance.pci]
    assert len(set(devices)) == len(devices)
    client.pool()
    for name in world.instances:
        assert set(client.instance(name).cpus) <= set(world.members)
