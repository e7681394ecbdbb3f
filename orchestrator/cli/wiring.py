"""Which parts work together: spec to driver, driver to plan, plan to engine."""

from __future__ import annotations

import shlex
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.cli.next_command import remember_plan, remember_state_dir
from orchestrator.cli.terminal import clean
from orchestrator.model.errors import NotSupportedError, PlanError

if TYPE_CHECKING:
    from orchestrator.engine.identity import Identity, IdentityProvider
    from orchestrator.model.seams import Driver
    from orchestrator.model.spec import UpgradeSpec
    from orchestrator.model.steps import StepGraph

SIMULATED_HOST = "simulated-host.json"

_SAVED_PLAN = b'"mkupgrade-plan/'
_PIECE = 4 << 20
"""Bytes read at once: `read` takes all the memory that it is allowed to fill."""


@dataclass(frozen=True)
class Target:
    """A file that a verb was given: read once, so that what is looked at is what is used."""

    path: Path
    data: bytes

    @property
    def is_saved_plan(self) -> bool:
        """Is it a plan made by `mkupgrade plan -o`, rather than a spec? Told by what is in it, so
        that its name is free."""
        head = self.data[:4096].lstrip()
        return head.startswith(b"{") and (self.path.suffix == ".json" or _SAVED_PLAN in head)

    @property
    def text(self) -> str:
        """Of a spec. Raises: InvalidSpecError if it is no text."""
        from orchestrator.loading.source import decode

        return decode(self.data, str(self.path))

    def load(self) -> tuple[UpgradeSpec, StepGraph | None]:
        """A spec, or a saved plan and the spec that it carries.

        Raises:
            SpecError, PlanError: it cannot be used.
        """
        if not self.is_saved_plan:
            return self._spec(), None
        graph = self.plan()
        if graph.spec is None or graph.spec.digest() != graph.spec_digest:
            raise PlanError(
                "the plan does not carry the spec that it was made from",
                where=str(self.path),
                state="nothing was changed",
                next_command=_plan_anew(self.path),
            )
        remember_plan(self.path, saved=True)
        remember_state_dir(Path(graph.state_dir))
        return graph.spec, graph

    def plan(self) -> StepGraph:
        """A saved plan. Raises: PlanError."""
        from orchestrator.planning import load

        try:
            return load(self.data, str(self.path))
        except PlanError as error:
            error.next_command = _plan_anew(self.path)
            raise

    def _spec(self) -> UpgradeSpec:
        from orchestrator.loading import load_spec

        remember_plan(self.path, saved=False)
        spec = load_spec(self.text, str(self.path))
        remember_state_dir(Path(spec.host.state_dir))
        return spec


def read_target(path: Path) -> Target:
    """Read a spec or a saved plan. Raises: SpecError if it cannot be read."""
    from orchestrator.loading import limits
    from orchestrator.loading.source import open_source

    remember_plan(path, saved=False)
    with open_source(path) as file:
        target = Target(path, file.read(limits.MAX_BYTES + 1))
        if target.is_saved_plan:
            from orchestrator.planning.files import SIZE_LIMIT

            pieces = [target.data]
            while sum(map(len, pieces)) <= SIZE_LIMIT and (piece := file.read(_PIECE)):
                pieces.append(piece)
            target = Target(path, b"".join(pieces))
    return target


def load_target(path: Path) -> tuple[UpgradeSpec, StepGraph | None]:
    """`Target.load` of a file."""
    return read_target(path).load()


def _plan_anew(path: Path) -> str:
    return f"mkupgrade plan PLAN.yaml -o {shlex.quote(str(path))}"


def open_driver(spec: UpgradeSpec) -> Driver:
    """The driver that the spec asks for; `auto`: what this host runs.

    Raises:
        NotSupportedError: this host is none for that driver.
    """
    if spec.host.driver == "simulated":
        from orchestrator.cli.journals import refuse_if_closed
        from orchestrator.drivers.simulated import SimulatedDriver

        refuse_if_closed(Path(spec.host.state_dir))
        return SimulatedDriver.for_spec(spec)
    return driver_named(spec.host.driver, Path(spec.host.state_dir))


def driver_named(name: str, state_dir: Path) -> Driver:
    """A driver by its name in a spec or plan; see `open_driver`."""
    if name == "simulated":
        from orchestrator.drivers.simulated import SimulatedDriver

        return SimulatedDriver(state_dir / SIMULATED_HOST)
    if name == "multikernel" or (name == "auto" and runs_multikernel()):
        from orchestrator.drivers.multikernel.driver import MultikernelDriver

        return MultikernelDriver(state_dir)
    if name in {"auto", "live-update"}:
        from orchestrator.drivers.live_update import LiveUpdateDriver

        return LiveUpdateDriver(state_dir)
    raise NotSupportedError(f'there is no driver "{name}"', where="host.driver")


def runs_multikernel() -> bool:
    """By the file system's magic number: a directory there, or another mount, says nothing."""
    from orchestrator.system.multikernel import FileSystem

    return FileSystem().why_not() is None


def identity_of(driver: Driver) -> IdentityProvider:
    """Whose boot and kernel events are stamped with: of a pretend host, its own."""
    import os

    from orchestrator.drivers.simulated import SimulatedDriver
    from orchestrator.engine.identity import Identity, local_identity

    if not isinstance(driver, SimulatedDriver):
        return local_identity

    def pretend() -> Identity:
        world = driver.world()
        return Identity(boot_id=world.boot_id, release=world.kernel.release, pid=os.getpid())

    return pretend


def identity_at(state_dir: Path) -> Identity:
    """Boot and kernel of the host whose journal is there: this machine, or a pretend one."""
    from orchestrator.engine.identity import local_identity

    if not (state_dir / SIMULATED_HOST).exists():
        return local_identity()
    from orchestrator.drivers.simulated import SimulatedDriver

    return identity_of(SimulatedDriver(state_dir / SIMULATED_HOST))()


def for_this_host(spec: UpgradeSpec, *, build: bool = False) -> UpgradeSpec:
    """The spec with the NixOS systems that it names looked up here; any other as it is.

    Args:
        build: a flake is built, with what nix says on stderr; else it is an error.

    Raises:
        BootspecError, NotASystemError, NotSupportedError, ToolError: a system cannot be used.
    """
    if all(instance.kernel.nixos is None for instance in spec.instances):
        return spec
    from orchestrator.nixos.resolving import resolve

    return resolve(spec, build=_tell if build else None)


def _tell(line: str) -> None:
    with suppress(OSError):  # nobody reads it: no reason to stop
        sys.stderr.write(clean(line) + "\n")


def make_plan(spec: UpgradeSpec, driver: Driver, *, build: bool = True) -> StepGraph:
    """Look up what the spec names of this host, observe it and plan. The plan holds the spec as it
    was looked up.

    Raises:
        PlanError; `for_this_host`.
    """
    from orchestrator.planning import plan

    spec = for_this_host(spec, build=build)
    return plan(spec, driver.observe(spec))


def hold_to_host(graph: StepGraph, spec: UpgradeSpec, driver: Driver) -> None:
    """Observe the host again, as when the plan was made. Raises: StalePlanError if it has changed
    since."""
    from orchestrator.planning import ensure_fresh

    ensure_fresh(graph, driver.observe(graph.spec or spec))
