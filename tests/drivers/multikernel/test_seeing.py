"""What the driver sees: always what the kernel says, and only once it has come to rest."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.drivers.multikernel import seeing
from orchestrator.drivers.multikernel.probing import Feature, probe
from orchestrator.drivers.multikernel.proc import command_lines, owned_regions
from orchestrator.drivers.multikernel.seeing import (
    MOST_PICTURES,
    Applied,
    SeenTransaction,
    Snapshot,
    Status,
    look,
    ours,
    transactions,
)
from orchestrator.drivers.multikernel.trees.changes import (
    CpuChange,
    MemoryChange,
    RemoveInstance,
    Tag,
    Verb,
)
from orchestrator.drivers.multikernel.trees.forms import MemoryRegion, PoolTree
from orchestrator.model.errors import ErrorClass, MkupgradeError, NotSupportedError
from orchestrator.system.device_tree import DeviceTreeError
from tests.drivers.multikernel.pretend import GIB, NIC, POOL, Client, blob, fragment
from tests.support.multikernel.double import Double
from tests.support.multikernel.kernel import DoubleKernel
from tests.support.multikernel.settings import GRANULE, MK2, STOCK


@pytest.fixture
def kernel(double: Double) -> DoubleKernel:
    return DoubleKernel(double)


class Restless(DoubleKernel):
    """Somebody changes the pool after each of so many readings of the root's tree."""

    def __init__(self, double: Double, times: int) -> None:
        super().__init__(double)
        self.times = times
        self.verb = Verb.ADD
        self.client = Client(double)

    def read(self, path: str, most: int) -> bytes:
        data = super().read(path, most)
        if path == "device_tree" and self.times:
            self.times -= 1
            assert self.client.change(CpuChange(None, self.verb, (24,))) == "applied"
            self.verb = Verb.REMOVE if self.verb == Verb.ADD else Verb.ADD
        return data


def test_pool_and_instances_are_what_the_kernel_says(client: Client, kernel: DoubleKernel) -> None:
    client.create()
    client.load()
    more = MemoryRegion(60 * GRANULE, GRANULE)
    client.change(MemoryChange("web", Verb.ADD, (more,)))
    seen = look(kernel)
    assert seen.pool == client.pool()
    assert (seen.pool.cpus, seen.pool.pci) == (POOL, (NIC,))
    web = seen.instances["web"]
    assert (web.status, web.tree.id, web.tree.cpus) == (Status.LOADED, 2, (8, 10))
    assert web.tree.memory_bytes == GIB + GRANULE
    assert [owned.region.size for owned in web.regions] == [GIB, GRANULE]
    assert web.cmdline == "console=mktty0"
    assert seen.oddities() == []


def test_a_picture_is_believed_once_it_was_the_same_twice(double: Double) -> None:
    # The last change comes between the third and the fourth reading.
    kernel = Restless(double, 3)
    assert look(kernel).pool == kernel.client.pool()
    assert kernel.times == 0


def test_what_does_not_come_to_rest_is_busy(double: Double) -> None:
    with pytest.raises(MkupgradeError, match="kept changing") as caught:
        look(Restless(double, MOST_PICTURES))
    assert caught.value.error_class is ErrorClass.BUSY


def test_an_instance_that_goes_away_meanwhile_is_no_error(client: Client, double: Double) -> None:
    client.create()

    class Vanishing(DoubleKernel):
        def names(self, path: str) -> list[str]:
            found = super().names(path)
            if "web" in found:
                client.change(RemoveInstance("web"))
            return found

    assert look(Vanishing(double)).instances == {}


def test_a_name_that_now_belongs_to_another_instance_is_told(
    client: Client, double: Double
) -> None:
    client.create()

    class Wrong(DoubleKernel):
        def read(self, path: str, most: int) -> bytes:
            return b"9\n" if path.endswith("/id") else super().read(path, most)

    with pytest.raises(MkupgradeError, match="not of web with id 9") as caught:
        look(Wrong(double))
    assert caught.value.next_command == "cat /sys/fs/multikernel/instances/web/id"


def test_a_status_that_is_not_known_is_told(client: Client, kernel: DoubleKernel) -> None:
    client.create()
    kernel.double.world.instances["web"].status = "loading"
    with pytest.raises(MkupgradeError, match="a status that is not known: 'loading'"):
        look(kernel)


def test_a_tree_that_cannot_be_understood_is_told_with_its_file(double: Double) -> None:
    class Broken(DoubleKernel):
        def read(self, path: str, most: int) -> bytes:
            return super().read(path, most)[:-4] if path == "device_tree" else b""

    with pytest.raises(DeviceTreeError, match="it was cut") as caught:
        look(Broken(double))
    assert caught.value.where == "/sys/fs/multikernel/device_tree"


