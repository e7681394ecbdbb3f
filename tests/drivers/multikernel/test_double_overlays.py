"""The double: overlays, transactions, baseline and files, one test for each behaviour."""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest

from orchestrator.drivers.multikernel.trees.cells import text, u32, u64
from orchestrator.drivers.multikernel.trees.changes import (
    CpuChange,
    CreateInstance,
    DeviceChange,
    MemoryChange,
    RemoveInstance,
    Tag,
    Verb,
)
from orchestrator.drivers.multikernel.trees.forms import Baseline, MemoryRegion, MemoryRequest
from orchestrator.drivers.multikernel.trees.reading import read_instance, read_pool
from orchestrator.drivers.multikernel.trees.writing import baseline_tree
from orchestrator.system.device_tree import DeviceTreeError, Node
from tests.drivers.multikernel.pretend import (
    GIB,
    NIC,
    POOL,
    Client,
    add_cpus,
    blob,
    cpu,
    fragment,
    refused,
)
from tests.support.multikernel.double import Double
from tests.support.multikernel.settings import GRANULE, MK2, NEWER, PARK_BYTES, Variant


def test_a_write_succeeds_even_when_its_transaction_failed(client: Client) -> None:
    data = blob(fragment("/instances/nobody", add_cpus(8)))
    assert client.double.write("overlays/new", data) == len(data)
    assert client.status("overlays/tx_2") == "failed"
    assert "no instance nobody" in client.double.world.log[-1]


def test_what_was_applied_before_the_failure_is_kept(client: Client) -> None:
    client.create(cpus=(8,))
    assert client.change(CpuChange("web", Verb.ADD, (10, 11, 12))) == "failed"
    assert client.instance().cpus == (8, 10)


def test_an_operation_fails_half_way_on_demand(client: Client) -> None:
    client.create(cpus=(8,))
    client.double.world.faults.fail_at = {1: errno.EIO}
    assert client.change(CpuChange("web", Verb.ADD, (10, 12, 14))) == "failed"
    assert client.instance().cpus == (8, 10)
    assert client.change(CpuChange("web", Verb.ADD, (12, 14))) == "applied"


def test_undo_runs_the_inverse_of_operations_that_were_never_applied(client: Client) -> None:
    client.create(cpus=(8, 14))
    client.double.world.faults.fail_at = {1: errno.EIO}
    assert client.write(blob(fragment("/instances/web", add_cpus(10, 12)))) == "failed"
    with refused(errno.EINVAL):  # CPU 12 was never added
        client.double.rmdir("overlays/tx_3")
    assert client.instance().cpus == (8, 14, 10)


def test_undo_goes_by_the_name_at_the_time_of_the_undo(client: Client) -> None:
    client.create("web", 2)
    assert client.change(RemoveInstance("web")) == "applied"
    client.create("web", 3, cpus=(16,))
    client.double.rmdir("overlays/tx_2")  # undoes the first create, and today's web is gone
    assert client.double.listdir("instances") == []


def test_a_failed_undo_says_failed_and_stays(client: Client) -> None:
    client.create()
    client.load()
    with refused(errno.EBUSY):
        client.double.rmdir("overlays/tx_2")
    assert client.status("overlays/tx_2") == "failed"
    assert client.state("web") == "loaded"


def test_what_cannot_be_undone_is_undone_successfully_without_effect(client: Client) -> None:
    client.create()
    client.change(RemoveInstance("web"))
    grown = MemoryChange(None, Verb.ADD, requests=(MemoryRequest(GIB),))
    assert client.change(grown) == "applied"
    before = client.pool()
    client.double.rmdir("overlays/tx_3")
    client.double.rmdir("overlays/tx_4")
    assert client.double.listdir("instances") == []
    assert client.pool() == before
    assert client.double.listdir("overlays") == ["new", "tx_2"]


