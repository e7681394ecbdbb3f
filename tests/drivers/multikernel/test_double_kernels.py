"""The double: instances, their kernels, the two calls and the devices, one test for each rule."""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest

from orchestrator.drivers.multikernel.trees.changes import (
    CpuChange,
    DeviceChange,
    MemoryChange,
    RemoveInstance,
    Verb,
)
from orchestrator.drivers.multikernel.trees.forms import MemoryRegion
from tests.drivers.multikernel.pretend import NIC, VMLINUX, Client, refused
from tests.support.multikernel.calls import ID_SHIFT, MAGIC1, MAGIC2, MULTIKERNEL, START, UNLOAD
from tests.support.multikernel.devices import AGENT_PORT, RING
from tests.support.multikernel.double import MAGIC, Double
from tests.support.multikernel.settings import (
    ACK_SECONDS,
    GRANULE,
    HALT_SECONDS,
    MK2,
    STOCK,
    Spawn,
)


def test_an_instance_goes_from_ready_to_loaded_to_active_and_back(client: Client) -> None:
    seen = []
    acts: tuple[Callable[[], None], ...] = (
        client.create,
        client.load,
        client.start,
        lambda: client.wait(5),
        client.halt,
        client.unload,
    )
    for act in acts:
        act()
        seen.append(client.state("web"))
    assert seen == ["ready", "loaded", "active", "active", "loaded", "ready"]
    assert client.change(RemoveInstance("web")) == "applied"


def test_what_is_not_allowed_in_a_state_is_refused(client: Client) -> None:
    client.create()
    with refused(errno.ENOENT):
        client.unload()
    with refused(errno.EINVAL):
        client.start()
    with refused(errno.EINVAL):
        client.halt()
    with refused(errno.EINVAL):
        client.force()
    client.load()
    with refused(errno.EBUSY):
        client.load()
    with refused(errno.EINVAL):
        client.halt()
    assert client.change(RemoveInstance("web")) == "failed"
    client.start()
    with refused(errno.EBUSY):
        client.start()


def test_an_instance_that_is_not_there_has_no_calls(client: Client) -> None:
    for act in (client.load, client.unload, client.start, client.halt, client.force):
        with refused(errno.ENOENT):
            act(77)
    with refused(errno.EINVAL):
        client.load(0)


def test_an_instance_without_a_cpu_does_not_start(client: Client) -> None:
    client.create(cpus=(99,))
    client.load()
    with refused(errno.EINVAL):
        client.start()


def test_calls_are_refused_while_another_holds_the_kexec_lock(client: Client) -> None:
    client.create()
    client.double.world.faults.kexec_lock_busy = 2
    for _ in range(2):
        with refused(errno.EBUSY):
            client.load()
    client.load()
    client.double.world.faults.kexec_lock_busy = 1
    with refused(errno.EBUSY):
        client.start()
    client.start()
    client.wait(5)
    client.double.world.faults.kexec_lock_busy = 1
    assert client.change(CpuChange("web", Verb.ADD, (12,))) == "failed"
    assert client.change(CpuChange("web", Verb.ADD, (12,))) == "applied"


def test_a_halt_that_is_not_answered_takes_30_seconds(client: Client) -> None:
    client.run(spawn=Spawn(wedges_at=3))
    before = client.double.world.clock.now
    with refused(errno.ETIMEDOUT):
        client.halt()
    assert client.double.world.clock.now == before + HALT_SECONDS
    assert client.state("web") == "active"
    client.force()
    assert client.state("web") == "loaded"


@pytest.mark.parametrize(
    "change",
    [
        CpuChange("web", Verb.ADD, (12,)),
        MemoryChange("web", Verb.ADD, (MemoryRegion(60 * GRANULE, GRANULE),)),
        DeviceChange("web", Verb.ADD, (NIC.address,)),
    ],
    ids=("cpu", "memory", "device"),
)
def test_hot_plug_that_is_not_answered_takes_10_seconds_and_changes_nothing(
    client: Client, change: CpuChange | MemoryChange | DeviceChange
) -> None:
    client.run(spawn=Spawn(wedges_at=3))
    before, had = client.double.world.clock.now, client.instance()
    assert client.change(change) == "failed"
    assert client.double.world.clock.now == before + ACK_SECONDS
    assert client.instance() == had


def test_a_kernel_that_hangs_is_active_all_the_same(client: Client) -> None:
    client.run(spawn=Spawn(wedges_at=3))
    assert client.state("web") == "active"
    with refused(errno.ETIMEDOUT):
        client.double.devices.connect(2, 9)


def test_active_is_said_before_the_kernel_has_booted(client: Client) -> None:
    client.create()
    client.load()
    client.start()
    assert client.state("web") == "active"
    with refused(errno.ETIMEDOUT):
        client.double.devices.connect(2, 9)
    client.wait(1)
    assert client.double.devices.connect(2, 9) == "reset"


def test_a_kernel_may_live_and_never_be_ready(client: Client) -> None:
    client.run(spawn=Spawn(ready_in=None))
    client.wait(3600)
    assert client.double.devices.connect(2, AGENT_PORT) == "reset"
    client.halt()
    client.double.world.spawns["web"] = Spawn()
    client.start()
    client.wait(5)
    assert client.double.devices.connect(2, AGENT_PORT) == "agent"


def test_a_kernel_that_stopped_silently_is_active_and_can_be_started(client: Client) -> None:
    client.run(spawn=Spawn(stops_silently_at=3))
    assert client.state("web") == "active"
    with refused(errno.ETIMEDOUT):
        client.double.devices.connect(2, 9)
    client.double.world.spawns["web"] = Spawn()
    client.start()
    client.wait(5)
    assert client.double.devices.connect(2, 9) == "reset"


