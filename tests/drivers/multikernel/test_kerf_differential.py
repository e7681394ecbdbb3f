"""The real kerf 0.4.0 and our driver against the same served double: what they leave is the same,
and where it is not, the test says why."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator.drivers.multikernel.trees.forms import (
    Baseline,
    InstanceTree,
    MemoryRequest,
    PciDevice,
)
from orchestrator.drivers.multikernel.trees.reading import read_instance, read_pool
from orchestrator.drivers.multikernel.trees.writing import baseline_tree, instance_tree
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
from tests.support.multikernel.served import state
from tests.support.multikernel.served.session import cannot_be_served
from tests.support.multikernel.settings import GRANULE, Spawn

_LACK = cannot_be_served()
pytestmark = [pytest.mark.slow, pytest.mark.skipif(_LACK is not None, reason=str(_LACK))]

UPDATES: dict[str, tuple[list[Any], list[Any]]] = {
    "create": ([], []),
    "more CPUs": (
        [["update", "web", "--cpus", "8,10,12"]],
        [["cpus", "web", "add", [12]]],
    ),
    "fewer CPUs": (
        [["update", "web", "--cpus", "8"]],
        [["cpus", "web", "remove", [10]]],
    ),
    "more memory": (
        [["update", "web", "--memory", "1152MB"]],
        [["memory", "web", "add", TOP, GRANULE]],
    ),
    "more memory, and less": (
        [["update", "web", "--memory", "1152MB"], ["update", "web", "--memory", "1GB"]],
        [["memory", "web", "add", TOP, GRANULE], ["memory", "web", "remove", TOP, GRANULE]],
    ),
    "delete": ([["delete", "web"]], [["remove", "web"]]),
}


@pytest.mark.parametrize("name", UPDATES)
def test_changes_of_both_leave_the_same(pair: Pair, name: str) -> None:
    kerf, driver = UPDATES[name]
    went, left, calls = pair.theirs([INIT, MAKE, *kerf])
    assert all(went)
    asked = pair.asked()
    pair.double.reset(state.fresh)
    done, ours, our_calls = pair.ours([POOL, CREATE, *driver])
    assert set(done) == {"ok"}
    assert ours == left
    assert our_calls == calls == []
    assert pair.asked() == asked


@pytest.mark.parametrize("initrd", [False, True])
def test_a_whole_life_of_both_makes_the_same_calls_and_leaves_the_same(
    pair: Pair, initrd: bool
) -> None:
    its_load, our_load = pair.load(initrd)
    went, left, calls = pair.theirs(
        [INIT, MAKE, its_load, ["start", "web"], 5, ["update", "web", "--cpus", "8,10,12"],
         ["kill", "web"], ["start", "web"], 5, ["kill", "--force", "web"], ["unload", "web"]]
    )  # fmt: skip
    assert all(went)
    pair.double.reset(state.fresh)
    done, ours, our_calls = pair.ours(
        [POOL, CREATE, our_load, START, 5, ["cpus", "web", "add", [12]],
         ["halt", "web", 2, True], START, 5, ["halt_force", "web", 2], ["unload", "web", 2]]
    )  # fmt: skip
    assert set(done) == {"ok"}
    assert ours == left
    assert our_calls == calls
    assert len(calls) == 6


def test_both_refuse_what_cannot_be_and_leave_the_same(pair: Pair) -> None:
    its_load, our_load = pair.load()
    refused = [["start", "nobody"], ["delete", "nobody"], MAKE, ["start", "web"]]
    went, left, _ = pair.theirs([INIT, MAKE, *refused, its_load, its_load, ["delete", "web"]])
    assert went == [True, True, False, False, False, False, True, False, False]
    pair.double.reset(state.fresh)
    ours_refused = [["start", "nobody", 9], ["remove", "nobody"], CREATE, START]
    done, ours, _ = pair.ours([POOL, CREATE, *ours_refused, our_load, our_load, ["remove", "web"]])
    assert [step == "ok" for step in done] == went
    assert ours == left


def test_neither_unloads_a_running_kernel_though_this_one_would_let_them(pair: Pair) -> None:
    its_load, our_load = pair.load()
    went, left, calls = pair.theirs([INIT, MAKE, its_load, ["start", "web"], ["unload", "web"]])
    assert went[-1] is False
    pair.double.reset(state.fresh)
    done, ours, our_calls = pair.ours([POOL, CREATE, our_load, START, ["unload", "web", 2]])
    assert done[-1] != "ok"
    assert (ours, our_calls) == (left, calls)
    assert left["wrecked"] == []


def test_a_cpu_that_was_dropped_is_success_for_kerf_and_an_error_for_us(pair: Pair) -> None:
    """kerf believes `applied`; the kernel says that although a CPU could not be reserved."""
    pair.double.ask(state.soft_fail, 10)
    went, left, _ = pair.theirs([INIT, MAKE])
    assert went == [True, True]
    pair.double.reset(state.fresh)
    pair.double.ask(state.soft_fail, 10)
    done, ours, _ = pair.ours([POOL, CREATE])
    assert done == ["ok", "change-failed"]
    assert ours == left
    assert left["instances"]["web"][1] == [8]


def test_a_hung_kernel_stays_for_kerf_and_is_forced_by_us(pair: Pair) -> None:
    """kerf gives up after the kernel's 30 s; whether to force is for our caller to say."""
    hung = Spawn(wedges_at=2)
    its_load, our_load = pair.load()
    pair.double.ask(state.behave, "web", hung)
    went, left, calls = pair.theirs([INIT, MAKE, its_load, ["start", "web"], 5, ["kill", "web"]])
    assert went[-1] is False
    assert left["instances"]["web"][4] == "active"
    pair.double.reset(state.fresh)
    pair.double.ask(state.behave, "web", hung)
    done, ours, ours_made = pair.ours([POOL, CREATE, our_load, START, 5, ["halt", "web", 2, True]])
    assert done[-1] == "ok"
    assert ours["instances"]["web"][4] == "loaded"
    assert ours_made[:-1] == calls