def test_undo_of_a_pool_that_shrank_grows_it_elsewhere(client: Client) -> None:
    client.change(MemoryChange(None, Verb.ADD, requests=(MemoryRequest(GIB),)))
    chunk = client.pool().memory[1]
    assert client.change(MemoryChange(None, Verb.REMOVE, (chunk,))) == "applied"
    client.double.world.memory.host.sort(key=lambda region: region.size)
    hole = client.double.world.memory.host.pop(0)
    client.double.rmdir("overlays/tx_3")
    again = client.pool().memory[1]
    assert again.size == chunk.size
    assert again.base != chunk.base
    assert hole.base == chunk.base


def test_transaction_ids_begin_at_2_and_are_never_used_again(client: Client) -> None:
    client.create()
    client.double.rmdir("overlays/tx_2")
    client.create()
    assert client.double.listdir("overlays") == ["new", "tx_3"]
    assert client.double.read("overlays/tx_3/id") == b"3\n"


def test_a_transaction_has_the_tag_of_its_overlay(client: Client) -> None:
    client.create()
    said = client.double.read("overlays/tx_2/resources").decode().strip()
    assert Tag.parse(said) == Tag("t", "step", 1)
    client.write(blob(fragment("/instances/web", add_cpus(12))))
    assert client.double.read("overlays/tx_3/resources") == b"unknown\n"
    assert client.double.read("overlays/tx_3/instance") == b"/instances/web\n"


def test_the_instance_of_a_transaction_is_the_target_of_the_lowest_fragment(
    client: Client,
) -> None:
    client.create()
    client.write(
        blob(
            fragment("/resources", add_cpus(24), unit=16),
            fragment("/instances/web", add_cpus(12), unit=3),
        )
    )
    assert client.double.read("overlays/tx_3/instance") == b"/instances/web\n"


def test_an_overlay_is_cut_at_a_page_and_parsed_beyond_it(client: Client) -> None:
    data = blob(fragment("/resources", add_cpus(*range(100, 300))))
    assert len(data) > 4096
    assert client.double.write("overlays/new", data) == 4096
    assert client.double.world.overruns == 1
    assert client.status("overlays/tx_2") == "failed"
    with refused(errno.EINVAL):
        client.double.write("overlays/new", data[4096:], 4096)


@pytest.mark.parametrize(
    ("data", "number"),
    [(b"", errno.EINVAL), (b"\0" * 100, errno.EINVAL), (b"\0" * ((1 << 20) + 1), errno.EFBIG)],
)
def test_what_is_no_overlay_makes_no_transaction(client: Client, data: bytes, number: int) -> None:
    with refused(number):
        client.double.write("overlays/new", data)
    assert client.double.listdir("overlays") == ["new"]


def test_items_and_operations_of_unknown_names_are_passed_over(client: Client) -> None:
    client.create(cpus=(8,))
    wrong = Node("cpu-add", {}, (cpu(10, name="cpus"), cpu(12)))
    typo = Node("cpu-ad", {}, (cpu(14),))
    assert client.write(blob(fragment("/instances/web", wrong, typo))) == "applied"
    assert client.instance().cpus == (8, 12)


def test_operations_of_a_fragment_run_in_the_kernels_order(client: Client) -> None:
    client.create(cpus=(8, 10))
    remove = Node("cpu-remove", {}, (cpu(10),))
    assert client.write(blob(fragment("/instances/web", add_cpus(10), remove))) == "applied"
    assert client.instance().cpus == (8, 10)


def test_a_cpu_of_one_cell_is_understood(client: Client) -> None:
    client.create(cpus=(8,))
    item = Node("cpu@0", {"reg": u32(10)})
    assert client.write(blob(fragment("/instances/web", Node("cpu-add", {}, (item,))))) == "applied"
    assert client.instance().cpus == (8, 10)


def test_a_later_fragment_may_name_what_an_earlier_one_made(client: Client) -> None:
    resources = Node("resources", {"memory-bytes": u64(GIB), "cpus": u64(8)})
    create = Node("instance-create", {"instance-name": text("web")}, (resources,))
    device = Node("device-add", {}, (Node("pci@0", {"pci-id": text(NIC.address)}),))
    data = blob(fragment("/instances", create), fragment("/instances/web", device, unit=1))
    assert client.write(data) == "applied"
    assert client.instance().pci == (NIC,)


