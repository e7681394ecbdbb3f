"""What the multikernel driver stands on in a schedule: the double, and no files and no programs.

Whatever the driver changes passes through `InstanceHost.change`, so that a call can be cut off
between any two of its changes. What is pure is remembered by what it was made of: most of the time
would go into the same device trees, over and over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.agent.keys import Key
from orchestrator.agent.status import Status
from orchestrator.drivers import hooks, records
from orchestrator.drivers.multikernel import asking, driver, living, seeing
from orchestrator.drivers.multikernel.kernel import Answer
from orchestrator.drivers.multikernel.trees.overlay import Overlay
from orchestrator.model.errors import MkupgradeError
from orchestrator.model.steps import Step
from orchestrator.system import kernel_image, proc, running
from tests.crash import instance_agents
from tests.crash import instance_plans as plans
from tests.crash.simulation import Simulation, VirtualLock, patched
from tests.support.multikernel import kernel as double_kernel
from tests.support.multikernel import overlays, world
from tests.support.multikernel.double import Double
from tests.support.multikernel.kernel import DoubleKernel
from tests.support.multikernel.settings import Clock

if TYPE_CHECKING:
    from tests.crash.instance_host import InstanceHost

_IMAGES = list(plans.FILES)


class SimulatedClock(Clock):
    """The double's, in the time of the schedule."""

    def __init__(self, sim: Simulation) -> None:
        self._sim = sim

    @property
    def now(self) -> float:  # type: ignore[override]
        return self._sim.now

    def advance(self, seconds: float) -> None:
        self._sim.sleep(seconds)


@cache
def _parted(path: str) -> tuple[str, Any, str]:
    place, _, rest = path.partition("/")
    name, _, file = rest.partition("/")
    return place, int(name.removeprefix("tx_")) if name.startswith("tx_") else name, file


class SimulatedKernel(DoubleKernel):
    """Asks before each change; reads what is there without an open file."""

    def __init__(self, double: Double, host: InstanceHost) -> None:
        super().__init__(double)
        self._host = host

    def read(self, path: str, most: int) -> bytes:
        """What a reader gets that reads to the end; the double itself says what is not there."""
        world = self.double.world
        world.settle()
        place, name, file = _parted(path)
        if place == "device_tree":
            return world.root_tree()
        if place == "overlays" and name in self.double.overlays.transactions:
            return f"{getattr(self.double.overlays.transactions[name], file)}\n".encode()
        if place == "instances" and name in world.instances:
            if file == "device_tree":
                return world.instance_tree(name)
            return f"{getattr(world.instances[name], file)}\n".encode()
        return super().read(path, most)

    def write(self, path: str, data: bytes) -> None:
        self._host.change()
        super().write(path, data)

    def load(
        self, name: str, number: int, *, kernel_fd: int, initrd_fd: int | None, cmdline: str
    ) -> None:
        self._host.change()
        super().load(name, number, kernel_fd=kernel_fd, initrd_fd=initrd_fd, cmdline=cmdline)

    def unload(self, name: str, number: int) -> None:
        self._host.change()
        super().unload(name, number)

    def start(self, name: str, number: int) -> None:
        self._host.change()
        super().start(name, number)

    def halt(self, name: str, number: int) -> None:
        self._host.change()
        super().halt(name, number)

    def halt_force(self, name: str, number: int) -> None:
        self._host.change()
        super().halt_force(name, number)

    def open_agent(
        self, number: int, port: int, key: Key, remaining: Callable[[], float], about: Any
    ) -> Any:
        return self._host.agents.open(number)

    def ask_agent(self, number: int, port: int, key: Key, seconds: float) -> Status | None:
        if self.ask(number, port, seconds) is Answer.SILENCE:
            return None
        return instance_agents.status(self.double.world.by_id(number).name)

    def no_console(self) -> str | None:
        return "consoles are files, and there are none"


@dataclass(frozen=True)
class _Report:
    """Of checks that passed, or did not."""

    passed: bool

    def as_dict(self) -> dict[str, Any]:
        return {"passed": self.passed}