def test_a_kernel_that_halts_or_panics_by_itself_is_loaded(client: Client) -> None:
    client.run(spawn=Spawn(halts_at=4))
    assert client.state("web") == "loaded"


def test_a_loaded_image_can_be_started_many_times(client: Client) -> None:
    client.run()
    for _ in range(3):
        client.halt()
        client.start()
        client.wait(5)
        assert client.double.devices.connect(2, 9) == "reset"


def test_the_image_of_a_running_kernel_can_be_unloaded_under_it(client: Client) -> None:
    client.run()
    client.unload()
    assert client.state("web") == "ready"
    assert client.double.world.wrecked == ["web"]


def test_a_forced_halt_comes_back_before_the_cpus_are_parked(client: Client) -> None:
    client.run()
    client.force()
    assert client.state("web") == "loaded"
    with refused(errno.EBUSY):
        client.start()
    assert client.change(CpuChange("web", Verb.REMOVE, (10,))) == "failed"
    client.force()
    client.wait(1)
    assert client.change(CpuChange("web", Verb.REMOVE, (10,))) == "applied"
    client.start()


def test_a_running_kernel_takes_only_cpus_that_it_saw_at_its_boot(client: Client) -> None:
    client.run()
    assert client.change(CpuChange(None, Verb.ADD, (24,))) == "applied"
    assert client.change(CpuChange("web", Verb.ADD, (24,))) == "failed"
    client.halt()
    assert client.change(CpuChange("web", Verb.ADD, (24,))) == "applied"


def test_the_boot_cpu_cannot_be_taken_from_a_running_kernel(client: Client) -> None:
    client.run()
    assert client.change(CpuChange("web", Verb.REMOVE, (8,))) == "failed"
    assert client.change(CpuChange("web", Verb.REMOVE, (10,))) == "applied"


def test_only_an_elf_image_is_loaded_and_a_bad_signature_is_told(client: Client) -> None:
    client.create()
    flags = MULTIKERNEL | 2 << ID_SHIFT
    with refused(errno.ENOEXEC):
        client.double.calls.kexec_file_load(b"MZ", b"initrd", "", flags)
    client.double.world.faults.signature_errno = errno.EKEYREJECTED
    with refused(errno.EKEYREJECTED):
        client.double.calls.kexec_file_load(VMLINUX, b"initrd", "", flags)
    client.double.world.faults.signature_errno = None
    client.double.calls.kexec_file_load(VMLINUX, b"initrd", "a=b", flags)
    assert client.double.kimage().splitlines()[2].endswith("a=b")


def test_a_console_has_only_what_was_written_while_it_was_open(client: Client) -> None:
    client.create()
    client.double.devices.say("web", "early\n")
    tty = client.double.devices.open_mktty()
    with refused(errno.ENOTCONN):
        tty.read()
    with refused(errno.EINVAL):
        tty.write(b"0\n")
    with refused(errno.ENODEV):
        tty.write(b"9\n")
    tty.write(b"2\n")
    client.double.devices.say("web", "late\n")
    assert tty.read() == b"late\n"
    assert tty.read() == b""
    client.double.devices.say("web", "x" * (RING + 5))
    assert len(tty.read(2 * RING)) == RING


def test_the_first_reader_of_a_console_gets_all_of_it(client: Client) -> None:
    client.create()
    first, second = client.double.devices.open_mktty(), client.double.devices.open_mktty()
    for tty in (first, second):
        tty.write(b"2\n")
    client.double.devices.say("web", "a")
    assert (first.read(), second.read()) == (b"a", b"")
    client.double.devices.close_mktty(first)
    client.double.devices.say("web", "b")
    assert second.read() == b"b"


def test_a_lost_console_gives_nothing_and_no_error(client: Client) -> None:
    client.create()
    tty = client.double.devices.open_mktty()
    tty.write(b"2\n")
    client.double.devices.lose_console("web")
    client.double.devices.say("web", "a")
    assert tty.read() == b""


def test_mk2_has_no_vsock() -> None:
    client = Client.pooled(MK2)
    client.run()
    with refused(errno.EAFNOSUPPORT):
        client.double.devices.connect(2, 9)


def test_on_a_stock_kernel_our_flags_change_the_hosts_own_image() -> None:
    """The hazard: id 1 is a valid load there, and unloading it drops what the host has staged."""
    stock = Double(STOCK)
    assert stock.magic != MAGIC
    with refused(errno.ENOENT):
        stock.listdir("instances")
    with refused(errno.EINVAL):
        stock.calls.kexec_file_load(VMLINUX, None, "", MULTIKERNEL | 2 << ID_SHIFT)
    with refused(errno.EINVAL):
        stock.calls.reboot(MAGIC1, MAGIC2, START, 1)
    assert stock.world.host_image == b"the host's own"
    stock.calls.kexec_file_load(VMLINUX, None, "", MULTIKERNEL | 1 << ID_SHIFT)
    assert stock.world.host_image == VMLINUX
    stock.calls.kexec_file_load(None, None, "", UNLOAD | MULTIKERNEL | 1 << ID_SHIFT)
    assert stock.world.host_image is None


def test_proc_says_what_is_loaded_and_where_memory_is(client: Client) -> None:
    client.create()
    client.load()
    assert client.double.kimage().splitlines()[2].split()[:2] == ["2", "multikernel"]
    assert "console=mktty0" in client.double.kimage()
    pool, region = client.double.iomem().splitlines()
    assert pool.endswith(" : Multikernel Memory Pool")
    assert region.endswith(" : mk-instance-2-web-region-0")
