"""The real kerf 0.4.0 and our driver change what runs, the pool and devices: what they ask the
kernel for and what they leave is the same, and where it is not, the test says why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.drivers.multikernel.trees.changes import CpuChange, Verb
from orchestrator.drivers.multikernel.trees.forms import Baseline, MemoryRequest, PciDevice
from orchestrator.drivers.multikernel.trees.reading import (
    read_instance,
    read_pool,
)
from orchestrator.drivers.multikernel.trees.writing import baseline_tree
from tests.drivers.multikernel.pair import (
    CPUS,
    CREATE,
    GIB,
    INIT,
    MAKE,
    POOL,
    START,
    TOP,
    Pair,
)
from tests.drivers.multikernel.pretend import Client
from tests.support.multikernel.double import Double
from tests.support.multikernel.served import state
from tests.support.multikernel.served.session import cannot_be_served
from tests.support.multikernel.settings import GRANULE

_LACK = cannot_be_served()
pytestmark = [pytest.mark.slow, pytest.mark.skipif(_LACK is not None, reason=str(_LACK))]

Steps = list[Any]
FIRST, SECOND = (device.address for device in state.DEVICES)
BASE = 0x1_0000_0000
"""Of the pool's first chunk."""


def init(cpus: str, memory: str) -> list[str]:
    return ["init", "--cpus", cpus, "--memory", memory]


def both_leave_the_same(pair: Pair, kerf: Steps, driver: Steps) -> dict[str, Any]:
    """All of it succeeds for both; what is left."""
    went, left, calls = pair.theirs(kerf)
    assert all(went), went
    asked = pair.asked()
    pair.double.reset(state.fresh)
    done, ours, our_calls = pair.ours(driver)
    assert set(done) == {"ok"}, done
    assert ours == left
    assert our_calls == calls
    assert pair.asked() == asked
    return left


RUNNING: dict[str, tuple[Steps, Steps]] = {
    "more CPUs, and fewer": (
        [["update", "web", "--cpus", "8,10,12,14"], ["update", "web", "--cpus", "8,12"]],
        [["cpus", "web", "add", [12, 14]], ["cpus", "web", "remove", [10, 14]]],
    ),
    "other CPUs": (
        [["update", "web", "--cpus", "8,12,14"]],
        [["cpus", "web", "remove", [10]], ["cpus", "web", "add", [12, 14]]],
    ),
    "more memory, twice, and less": (
        [["update", "web", "--memory", m] for m in ("1152MB", "1408MB", "1152MB")],
        [
            ["memory", "web", "add", TOP, GRANULE],
            ["memory", "web", "add", TOP - 2 * GRANULE, 2 * GRANULE],
            ["memory", "web", "remove", TOP - 2 * GRANULE, 2 * GRANULE],
        ],
    ),
    "memory and CPUs at once": (
        [["update", "web", "--cpus", "8", "--memory", "1152MB"]],
        [["memory", "web", "add", TOP, GRANULE], ["cpus", "web", "remove", [10]]],
    ),
}


@pytest.mark.parametrize("name", RUNNING)
def test_a_running_instance_is_changed_to_the_same(pair: Pair, name: str) -> None:
    its_load, our_load = pair.load()
    kerf, driver = RUNNING[name]
    both_leave_the_same(
        pair,
        [INIT, MAKE, its_load, ["start", "web"], 5, *kerf],
        [POOL, CREATE, our_load, START, 5, *driver],
    )


POOLS: dict[str, tuple[Steps, Steps]] = {
    "more CPUs": ([init("8,10,12,14,16,18,20,22", "4GB")], [["cpus", None, "add", [20, 22]]]),
    "fewer CPUs": ([init("8,10,12", "4GB")], [["cpus", None, "remove", [14, 16, 18]]]),
    "more memory, and less": (
        [init("8,10,12,14,16,18", "6GB"), INIT],
        [["pool_memory", 2 * GIB], ["memory", None, "remove", BASE + 4 * GIB, 2 * GIB]],
    ),
    "nothing more to set aside": (
        [init("none", "none")],
        [["cpus", None, "remove", CPUS], ["memory", None, "remove", BASE, 4 * GIB]],
    ),
}


@pytest.mark.parametrize("name", POOLS)
def test_the_pool_is_changed_to_the_same(pair: Pair, name: str) -> None:
    """But for the NUMA node of more memory: kerf names one of its choice, we leave it to the
    kernel, for the spec names none."""
    kerf, driver = POOLS[name]
    went, left, _ = pair.theirs([INIT, *kerf])
    assert all(went)
    asked = without_node(pair)
    pair.double.reset(state.fresh)
    done, ours, _ = pair.ours([POOL, *driver])
    assert set(done) == {"ok"}
    assert ours == left
    assert sorted(without_node(pair)) == sorted(asked)


def without_node(pair: Pair) -> list[Any]:
    return [
        (target, what, tuple(it for it in said if it[0] != "numa-node-id"))
        for target, what, said in pair.asked()
    ]