def test_create_drops_cpus_that_it_cannot_have_and_is_ready(client: Client) -> None:
    client.double.world.faults.soft_fail_cpus = {10}
    client.create(cpus=(8, 10, 99))
    assert client.state("web") == "ready"
    assert client.instance().cpus == (8,)


def test_create_drops_devices_that_it_cannot_have_and_is_ready(client: Client) -> None:
    client.double.world.faults.soft_fail_pci = {NIC.address}
    device = Node("nic", {"pci-id": text(NIC.address)})
    resources = Node(
        "resources", {"memory-bytes": u64(GIB), "cpus": u64(8)}, (Node("devices", {}, (device,)),)
    )
    create = Node("instance-create", {"instance-name": text("web")}, (resources,))
    assert client.write(blob(fragment("/instances", create))) == "applied"
    assert client.instance().pci == ()
    assert client.state("web") == "ready"


def test_names_and_ids_are_taken_once(client: Client) -> None:
    client.create("web", 2)
    assert client.change(CreateInstance("web", 3, (12,), GIB)) == "failed"
    assert client.change(CreateInstance("shop", 2, (12,), GIB)) == "failed"
    assert client.double.listdir("instances") == ["web"]


def test_ids_that_are_not_given_count_from_1(client: Client) -> None:
    for name in ("a", "b"):
        resources = Node("resources", {"memory-bytes": u64(GIB)})
        create = Node("instance-create", {"instance-name": text(name)}, (resources,))
        client.write(blob(fragment("/instances", create)))
    ids = [client.double.read(f"instances/{name}/id") for name in ("a", "b")]
    assert ids == [b"1\n", b"2\n"]


def test_id_0_is_refused(client: Client) -> None:
    properties = {"instance-name": text("web"), "id": u32(0)}
    resources = Node("resources", {"memory-bytes": u64(GIB), "cpus": u64(8)})
    assert client.write(
        blob(fragment("/instances", Node("instance-create", properties, (resources,))))
    ) == "failed"  # fmt: skip


def test_the_baseline_is_taken_once(double: Double) -> None:
    again = baseline_tree(Baseline((24,), (MemoryRequest(GIB),)))
    with refused(errno.EBUSY):
        double.write("device_tree", again)


def test_the_baseline_is_taken_again_after_the_pool_was_emptied(client: Client) -> None:
    client.change(CpuChange(None, Verb.REMOVE, POOL))
    for region in client.pool().memory:
        assert client.change(MemoryChange(None, Verb.REMOVE, (region,))) == "applied"
    assert not client.pool().there
    again = baseline_tree(Baseline((24,), (MemoryRequest(GIB),)))
    assert client.double.write("device_tree", again) == len(again)
    assert client.pool().cpus == (24,)


@pytest.mark.parametrize(
    ("change", "number"),
    [
        (lambda data: data + b"\0\0\0\0", errno.EINVAL),
        (lambda data: b"\0" + data[1:], errno.EINVAL),
        (lambda _: baseline_tree(Baseline((7,), (MemoryRequest(GIB),))), errno.ENODEV),
        (lambda _: baseline_tree(Baseline((0,), (MemoryRequest(GIB),))), errno.EBUSY),
        (lambda _: baseline_tree(Baseline((2,), (MemoryRequest(GIB * 99),))), errno.ENOMEM),
    ],
)
def test_a_baseline_that_is_refused_changes_nothing(
    change: Callable[[bytes], bytes], number: int
) -> None:
    double = Double()
    double.world.offline = {0}
    data = baseline_tree(Baseline((2,), (MemoryRequest(GIB), MemoryRequest(GIB))))
    with refused(number):
        double.write("device_tree", change(data))
    assert not read_pool(double.read("device_tree"), "root").there
    assert double.world.memory.used == []


