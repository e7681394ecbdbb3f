"""Which parts work together: spec to driver, driver to plan, plan to engine."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.cli.next_command import remember_plan, remember_state_dir
from orchestrator.model.errors import NotSupportedError, PlanError

if TYPE_CHECKING:
    from orchestrator.engine.identity import Identity, IdentityProvider
    from orchestrator.model.seams import Driver
    from orchestrator.model.spec import UpgradeSpec
    from orchestrator.model.steps import StepGraph

MULTIKERNEL = Path("/sys/fs/multikernel")
SIMULATED_HOST = "simulated-host.json"

_SAVED_PLAN = b'"mkupgrade-plan/'


def is_saved_plan(path: Path) -> bool:
    """Does the file hold a plan made by `mkupgrade plan -o`, rather than a spec?

    Told by what is in it, so that its name is free.
    """
    try:
        if not path.is_file():
            return False  # whoever reads it as a spec says what is wrong
        with path.open("rb") as stream:
            head = stream.read(4096).lstrip()
    except OSError:
        return False
    return head.startswith(b"{") and (path.suffix == ".json" or _SAVED_PLAN in head)


def load_spec(path: Path) -> UpgradeSpec:
    """Raises: SpecError, or OSError when the file cannot be read."""
    from orchestrator.loading import load_spec_file

    remember_plan(path, saved=False)
    spec = load_spec_file(path)
    remember_state_dir(Path(spec.host.state_dir))
    return spec


def load_target(path: Path) -> tuple[UpgradeSpec, StepGraph | None]:
    """A spec, or a saved plan and the spec that it carries.

    Raises:
        SpecError, PlanError: it cannot be used.
        OSError: the file cannot be read.
    """
    if not is_saved_plan(path):
        return load_spec(path), None
    graph = load_plan(path)
    if graph.spec is None or graph.spec.digest() != graph.spec_digest:
        raise PlanError(
            "the plan does not carry the spec that it was made from",
            where=str(path),
            state="nothing was changed",
            next_command=f"mkupgrade plan PLAN.yaml -o {shlex.quote(str(path))}",
        )
    remember_plan(path, saved=True)
    remember_state_dir(Path(graph.state_dir))
    return graph.spec, graph


def load_plan(path: Path) -> StepGraph:
    """A saved plan. Raises: PlanError, or OSError when the file cannot be read."""
    from orchestrator.planning import load

    try:
        return load(path.read_bytes(), str(path))
    except PlanError as error:
        error.next_command = f"mkupgrade plan PLAN.yaml -o {shlex.quote(str(path))}"
        raise


def open_driver(spec: UpgradeSpec) -> Driver:
    """The driver that the spec asks for; `auto`: what this host runs.

    Raises:
        NotSupportedError: that driver is not built.
    """
    if spec.host.driver == "simulated":
        from orchestrator.drivers.simulated import SimulatedDriver

        return SimulatedDriver.for_spec(spec)
    return driver_named(spec.host.driver, Path(spec.host.state_dir))


def driver_named(name: str, state_dir: Path) -> Driver:
    """A driver by its name in a spec or plan; see `open_driver`."""
    if name == "simulated":
        from orchestrator.drivers.simulated import SimulatedDriver

        return SimulatedDriver(state_dir / SIMULATED_HOST)
    if name == "multikernel" or (name == "auto" and _runs_multikernel()):
        raise NotSupportedError(
            "the multikernel driver is not built yet",
            where="host.driver",
            state="nothing was changed",
            next_command="mkupgrade doctor",
            details=("use host.driver: live-update on a host with one kernel",),
        )
    if name in {"auto", "live-update"}:
        from orchestrator.drivers.live_update import LiveUpdateDriver

        return LiveUpdateDriver(state_dir)
    raise NotSupportedError(f'there is no driver "{name}"', where="host.driver")


def _runs_multikernel() -> bool:
    """A multikernel file system is mounted there; the empty directory alone says nothing."""
    try:
        return MULTIKERNEL.is_dir() and MULTIKERNEL.is_mount()
    except OSError:
        return False


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


def make_plan(spec: UpgradeSpec, driver: Driver) -> StepGraph:
    """Observe the host and plan. Raises: PlanError."""
    from orchestrator.planning import plan

    return plan(spec, driver.observe(spec))


def hold_to_host(graph: StepGraph, spec: UpgradeSpec, driver: Driver) -> None:
    """Observe the host again. Raises: StalePlanError if it has changed since the plan."""
    from orchestrator.planning import ensure_fresh

    ensure_fresh(graph, driver.observe(spec))
