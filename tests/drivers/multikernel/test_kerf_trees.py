"""What kerf 0.4.0 writes is understood: by our reader, by the double, and as it is left behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.drivers.multikernel.seeing import Status, look, transactions
from orchestrator.drivers.multikernel.trees.forms import (
    Baseline,
    MemoryRequest,
    PciDevice,
    PlatformDevice,
)
from orchestrator.drivers.multikernel.trees.overlay import read_overlay
from orchestrator.drivers.multikernel.trees.reading import read_baseline
from orchestrator.system.device_tree import DeviceTreeError
from tests.drivers.multikernel.pretend import GIB, NIC, Client
from tests.support.multikernel.double import Double
from tests.support.multikernel.kernel import DoubleKernel
from tests.support.multikernel.settings import GRANULE

KERF = Path(__file__).parent / "kerf"
ITS_NIC = PciDevice(NIC.address, NIC.vendor, NIC.device, "enp9s0")


def made(name: str) -> bytes:
    return (KERF / f"{name}.dtb").read_bytes()


def test_its_baseline_is_read() -> None:
    assert read_baseline(made("baseline"), "kerf") == Baseline(
        cpus=(2, 3),
        memory=(MemoryRequest(GIB, 0),),
        pci={"nic": ITS_NIC},
        platform=(PlatformDevice("ser", "serial8250"),),
    )


def test_what_it_created_is_seen_as_it_is() -> None:
    double = Double(pci=(NIC,))
    double.world.host_cpus = [0, 1, 2, 3]
    client = Client(double)
    double.write("device_tree", made("baseline"))
    assert client.write(made("create")) == "applied"
    kernel = DoubleKernel(double)
    web = look(kernel).instances["web"]
    assert (web.status, web.tree.id, web.tree.cpus) == (Status.READY, 3, (2, 3))
    assert (web.tree.memory_bytes, web.tree.pci) == (2 * GRANULE, (ITS_NIC,))
    assert [found.tag for found in transactions(kernel)] == [None]
    assert client.write(made("remove")) == "applied"
    assert look(kernel).instances == {}


def test_its_update_takes_a_cpu_and_adds_memory_at_the_place_it_names() -> None:
    double = Double(pci=(NIC,))
    double.world.host_cpus = [0, 1, 2, 3]
    client = Client(double)
    double.write("device_tree", made("baseline"))
    double.world.memory.grow(8 * GIB, None)
    client.write(made("create"))
    assert client.write(made("update")) == "applied"
    web = look(DoubleKernel(double)).instances["web"]
    assert web.tree.cpus == (2,)
    assert web.regions[-1].region.base == 60 * GRANULE
    assert web.tree.memory_bytes == 3 * GRANULE


@pytest.mark.parametrize("name", ["create", "update", "remove"])
def test_its_overlays_are_not_taken_for_ours(name: str) -> None:
    with pytest.raises(DeviceTreeError):
        read_overlay(made(name), "tx_2/dtbo")
