"""The life of an instance's kernel: what is tried again, what is waited for, what is told apart."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from orchestrator.drivers.multikernel.kernel import Answer
from orchestrator.drivers.multikernel.living import (
    Boot,
    Named,
    Patience,
    halt,
    inspect_loaded,
    inspect_running,
    load,
    start,
    unload,
    wait_alive,
)
from orchestrator.model.errors import DeadlineError, ErrorClass, MkupgradeError, SystemCallError
from orchestrator.model.steps import Inspection
from orchestrator.system.call_errors import BusyError
from tests.drivers.multikernel.pretend import VMLINUX, Client
from tests.support.multikernel.devices import AGENT_PORT
from tests.support.multikernel.double import Double
from tests.support.multikernel.kernel import DoubleKernel
from tests.support.multikernel.settings import HALT_SECONDS, MK2, Spawn

WEB = Named("web", 2)


class Waiting:
    """Patience by the double's clock."""

    def __init__(self, double: Double, seconds: float = 60) -> None:
        self.clock = double.world.clock
        self.end = self.clock.now + seconds
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.clock.advance(seconds)

    @property
    def patience(self) -> Patience:
        return Patience(lambda: self.end - self.clock.now, self.sleep)


@pytest.fixture
def kernel(double: Double) -> DoubleKernel:
    return DoubleKernel(double)


@pytest.fixture
def waiting(double: Double) -> Waiting:
    return Waiting(double)


@pytest.fixture
def boot(tmp_path: Path) -> Boot:
    image, initrd = tmp_path / "vmlinux", tmp_path / "initrd"
    image.write_bytes(VMLINUX)
    initrd.write_bytes(b"initrd")
    digest = hashlib.sha256(VMLINUX).hexdigest()
    return Boot(image, digest, "console=mktty0 mkupgrade.transaction=t/forward", initrd)


def test_an_image_is_loaded_with_initrd_and_command_line(
    client: Client, kernel: DoubleKernel, boot: Boot, waiting: Waiting
) -> None:
    client.create()
    assert inspect_loaded(kernel, WEB, boot.cmdline).verdict is Inspection.ABSENT
    load(kernel, WEB, boot, waiting.patience)
    image = client.double.world.instances["web"].image
    assert image is not None
    assert (image.kernel, image.initrd, image.cmdline) == (VMLINUX, b"initrd", boot.cmdline)
    assert inspect_loaded(kernel, WEB, boot.cmdline).verdict is Inspection.PRESENT


def test_an_image_of_somebody_else_is_neither_replaced_nor_taken_for_ours(
    client: Client, kernel: DoubleKernel, boot: Boot, waiting: Waiting
) -> None:
    client.create()
    client.load()
    with pytest.raises(BusyError, match="an image is loaded in it already"):
        load(kernel, WEB, boot, waiting.patience)
    assert inspect_loaded(kernel, WEB, boot.cmdline).verdict is Inspection.UNKNOWN
    assert waiting.slept == []


def test_a_busy_lock_is_waited_for_with_longer_and_longer_pauses(
    client: Client, kernel: DoubleKernel, boot: Boot, waiting: Waiting
) -> None:
    client.create()
    client.double.world.faults.kexec_lock_busy = 4
    load(kernel, WEB, boot, waiting.patience)
    assert len(waiting.slept) == 4
    assert waiting.slept == sorted(waiting.slept)
    assert waiting.slept[0] < waiting.slept[-1] <= 2


def test_a_lock_that_stays_busy_is_told_before_the_deadline(
    client: Client, kernel: DoubleKernel, boot: Boot, waiting: Waiting
) -> None:
    client.create()
    client.double.world.faults.kexec_lock_busy = 10_000
    with pytest.raises(BusyError):
        load(kernel, WEB, boot, waiting.patience)
    assert waiting.clock.now < waiting.end
    assert client.state("web") == "ready"


def test_a_kernel_is_alive_once_it_answers(
    client: Client, kernel: DoubleKernel, waiting: Waiting
) -> None:
    client.double.world.spawns["web"] = Spawn(boots_in=7, ready_in=20)
    client.create()
    client.load()
    assert inspect_running(kernel, WEB, running=True).verdict is Inspection.ABSENT
    start(kernel, WEB, waiting.patience)
    assert inspect_running(kernel, WEB, running=True).verdict is Inspection.PRESENT
    assert wait_alive(kernel, WEB, AGENT_PORT, waiting.patience) is Answer.RESET
    assert 7 <= waiting.clock.now < 11
    client.wait(20)
    assert wait_alive(kernel, WEB, AGENT_PORT, waiting.patience) is Answer.ACCEPTED