def test_an_ordinary_kernel_is_not_asked_anything() -> None:
    kernel = DoubleKernel(Double(STOCK))
    with pytest.raises(NotSupportedError, match="no multikernel file system"):
        look(kernel)
    found = probe(kernel)
    assert set(found) == set(Feature)
    assert not any(capability.available for capability in found.values())
    assert all("is mounted on" in capability.reason for capability in found.values())


def test_each_feature_comes_with_its_reason(kernel: DoubleKernel) -> None:
    found = probe(kernel)
    assert all(capability.available for capability in found.values())
    assert found[Feature.POOL].reason == ("8 CPUs, 8 of them free, and 4096 MiB in 1 chunks")
    assert found[Feature.GRANULE].reason == "memory moves by 128 MiB"


def test_mk2_without_a_pool_says_what_is_missing() -> None:
    found = probe(DoubleKernel(Double(MK2)))
    missing = {feature for feature, capability in found.items() if not capability.available}
    assert missing == {Feature.POOL, Feature.GRANULE, Feature.VSOCK}
    assert "set aside" in found[Feature.POOL].reason


def test_what_cannot_be_read_is_not_known(
    kernel: DoubleKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seeing, "MOST_PICTURES", 0)
    found = probe(kernel)
    assert found[Feature.FILE_SYSTEM].available
    assert found[Feature.POOL].reason.startswith("not known: ")


def test_our_transactions_are_found_by_their_tag_among_those_of_others(
    client: Client, kernel: DoubleKernel
) -> None:
    client.create()
    client.write(blob(fragment("/resources"), tag="kerf was here"))
    assert client.change(CpuChange("web", Verb.ADD, (99,))) == "failed"
    assert list(transactions(kernel)) == [
        SeenTransaction(4, Applied.FAILED, "/instances/web", Tag("t", "step", 2)),
        SeenTransaction(3, Applied.APPLIED, "/resources", None),
        SeenTransaction(2, Applied.APPLIED, "/instances", Tag("t", "step", 1)),
    ]
    found = ours(kernel, Tag("t", "step", 2))
    assert found is not None
    assert found.id == 4
    assert ours(kernel, Tag("t", "step", 3)) is None


def test_a_transaction_that_is_undone_meanwhile_is_left_out(client: Client, double: Double) -> None:
    client.create()
    client.change(CpuChange("web", Verb.ADD, (12,)))

    class Undoing(DoubleKernel):
        def names(self, path: str) -> list[str]:
            found = super().names(path)
            double.rmdir("overlays/tx_3")
            return found

    assert [found.id for found in transactions(Undoing(double))] == [2]


def test_what_does_not_fit_together_is_said(client: Client, kernel: DoubleKernel) -> None:
    client.create()
    seen = look(kernel)
    web = seen.instances["web"]
    twin = replace(web, tree=replace(web.tree, name="shop", cpus=(10, 12, 77)))
    odd = Snapshot(seen.pool, {"web": web, "shop": twin}).oddities()
    assert odd == [
        "CPU 10 is in instance shop and in web",
        "CPU 12 is in shop and free",
        "CPU 77 of shop is not in the pool",
    ]
    lost = replace(seen.pool, free_cpus=seen.pool.free_cpus[1:])
    assert Snapshot(lost, seen.instances).oddities() == [
        "CPU 12 of the pool is neither free nor in an instance"
    ]
    assert Snapshot(PoolTree((0, 2))).oddities() == []


def test_lines_of_proc_that_are_about_other_things_are_passed_over() -> None:
    kimage = (
        "MK_ID  Type         Start Address       Segments  Mode  Cmdline\n"
        "-      default      0x0000000001000000  5         file  root=/dev/sda\n"
        "7      multikernel  0x0000000100000000  4         file  console=mktty0  quiet\n"
        "8      multikernel  0x0000000200000000  4         file\n"
    )
    assert command_lines(kimage) == {7: "console=mktty0  quiet", 8: ""}
    iomem = (
        "00000000-00000000 : mk-instance-2-web-region-0\n"
        "100000000-1ffffffff : Multikernel Memory Pool\n"
        "  100200000-1401fffff : mk-instance-2-a-region-1-region-0\n"
        "  140200000-140200000 : System RAM\n"
    )
    found = owned_regions(iomem)
    assert [(o.instance, o.number, o.region.size) for o in found] == [("a-region-1", 0, GIB)]
