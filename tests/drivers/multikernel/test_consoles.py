"""Consoles of instances: opened before the start, kept in a file, told when a kernel fails."""

from __future__ import annotations

import errno
import os
import stat
import time
import tty
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.drivers.multikernel.consoles import MOST_BYTES, Consoles, Device
from orchestrator.model.outcomes import Outcome
from tests.drivers.multikernel.scene import Scene
from tests.support.memory import in_memory
from tests.support.multikernel.settings import Spawn

PANIC = "Linux version 7.1.0-mk3\nVFS: Cannot open root device\nKernel panic - not syncing\n"


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with in_memory(tmp_path) as directory:
        yield Scene.make(directory)


def log_of(scene: Scene, transaction: str, instance: str) -> Path:
    return scene.directory / f"transactions/{transaction}/forward/console.{instance}.log"


@pytest.mark.parametrize(
    "spawn",
    [Spawn(boots_in=10_000, says=PANIC), Spawn(boots_in=50, halts_at=3, says=PANIC)],
    ids=["hangs", "stops"],
)
def test_the_last_words_of_a_kernel_that_does_not_come_up_are_in_the_report(
    scene: Scene, spawn: Spawn
) -> None:
    scene.double.world.spawns["web-g2"] = spawn
    report = scene.run(scene.plan())
    assert report.outcome is Outcome.ROLLED_BACK
    (failed,) = [step for step in report.steps if step.id == "await-instance/web-g2"]
    assert failed.error is not None
    log = log_of(scene, report.transaction, "web-g2")
    told = failed.error["details"]
    assert told[-4:] == [
        f"the last it said on its console (all of it: {log}):", *PANIC.splitlines(),
    ]  # fmt: skip
    assert log.read_text() == PANIC
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


def test_nobody_listens_any_more_when_it_is_over(scene: Scene) -> None:
    assert scene.run(scene.plan()).outcome is Outcome.COMMITTED
    assert scene.double.devices._open == []


def test_a_lost_console_costs_its_words_and_nothing_else(scene: Scene) -> None:
    devices = scene.double.devices
    devices.say = lambda name, text: devices.lose_console(name)  # type: ignore[method-assign]
    scene.double.calls._say = devices.say
    scene.double.world.spawns["web-g2"] = Spawn(says=PANIC)
    assert scene.run(scene.plan()).outcome is Outcome.COMMITTED


class Said:
    """A console that says this, once."""

    def __init__(self, *said: bytes) -> None:
        self._said = list(said)
        self.closed = False

    def read(self) -> bytes:
        return self._said.pop(0) if self._said else b""

    def close(self) -> None:
        self.closed = True


def test_of_a_console_that_never_rests_the_beginning_is_kept_and_the_end_is_told(
    tmp_path: Path,
) -> None:
    consoles, path = Consoles(), tmp_path / "log"
    said = Said(b"first\n", b"x" * MOST_BYTES, b"\nlast\n")
    consoles.listen(3, lambda: said, path)
    for _ in range(3):
        consoles.take()
    assert path.stat().st_size == MOST_BYTES
    assert path.read_bytes().startswith(b"first\n")
    assert consoles.last_words(3)[-1] == "last"
    consoles.close()
    assert said.closed
    assert consoles.last_words(3) == ()


def test_a_console_that_cannot_be_opened_keeps_nobody_from_starting(tmp_path: Path) -> None:
    def refuses() -> Any:
        raise OSError(errno.ENODEV, "no such instance")

    consoles = Consoles()
    consoles.listen(3, refuses, tmp_path / "log")
    assert consoles.last_words(3) == ()


def test_a_file_that_is_a_link_of_theirs_is_not_followed(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    (tmp_path / "log").symlink_to(mine)
    consoles = Consoles()
    consoles.listen(3, lambda: Said(b"words\n"), tmp_path / "log")
    consoles.take()
    assert not mine.exists()


def test_the_device_is_told_the_instance_and_read_as_it_speaks() -> None:
    instance, host = os.openpty()
    tty.setraw(host)
    device = Device(Path(os.ttyname(host)), 7)
    try:
        assert os.read(instance, 10) == b"7\n"
        os.write(instance, b"booting\n")
        heard, deadline = b"", time.monotonic() + 20
        while not heard and time.monotonic() < deadline:
            time.sleep(0.01)
            heard = device.read()
        assert heard == b"booting\n"
    finally:
        device.close()
        os.close(instance)
        os.close(host)


def test_a_device_that_knows_no_such_instance_is_closed(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        Device(tmp_path / "none", 7)