def test_each_reads_the_others_trees(pair: Pair, tmp_path: Path) -> None:
    pair.theirs([INIT, MAKE])
    pool = read_pool(pair.double.ask(state.file, "device_tree"), "root")
    assert (list(pool.cpus), list(pool.free_cpus)) == (CPUS, [12, 14, 16, 18])
    web = read_instance(pair.double.ask(state.file, "instances/web/device_tree"), "web")
    assert (web.name, web.id, web.cpus, web.memory_bytes) == ("web", 2, (8, 10), GIB)
    nic = PciDevice("0000:09:00.0", 0x1AF4, 0x1041)
    ours = {
        "baseline": baseline_tree(Baseline((2, 3), (MemoryRequest(GIB, 0),), {"nic": nic})),
        "instance": instance_tree(InstanceTree("db", 7, (4, 6), 1 << 32, GIB, (), ())),
    }
    for name, data in ours.items():
        (tmp_path / name).write_bytes(data)
    done = pair.kerf.python(_READS, str(tmp_path / "baseline"), str(tmp_path / "instance"))
    assert done.code == 0, done.err
    assert json.loads(done.out) == [[2, 3], 7, [4, 6], GIB]


_READS = """
import json, sys
from kerf.dtc.parser import DeviceTreeParser
pool, instance = (open(path, "rb").read() for path in sys.argv[1:])
parser = DeviceTreeParser()
tree = parser.parse_dtb_from_bytes(pool)
web = DeviceTreeParser().parse_instance_dtb_from_bytes(instance)
print(json.dumps([sorted(tree.hardware.cpus.available), web.id, sorted(web.resources.cpus),
                  web.resources.memory_bytes]))
"""


def test_whatever_runs_with_the_double_cannot_reach_the_real_kernel(pair: Pair) -> None:
    """Read off /proc alone: the calls themselves are never tried."""
    said = pair.double.run("cat", "/proc/self/status").out
    lines = dict(line.split(":\t", 1) for line in said.splitlines() if ":\t" in line)
    for which in ("CapBnd", "CapPrm", "CapEff"):
        assert int(lines[which], 16) >> 22 & 1 == 0
    assert (lines["Seccomp"].strip(), lines["NoNewPrivs"].strip()) == ("2", "1")


def test_the_real_machine_sees_nothing_of_the_mount(pair: Pair) -> None:
    assert pair.double.run("test", "-e", "/sys/fs/multikernel/overlays/new").code == 0
    assert not Path("/sys/fs/multikernel").exists()