def test_a_kernel_that_never_answers_is_told_at_the_deadline(
    client: Client, kernel: DoubleKernel, waiting: Waiting
) -> None:
    client.run(spawn=Spawn(wedges_at=0))
    with pytest.raises(DeadlineError, match="has not booted, or hangs") as caught:
        wait_alive(kernel, WEB, AGENT_PORT, waiting.patience)
    assert caught.value.error_class is ErrorClass.TIMEOUT
    assert waiting.clock.now <= waiting.end + 1


def test_a_kernel_that_panics_at_its_boot_is_told_at_once(
    client: Client, kernel: DoubleKernel, waiting: Waiting
) -> None:
    client.double.world.spawns["web"] = Spawn(boots_in=50, halts_at=3)
    client.create()
    client.load()
    start(kernel, WEB, waiting.patience)
    with pytest.raises(MkupgradeError, match="stopped by itself"):
        wait_alive(kernel, WEB, AGENT_PORT, waiting.patience)
    assert waiting.clock.now < 10


def test_without_vsock_active_is_all_that_is_seen() -> None:
    client = Client.pooled(MK2)
    client.run()
    kernel, waiting = DoubleKernel(client.double), Waiting(client.double)
    assert wait_alive(kernel, WEB, AGENT_PORT, waiting.patience) is Answer.SILENCE
    client.halt()
    with pytest.raises(MkupgradeError, match="stopped by itself"):
        wait_alive(kernel, WEB, AGENT_PORT, waiting.patience)


def test_a_kernel_that_answers_halts_by_itself(
    client: Client, kernel: DoubleKernel, waiting: Waiting
) -> None:
    client.run()
    assert halt(kernel, WEB, waiting.patience) is False
    assert client.state("web") == "loaded"
    assert inspect_running(kernel, WEB, running=False).verdict is Inspection.PRESENT
    assert halt(kernel, WEB, waiting.patience) is False


def test_a_kernel_that_hangs_is_forced_after_its_30_seconds(
    client: Client, kernel: DoubleKernel, waiting: Waiting
) -> None:
    client.run(spawn=Spawn(wedges_at=2))
    before = waiting.clock.now
    assert halt(kernel, WEB, waiting.patience) is True
    assert waiting.clock.now - before >= HALT_SECONDS
    assert client.state("web") == "loaded"


def test_a_kernel_that_hangs_runs_on_where_force_is_not_wanted(
    client: Client, kernel: DoubleKernel, waiting: Waiting
) -> None:
    client.run(spawn=Spawn(wedges_at=2))
    with pytest.raises(SystemCallError) as caught:
        halt(kernel, WEB, waiting.patience, force=False)
    assert caught.value.error_class is ErrorClass.TIMEOUT
    assert client.state("web") == "active"


def test_a_kernel_that_was_forced_is_started_again_once_its_cpus_are_at_rest(
    client: Client, kernel: DoubleKernel, waiting: Waiting
) -> None:
    client.run(spawn=Spawn(wedges_at=2))
    halt(kernel, WEB, waiting.patience)
    client.double.world.spawns["web"] = Spawn()
    start(kernel, WEB, waiting.patience)
    assert len(waiting.slept) >= 1
    assert wait_alive(kernel, WEB, AGENT_PORT, waiting.patience) is Answer.RESET


def test_a_kernel_that_runs_is_not_started_twice_and_not_waited_for(
    client: Client, kernel: DoubleKernel, waiting: Waiting
) -> None:
    client.run()
    with pytest.raises(BusyError):
        start(kernel, WEB, waiting.patience)
    assert waiting.slept == []


def test_a_kernel_that_stopped_silently_is_started_again(
    client: Client, kernel: DoubleKernel, waiting: Waiting
) -> None:
    client.run(spawn=Spawn(stops_silently_at=2))
    client.double.world.spawns["web"] = Spawn()
    start(kernel, WEB, waiting.patience)
    assert wait_alive(kernel, WEB, AGENT_PORT, waiting.patience) is Answer.RESET


def test_only_the_image_of_a_kernel_that_does_not_run_is_dropped(
    client: Client, kernel: DoubleKernel, waiting: Waiting
) -> None:
    client.run()
    with pytest.raises(BusyError, match="cannot be unloaded under it"):
        unload(kernel, WEB, waiting.patience)
    halt(kernel, WEB, waiting.patience)
    unload(kernel, WEB, waiting.patience)
    unload(kernel, WEB, waiting.patience)
    assert client.state("web") == "ready"
    assert client.double.world.wrecked == []


def test_an_instance_that_was_made_anew_is_left_alone(
    client: Client, kernel: DoubleKernel, boot: Boot, waiting: Waiting
) -> None:
    client.create("web", 3)
    for act in (
        lambda: load(kernel, WEB, boot, waiting.patience),
        lambda: start(kernel, WEB, waiting.patience),
        lambda: halt(kernel, WEB, waiting.patience),
        lambda: unload(kernel, WEB, waiting.patience),
    ):
        with pytest.raises(MkupgradeError, match=r"no instance web with id 2 \(any more\)"):
            act()
    assert client.state("web") == "ready"