REFUSED: dict[str, tuple[list[str], list[Any]]] = {
    "the CPU that it booted on": (
        ["update", "web", "--cpus", "10"],
        ["cpus", "web", "remove", [8]],
    ),
    "a CPU that is not in the pool": (
        ["update", "web", "--cpus", "8,10,20"],
        ["cpus", "web", "add", [20]],
    ),
    "memory by half a block": (
        ["update", "web", "--memory", "1088MB"],
        ["memory", "web", "add", TOP, GRANULE // 2],
    ),
    "the memory with the image": (
        ["update", "web", "--memory", "512MB"],
        ["memory", "web", "remove", BASE, GIB // 2],
    ),
    "CPUs of the pool that it has": (
        init("12,14,16,18", "4GB"),
        ["cpus", None, "remove", [8, 10]],
    ),
    "a CPU that the machine lacks": (
        init("8,10,12,14,16,18,33", "4GB"),
        ["cpus", None, "add", [33]],
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_both_are_refused_and_leave_all_as_it_was(pair: Pair, name: str) -> None:
    its_load, our_load = pair.load()
    kerf, driver = REFUSED[name]
    went, left, _ = pair.theirs([INIT, MAKE, its_load, ["start", "web"], 5, kerf])
    assert went == [True] * 4 + [False]
    pair.double.reset(state.fresh)
    done, ours, _ = pair.ours([POOL, CREATE, our_load, START, 5, driver])
    assert [step == "ok" for step in done] == went
    assert ours == left
    assert left["instances"]["web"][1] == [8, 10]


def test_an_update_that_fails_half_way_stays_half_done_for_kerf_and_is_taken_back_by_us(
    pair: Pair,
) -> None:
    """kerf puts memory and CPUs into one overlay, of which the kernel keeps what came before the
    failure, and stops there. Each change of ours is an overlay of its own, and the engine undoes
    those that were made by further ones (here: the last step)."""
    its_load, our_load = pair.load()
    kerf = ["update", "web", "--memory", "1152MB", "--cpus", "10"]
    went, left, _ = pair.theirs([INIT, MAKE, its_load, ["start", "web"], 5, kerf])
    assert went[-1] is False
    assert left["instances"]["web"][2][1:] != [], "the memory came, and nobody took it back"
    pair.double.reset(state.fresh)
    done, ours, _ = pair.ours(
        [POOL, CREATE, our_load, START, 5, ["memory", "web", "add", TOP, GRANULE],
         ["cpus", "web", "remove", [8]], ["memory", "web", "remove", TOP, GRANULE]]
    )  # fmt: skip
    assert [step == "ok" for step in done[-3:]] == [True, False, True]
    assert ours["instances"]["web"][2][1:] == []


def test_a_pool_that_cannot_shrink_is_success_for_kerf_and_an_error_for_us(pair: Pair) -> None:
    """The kernel takes back whole chunks only. kerf gives back those that fit and says that it is
    done, where none does, too; we are told to give back a part of one, and fail."""
    went, left, _ = pair.theirs([INIT, init("8,10,12,14,16,18", "2GB")])
    assert went == [True, True]
    assert sum(chunk.size for chunk in left["chunks"]) == 4 * GIB
    pair.double.reset(state.fresh)
    done, ours, _ = pair.ours([POOL, ["memory", None, "remove", BASE, 2 * GIB]])
    assert done == ["ok", "change-failed"]
    assert ours == left


def test_a_change_that_somebody_else_makes_at_the_same_time_is_reported_as_its_own_by_kerf(
    pair: Pair,
) -> None:
    """kerf takes the highest transaction for its own, whatever became of its own; we find ours by
    its tag."""
    pair.theirs([INIT, MAKE])
    pair.double.ask(state.fail_overlay, 12)
    pair.double.ask(others_change_behind_it)
    went, left, _ = pair.theirs([["update", "web", "--cpus", "8"]])
    assert went == [True]
    assert left["instances"]["web"][1] == [8, 10], "nothing was changed"
    pair.double.reset(state.fresh)
    pair.ours([POOL, CREATE])
    pair.double.ask(state.fail_overlay, 12)
    pair.double.ask(others_change_behind_it)
    done, ours, _ = pair.ours([["cpus", "web", "remove", [10]]])
    assert done == ["change-failed"]
    assert ours == left


def others_change_behind_it(double: Double) -> None:
    """Right behind the next write, somebody else's is applied."""
    overlays = double.overlays
    write = overlays.write

    def both(data: bytes, offset: int = 0) -> int:
        taken = write(data, offset)
        overlays.write = write  # type: ignore[method-assign]
        assert Client(double).change(CpuChange(None, Verb.ADD, (20,))) == "applied"
        return taken

    overlays.write = both  # type: ignore[method-assign]


DEVICES: dict[str, tuple[Steps, Steps]] = {
    "none": ([MAKE], [CREATE]),
    "one from the beginning": ([[*MAKE, "--devices", FIRST]], [[*CREATE, [FIRST]]]),
    "another one": (
        [[*MAKE, "--devices", FIRST], ["update", "web", "--devices", SECOND]],
        [
            [*CREATE, [FIRST]],
            ["devices", "web", "remove", [FIRST]],
            ["devices", "web", "add", [SECOND]],
        ],
    ),
    "none any more": (
        [[*MAKE, "--devices", f"{FIRST},{SECOND}"], ["update", "web", "--devices", "none"]],
        [[*CREATE, [FIRST, SECOND]], ["devices", "web", "remove", [FIRST, SECOND]]],
    ),
    "back with the instance": (
        [[*MAKE, "--devices", FIRST], ["delete", "web"]],
        [[*CREATE, [FIRST]], ["remove", "web"]],
    ),
}


NAMED = {
    "pci_0000_08_00_0": state.DEVICES[0],
    "pci_0000_09_00_0": PciDevice(SECOND, 0x1AF4, 0x1041, "enp9s0"),
}


def pool_with(path: Path, *devices: str) -> Path:
    """A baseline with these, by the names of their nodes."""
    pci = {name: NAMED[name] for name in devices}
    path.write_bytes(baseline_tree(Baseline(tuple(CPUS), (MemoryRequest(4 * GIB, 0),), pci)))
    return path


@pytest.fixture
def baseline(tmp_path: Path) -> Path:
    """Of a pool with both devices, the second with a name of its own."""
    return pool_with(tmp_path / "pool.dtb", *NAMED)


@pytest.mark.parametrize("name", DEVICES)
def test_devices_go_the_same_ways(pair: Pair, baseline: Path, name: str) -> None:
    """kerf's `init` writes the tree that we have written, so both begin with what ours says."""
    kerf, driver = DEVICES[name]
    pair.double.reset(state.with_devices)
    went, left, _ = pair.theirs([["init", "--input", str(baseline)], *kerf])
    assert all(went)
    asked = pair.asked()
    pair.double.reset(state.with_devices)
    done, ours, _ = pair.ours([["baseline", str(baseline)], *driver])
    assert set(done) == {"ok"}
    assert ours == left
    assert pair.asked() == asked


def test_devices_of_the_pool_go_back_and_come_again_the_same_way(
    pair: Pair, baseline: Path, tmp_path: Path
) -> None:
    """kerf is told the whole pool that is wanted each time, by trees of ours."""
    fewer = pool_with(tmp_path / "fewer.dtb", "pci_0000_09_00_0")
    pair.double.reset(state.with_devices)
    steps = [["init", "--input", str(path)] for path in (baseline, fewer, baseline)]
    went, left, _ = pair.theirs(steps)
    assert all(went)
    asked = pair.asked()
    pair.double.reset(state.with_devices)
    done, ours, _ = pair.ours(
        [["baseline", str(baseline)], ["devices", None, "remove", [FIRST]],
         ["devices", None, "add", [FIRST]]]
    )  # fmt: skip
    assert set(done) == {"ok"}
    assert ours == left
    assert pair.asked() == asked
    assert len(asked) == 2


def test_a_device_that_another_instance_has_is_refused_to_both(pair: Pair, baseline: Path) -> None:
    """kerf looks for it in the pool before it makes anything; we make the instance, are refused
    the device, and leave it to the engine to take the instance back (here: the last step)."""
    pair.double.reset(state.with_devices)
    taken = ["create", "db", "--id", "3", "--cpus", "12", "--memory", "1GB", "--devices", FIRST]
    made = [*MAKE, "--devices", FIRST]
    went, left, _ = pair.theirs([["init", "--input", str(baseline)], taken, made])
    assert went == [True, True, False]
    pair.double.reset(state.with_devices)
    done, ours, _ = pair.ours(
        [["baseline", str(baseline)], ["create", "db", 3, [12], GIB, [FIRST]],
         [*CREATE, [FIRST]], ["remove", "web"]]
    )  # fmt: skip
    assert done == ["ok", "ok", "change-failed", "ok"]
    assert ours == left


def test_what_kerf_dumps_is_read_by_us(pair: Pair, baseline: Path, tmp_path: Path) -> None:
    pair.double.reset(state.with_devices)
    made = [*MAKE, "--devices", SECOND]
    dumped = [["dump", "-o", str(tmp_path / "pool")], ["dump", "web", "-o", str(tmp_path / "web")]]
    went, _, _ = pair.theirs([["init", "--input", str(baseline)], made, *dumped])
    assert all(went)
    web = read_instance((tmp_path / "web").read_bytes(), "web")
    assert (web.name, web.id, web.cpus, web.memory_bytes) == ("web", 2, (8, 10), GIB)
    assert [(it.address, it.alias) for it in web.pci] == [(SECOND, "enp9s0")]
    pool = read_pool((tmp_path / "pool").read_bytes(), "pool")
    assert (list(pool.cpus), list(pool.free_cpus)) == (CPUS, [12, 14, 16, 18])
    assert [it.address for it in pool.pci] == [FIRST]
    assert [(it.base, it.size) for it in pool.memory] == [(BASE, 4 * GIB)]
