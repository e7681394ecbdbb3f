"""The steps of the opt-in test of a real kernel (tests/vm/test_multikernel.py), on the double."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.drivers.multikernel import scene
from tests.drivers.multikernel.served_host import COMMAND, SPEED
from tests.support.multikernel import whole
from tests.support.multikernel.served import state
from tests.support.multikernel.served.messages import Ran
from tests.support.multikernel.served.session import Served, cannot_be_served, served
from tests.support.multikernel.settings import Spawn

UP = "this instance is up"
_LACK = cannot_be_served()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(_LACK is not None, reason=str(_LACK)),
]


@dataclass
class Here:
    """The served double as a machine."""

    double: Served
    directory: Path
    mkupgrade: tuple[str, ...] = (sys.executable, "-m", COMMAND)
    python: str = sys.executable

    def run(self, *argv: str) -> Ran:
        return self.double.run("env", f"PYTHONPATH={Path.cwd()}", *argv)

    def put(self, path: Path, data: bytes) -> None:
        path.write_bytes(data)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Here]:
    with served(tmp_path) as double:
        double.reset(state.fresh)
        double.let_time_pass(SPEED)
        yield Here(double, tmp_path)


def test_the_steps_that_a_real_kernel_is_tried_with_hold_on_the_double(machine: Here) -> None:
    machine.put(machine.directory / "mk", scene.IMAGE)
    machine.put(machine.directory / "initrd", b"070701")
    files = whole.Files(
        str(machine.directory / "mk"), scene.RELEASE, str(machine.directory / "initrd"),
        ("console=mktty0", "rdinit=/init"), UP,
    )  # fmt: skip
    for name in ("web-g1", "web-g2", "db-g1", "batch-g1"):
        machine.double.ask(state.behave, name, Spawn(says=f"Linux version\n{UP}\n"))
    assert whole.make_pool(machine) == [24, 26, 28, 30]
    found = whole.upgrade(machine, files)
    whole.assert_whole(found)
    assert set(found.answers.values()) <= {"reset", "accepted"}


def test_an_instance_that_does_not_say_that_it_is_up_fails_the_steps(machine: Here) -> None:
    machine.put(machine.directory / "mk", scene.IMAGE)
    files = whole.Files(str(machine.directory / "mk"), scene.RELEASE, None, (), UP, "2s")
    whole.make_pool(machine)
    machine.double.ask(state.behave, "web-g1", Spawn(says="Kernel panic\n"))
    with pytest.raises(AssertionError, match="web-is-up"):
        whole.upgrade(machine, files)


def test_a_pool_that_is_there_already_is_told_as_the_kernel_refuses_it(machine: Here) -> None:
    whole.make_pool(machine)
    with pytest.raises(whole.NoPoolError, match=r"the kernel refuses CPUs .* resource busy"):
        whole.make_pool(machine)