class _Checker:
    """Checks as the schedule has them come out."""

    def require(self, checks: Any, control: Any) -> list[_Report]:
        if _host().checks_fail:
            raise MkupgradeError("a check does not hold")
        return [_Report(True) for _ in checks]

    require_within = require


def _soak(checker: _Checker, checks: Any, control: Any, *, duration: float, **_: Any) -> _Report:
    checker.require(checks, control)
    VirtualLock.simulation.sleep(min(duration, control.remaining()))
    return _Report(True)


def _host() -> InstanceHost:
    return VirtualLock.simulation.host


def _run_command(job: Any, argv: list[str], timeout: float, *, env: Any = None, **_: Any) -> str:
    _host().command(argv, (env or {}).get("MKUPGRADE_INSTANCE"))
    return ""


@contextmanager
def _instance_image(path: Path, sha256: str) -> Iterator[int]:
    """A number that stands for the open file."""
    assert plans.SUMS[str(path)] == sha256
    yield _IMAGES.index(str(path))


@contextmanager
def _keyed_initrd(path: Path, key: Key | None) -> Iterator[int]:
    yield _IMAGES.index(str(path))


def _write(self: records.Shelf, name: str, fields: dict[str, Any]) -> None:
    _host().change()
    _host().records[self._path(name)] = fields


def _read(self: records.Shelf, name: str) -> dict[str, Any] | None:
    return _host().records.get(self._path(name))


def _drop(self: records.Shelf, name: str) -> None:
    _host().change()
    _host().records.pop(self._path(name), None)


def _names(self: records.Shelf) -> list[str]:
    return sorted(path.stem for path in _host().records if path.parent == self.dir)


_KNOWN: dict[int, tuple[Step, Any]] = {}
"""Handler and parameters by the identity of their step, which is held for it."""


def _dispatch(step: Step, *rest: Any) -> Any:
    known = _KNOWN.get(id(step))
    if known is None:
        if len(_KNOWN) > 1000:
            _KNOWN.clear()
        known = _KNOWN[id(step)] = step, _real_dispatch(step, *rest)
    return known[1]


_real_dispatch = driver.dispatch
_remembered = lru_cache(4096)
_UNSIGNED = running.KexecState(
    supported=True,
    loaded=False,
    disabled=False,
    loads_left=None,
    lockdown="none",
    signature_enforced=False,
)


@contextmanager
def in_memory() -> Iterator[None]:
    """In place of records, images, programs and checks: those of the schedule's host."""
    with (
        instance_agents.in_memory(),
        patched(
            (records.Shelf, "write", _write),
            (records.Shelf, "read", _read),
            (records.Shelf, "drop", _drop),
            (records.Shelf, "names", _names),
            (hooks, "run_command", _run_command),
            (asking, "run_command", _run_command),
            (asking, "_checker", _Checker),
            (asking, "soak", _soak),
            (living, "instance_image", _instance_image),
            (living, "keyed_initrd", _keyed_initrd),
            (kernel_image, "inspect_initrd", cache(plans.artifact)),
            (kernel_image, "inspect_instance_image", cache(plans.artifact)),
            (double_kernel, "_content", lambda number: plans.FILES[_IMAGES[number]]),
            (running, "kexec_state", lambda: _UNSIGNED),
            (proc, "boot_id", lambda: _host().boot_id()),
            (driver, "dispatch", _dispatch),
            (seeing, "read_pool", _remembered(seeing.read_pool)),
            (seeing, "read_instance", _remembered(seeing.read_instance)),
            (seeing, "command_lines", _remembered(seeing.command_lines)),
            (seeing, "owned_regions", _remembered(seeing.owned_regions)),
            (Overlay, "encode", _remembered(Overlay.encode)),
            (overlays, "unflatten", _remembered(overlays.unflatten)),
            (world, "pool_tree", _remembered(world.pool_tree)),
            (world, "instance_tree", _remembered(world.instance_tree)),
        ),
    ):
        yield
