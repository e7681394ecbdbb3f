"""A pretend host behind the parts of the live-update driver. Nothing here can reach a real one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import pytest

from orchestrator.drivers.live_update.driver import LiveUpdateDriver
from orchestrator.drivers.live_update.parts import Channels, Parts
from orchestrator.drivers.records import drop_tree
from orchestrator.model.errors import MkupgradeError, WorkloadError
from orchestrator.model.host import BootState, ProfileState, WorkloadState
from orchestrator.model.kinds import Kind
from orchestrator.model.landing import Place
from orchestrator.model.params.in_place import NixosProfile
from orchestrator.model.seams import StepContext
from orchestrator.model.spec import Workload
from orchestrator.model.steps import Inspected, Inspection, Section, Step
from tests.support.luo_double import LuoKernel

OLD, NEW = "7.2.13", "7.3.4"
TRANSACTION = "t-20260901-ab12cd"


class JumpedError(BaseException):
    """The pretend machine has left this kernel: nothing may run after it."""


class Control:
    def __init__(self, *, stop: bool = False) -> None:
        self._stop = stop

    def remaining(self) -> float:
        return 60.0

    def stopped(self) -> bool:
        return self._stop

    def progress(self, text: str, fraction: float | None = None) -> None:
        assert fraction is None or 0 <= fraction <= 1


class Machine:
    def __init__(self) -> None:
        self.boots = 1
        self.release = OLD
        self.cmdline = "root=/dev/vda"
        self.loaded: tuple[Path, str] | None = None
        self.initrd: bytes | None = None
        self.fail: MkupgradeError | None = None
        self.synced = False
        self.forbidden: list[str] = []

    def place(self) -> Place:
        return Place(f"boot-{self.boots}", self.release, self.cmdline)

    def objections(self) -> list[str]:
        return self.forbidden

    def unused_pid(self) -> int:
        return 20000

    def kexec_loaded(self) -> bool:
        return self.loaded is not None

    def load_kernel(self, image: Path, sha256: str, initrd: Path | None, cmdline: str) -> None:
        self._may_fail()
        self.initrd = initrd.read_bytes() if initrd is not None and initrd.is_file() else None
        self.loaded = (image, cmdline)

    def unload_kernel(self) -> None:
        self._may_fail()
        self.loaded = None

    def sync(self) -> None:
        self.synced = True

    def jump(self) -> NoReturn:
        self._may_fail()
        raise JumpedError

    def reset(self) -> NoReturn:
        self._may_fail()
        raise JumpedError

    def boot(self, release: str, cmdline: str) -> None:
        self.boots += 1
        self.release, self.cmdline, self.loaded = release, cmdline, None

    def _may_fail(self) -> None:
        if self.fail is not None:
            raise self.fail


@dataclass
class Boot:
    found: BootState = field(
        default_factory=lambda: BootState(
            loader="systemd-boot", default="old.conf", entries={"old.conf": OLD, "new.conf": NEW}
        )
    )

    def state(self) -> BootState:
        return self.found

    def set_default(self, entry: str) -> None:
        self.found = self.found.model_copy(update={"default": entry})

    def entry_for(self, release: str) -> str | None:
        return next((e for e, r in self.found.entries.items() if r == release), None)


@dataclass
class Nixos:
    """A system profile, what the menu starts by default, and whatever fails in between."""

    leads_to: str = "/store/old"
    menu: str = "/store/old"
    held: bool = False
    refuses: MkupgradeError | None = None
    menu_fails: MkupgradeError | None = None

    def check(self, params: NixosProfile, control: Any) -> None:
        if self.refuses is not None:
            raise self.refuses

    def state(self) -> ProfileState:
        number = 1 if self.leads_to == "/store/old" else 2
        return ProfileState(
            link="/profiles/system", leads_to=self.leads_to, generation=number, last=number
        )

    def arm(self, params: NixosProfile, control: Any) -> None:
        self.held = True
        self.menu = self.leads_to = params.previous

    def disarm(self, params: NixosProfile, control: Any) -> None:
        self.held = False
        if params.pending is not None:
            self.menu = self.leads_to = params.pending.toplevel

    def install(self, params: NixosProfile, control: Any) -> None:
        self.leads_to = params.toplevel
        if self.menu_fails is not None:
            raise self.menu_fails
        self.menu = params.toplevel

    def put_back(self, params: NixosProfile, control: Any) -> None:
        self.menu = self.leads_to = params.previous


@dataclass
class Watchdog:
    running: set[Path] = field(default_factory=set)
    open: set[Path] = field(default_factory=set)

    def arm(self, device: Path, seconds: float) -> None:
        self.running.add(device)
        self.open.add(device)

    def held(self, device: Path) -> bool:
        return device in self.open

    def keep_alive(self) -> None:
        pass

    def disarm(self, device: Path) -> None:
        self.running.discard(device)
        self.open.discard(device)

    def close(self) -> None:
        for device in list(self.open):
            self.disarm(device)


class Workloads:
    """Processes that count; their state is one number in a file."""

    def __init__(self) -> None:
        self.running: dict[str, int] = {}
        self.held: set[str] = set()
        self.fail: MkupgradeError | None = None
        self.anew: list[str] = []

    def find(self, workload: Workload) -> WorkloadState:
        pids = [4000] if workload.name in self.running else []
        return WorkloadState(name=workload.name, pids=pids)

    def preflight(self, *args: Any) -> list[Any]:
        return []

    def checkpoint(self, workload: Workload, workdir: Path, control: Control) -> dict[str, Any]:
        self._may_fail()
        if workload.name not in self.running:
            raise WorkloadError("not running")
        drop_tree(workdir)
        workdir.mkdir(mode=0o700)
        meta = {"ports": [7777]}
        (workdir / "count").write_text(str(self.running.pop(workload.name)))
        (workdir / "complete").write_text(json.dumps(meta))
        return meta

    def inspect_checkpoint(self, workload: Workload, workdir: Path) -> Inspected:
        if workload.name in self.running:
            return Inspected(verdict=Inspection.ABSENT, reason="it runs")
        if not (workdir / "complete").is_file():
            return Inspected(verdict=Inspection.PARTIAL, reason="neither runs nor complete")
        meta = json.loads((workdir / "complete").read_text())
        return Inspected(verdict=Inspection.PRESENT, reason="state complete", result=meta)

    def undo_checkpoint(self, workload: Workload, workdir: Path, control: Control) -> Any:
        if workload.name not in self.running:
            self.running[workload.name] = int((workdir / "count").read_text())
        return {}

    def restore(
        self, workload: Workload, workdir: Path | None, meta: Mapping[str, Any], control: Control
    ) -> Any:
        self._may_fail()
        assert workload.name in self.held or workdir is None
        count = int((workdir / "count").read_text()) if workdir else 0
        self.running[workload.name] = count
        return {"closed": 2 if meta.get("outrun") else 0}

    def inspect_restore(self, workload: Workload, meta: Mapping[str, Any]) -> Inspected:
        if workload.name in self.running:
            return Inspected(verdict=Inspection.PRESENT, reason="it runs")
        return Inspected(verdict=Inspection.ABSENT, reason="it does not run")

    def stop(self, workload: Workload, meta: Mapping[str, Any], control: Control) -> Any:
        self.running.pop(workload.name, None)
        return {}

    def begun(self, workdir: Path) -> dict[str, Any] | None:
        return None

    def start_anew(self, workload: Workload, control: Control, meta: Any = None) -> Any:
        self.running[workload.name] = 0
        self.anew.append(workload.name)
        return {}

    def hold(self, metas: Mapping[str, Mapping[str, Any]], control: Control) -> Any:
        self.held = set(metas)
        return {}

    def release(self, control: Control) -> Any:
        self.held = set()
        return {}

    def _may_fail(self) -> None:
        if self.fail is not None:
            raise self.fail


class Host:
    """The pretend host, and the driver on it; `die` and `boot` replace the driver's process."""

    def __init__(self, tmp_path: Path) -> None:
        self.tmp_path = tmp_path
        self.state_dir = tmp_path / "state"
        self.state_dir.mkdir(mode=0o700)
        self.image = tmp_path / "vmlinuz"
        self.image.write_bytes(b"a kernel")
        self.machine, self.boot, self.luo = Machine(), Boot(), LuoKernel()
        self.nixos = Nixos()
        self.watchdog, self.workloads = Watchdog(), Workloads()
        self.results: dict[str, Any] = {}
        self.stop = False
        self.driver = self._process()

    def _process(self) -> LiveUpdateDriver:
        parts = Parts(
            machine=self.machine,
            boot=self.boot,
            nixos=self.nixos,
            watchdog=self.watchdog,
            channels=Channels(self.luo.open_device, self.luo.keeper),
            workloads=self.workloads,  # type: ignore[arg-type]
            runtime_dir=self.tmp_path / "run",
        )
        return LiveUpdateDriver(self.state_dir, parts=parts)

    def die(self) -> None:
        """SIGKILL: descriptors are closed, what runs on the host runs on."""
        self.luo.die()
        self.watchdog.open = set()
        self.driver = self._process()

    def land(self, release: str, cmdline: str, *, carried: bool) -> None:
        """Another kernel starts; `carried`: by a kexec that keeps memory."""
        if carried:
            self.luo.jump()
        else:
            self.luo.die()
            self.luo = LuoKernel()
        self.watchdog.open = set()
        self.workloads.running, self.workloads.held = {}, set()
        drop_tree(self.tmp_path / "run")
        self.machine.boot(release, cmdline)
        self.driver = self._process()

    def step(self, kind: Kind, section: Section = Section.FORWARD, **params: Any) -> Step:
        return Step(id=f"{kind}/x", kind=kind, title="t", section=section, params=params)

    def context(
        self, section: Section = Section.FORWARD, boot_id: str | None = None
    ) -> StepContext:
        return StepContext(
            transaction=TRANSACTION,
            plan_digest="ab" * 32,
            state_dir=self.state_dir,
            section=section,
            attempt=1,
            results=self.results,
            control=Control(stop=self.stop),
            intended_boot_id=boot_id,
        )

    def perform(self, step: Step) -> Any:
        return self.driver.perform(step, self.context(step.section))

    def inspect(self, step: Step, boot_id: str | None = None) -> Inspected:
        found = self.driver.inspect(step, self.context(step.section, boot_id))
        assert found.reason
        return found

    def verdict(self, step: Step) -> Inspection:
        return self.inspect(step).verdict

    def revert(self, step: Step) -> Any:
        return self.driver.revert(step, self.context(step.section))


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    host = Host(tmp_path)
    yield host
    host.luo.die()


@pytest.fixture
def jumped() -> type[BaseException]:
    return JumpedError


@pytest.fixture
def workload() -> Callable[..., dict[str, Any]]:
    """The document of a workload, as it stands in a step's parameters."""

    def make(name: str = "counter", **rest: Any) -> dict[str, Any]:
        document = {
            "name": name,
            "instance": "host",
            "find": {"pid_file": "/run/x.pid"},
            "migrate": {"method": "criu"},
            **rest,
        }
        return Workload.model_validate(document).model_dump(mode="json")

    return make