def test_without_a_pool_no_overlay_reaches_it(client: Client) -> None:
    bare = Client(Double())
    assert bare.change(CpuChange(None, Verb.ADD, (8,))) == "failed"


def test_directories_are_not_made_and_only_transactions_removed(client: Client) -> None:
    client.create()
    for path in ("instances/new", "overlays/tx_9", "x"):
        with refused(errno.EPERM):
            client.double.mkdir(path)
    for path in ("instances/web", "instances", "overlays", "overlays/tx_2/status"):
        with refused(errno.EPERM):
            client.double.rmdir(path)
    for path in ("instances/web/status", "overlays/tx_2/status"):
        with refused(errno.EACCES):
            client.double.write(path, b"x")
    with refused(errno.EACCES):
        client.double.read("overlays/new")


@pytest.mark.slow
def test_an_instances_tree_is_made_anew_for_each_read_and_can_tear(client: Client) -> None:
    big = Client(Double(cpus=1200))
    cpus = tuple(range(8, 1400, 2))
    big.double.write("device_tree", baseline_tree(Baseline(cpus, (MemoryRequest(4 * GIB),))))
    big.create(cpus=cpus[:-200])
    handle = big.double.open("instances/web/device_tree")
    first = handle.read()
    big.change(CpuChange("web", Verb.REMOVE, cpus[100:300]))
    torn = first + b"".join(iter(handle.read, b""))
    with pytest.raises(DeviceTreeError, match="changed while it was read"):
        read_instance(torn, "web")


def test_the_root_tree_is_one_picture_for_each_open(client: Client) -> None:
    handle = client.double.open("device_tree")
    client.change(CpuChange(None, Verb.ADD, (24,)))
    assert 24 not in read_pool(b"".join(iter(handle.read, b"")), "root").cpus
    assert 24 in client.pool().cpus


def test_nobody_is_told_of_a_change(client: Client) -> None:
    client.create()
    client.load()
    assert not client.double.poll("instances/web/status")
    assert client.state("web") == "loaded"


def test_the_park_area_takes_a_little_of_the_pool(client: Client) -> None:
    half = CreateInstance("one", 2, (8,), 2 * GIB)
    assert client.change(half) == "applied"
    assert client.change(CreateInstance("two", 3, (10,), 2 * GIB)) == "failed"
    free = sum(region.size for region in client.double.world.memory.free())
    assert free == 2 * GIB - PARK_BYTES


def test_memory_moves_by_blocks_of_128_mib(client: Client) -> None:
    client.create()
    base = 40 * GRANULE
    odd = MemoryRegion(base + 4096, GRANULE)
    assert client.change(MemoryChange("web", Verb.ADD, (odd,))) == "failed"
    assert client.change(MemoryChange("web", Verb.ADD, (MemoryRegion(base, 4096),))) == "failed"
    fits = MemoryRegion(48 * GRANULE, GRANULE)
    assert client.change(MemoryChange("web", Verb.ADD, (fits,))) == "applied"
    assert client.pool().granule == GRANULE


def test_memory_goes_whole_and_the_newest_first(client: Client) -> None:
    client.create()
    one, two = MemoryRegion(48 * GRANULE, GRANULE), MemoryRegion(50 * GRANULE, GRANULE)
    client.change(MemoryChange("web", Verb.ADD, (one, two)))
    assert client.change(MemoryChange("web", Verb.REMOVE, (one,))) == "failed"
    assert client.change(MemoryChange("web", Verb.REMOVE, (two, one))) == "applied"
    assert client.instance().memory_bytes == GIB


def test_memory_with_the_image_in_it_stays(client: Client) -> None:
    beside_the_park = MemoryRegion(32 * GRANULE + PARK_BYTES, GRANULE - PARK_BYTES)
    client.double.world.memory.used.append(beside_the_park)
    client.create()
    client.load()
    only = client.double.world.instances["web"].regions[0]
    assert client.change(MemoryChange("web", Verb.REMOVE, (only,))) == "failed"
    assert "the image is in it" in client.double.world.log[-1]


def test_a_fragmented_host_gives_memory_in_chunks_or_not_at_all() -> None:
    holes = tuple(MemoryRegion(n * 8 * GRANULE, 4 * GRANULE, 0) for n in range(1, 4))
    client = Client(Double(memory=holes))
    client.double.write("device_tree", baseline_tree(Baseline((2,), (MemoryRequest(6 * GRANULE),))))
    assert [region.size for region in client.pool().memory] == [4 * GRANULE, 2 * GRANULE]
    assert client.change(CreateInstance("web", 2, (2,), 5 * GRANULE)) == "failed"
    too_much = MemoryChange(None, Verb.ADD, requests=(MemoryRequest(7 * GRANULE),))
    assert client.change(too_much) == "failed"


def test_the_pool_gives_back_whole_chunks_that_nobody_uses(client: Client) -> None:
    whole = client.pool().memory[0]
    part = MemoryRegion(whole.base, GRANULE)
    assert client.change(MemoryChange(None, Verb.REMOVE, (part,))) == "failed"
    client.create()
    assert client.change(MemoryChange(None, Verb.REMOVE, (whole,))) == "failed"


def test_a_cpu_that_does_not_come_back_is_lost_to_all(client: Client) -> None:
    client.create(cpus=(8, 10))
    client.double.world.faults.leak_cpus = {10}
    assert client.change(RemoveInstance("web")) == "applied"
    assert 10 not in client.pool().cpus
    assert 10 not in client.pool().free_cpus
    assert client.double.world.log[-1] == "instance pool leaked: CPU 10"


def test_cpus_move_between_host_pool_and_instance(client: Client) -> None:
    assert client.change(CpuChange(None, Verb.ADD, (24,))) == "applied"
    assert client.change(CpuChange(None, Verb.ADD, (24,))) == "failed"
    client.create(cpus=(24,))
    assert client.change(CpuChange(None, Verb.REMOVE, (24,))) == "failed"
    assert client.change(CpuChange("web", Verb.REMOVE, (24,))) == "applied"
    assert client.change(CpuChange(None, Verb.REMOVE, (24,))) == "applied"
    assert 24 not in client.pool().cpus


def test_devices_move_between_pool_and_instance(client: Client) -> None:
    client.create()
    assert client.pool().pci == (NIC,)
    assert client.change(DeviceChange("web", Verb.ADD, (NIC.address,))) == "applied"
    assert client.pool().pci == ()
    assert client.change(DeviceChange("web", Verb.ADD, (NIC.address,))) == "failed"
    assert client.change(DeviceChange("web", Verb.REMOVE, (NIC.address,))) == "applied"
    assert client.change(DeviceChange(None, Verb.REMOVE, (NIC.address,))) == "applied"
    assert client.change(DeviceChange(None, Verb.ADD, (NIC.address,))) == "applied"


def test_somebody_else_writes_right_before_us(client: Client) -> None:
    theirs = blob(fragment("/resources", add_cpus(26)))
    client.double.world.faults.meanwhile = [lambda: client.double.write("overlays/new", theirs)]
    client.create()
    assert client.double.listdir("overlays") == ["new", "tx_2", "tx_3"]
    assert client.double.read("overlays/tx_2/dtbo") == theirs
    assert 26 in client.pool().cpus


@pytest.mark.parametrize("variant", [MK2, NEWER], ids=lambda variant: variant.name)
def test_variants_differ_in_granule_and_in_what_a_base_means(variant: Variant) -> None:
    client = Client.pooled(variant)
    client.create()
    asked = MemoryRegion(60 * GRANULE, GRANULE)
    assert client.change(MemoryChange("web", Verb.ADD, (asked,))) == "applied"
    got = client.double.world.instances["web"].regions[-1]
    assert (got.base == asked.base) == (variant is NEWER)
    assert (client.pool().granule is None) == (variant is MK2)
