"""What the pretend host says of itself, and how one is made."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator import planning
from orchestrator.drivers.simulated import SimulatedDriver
from orchestrator.drivers.simulated.demo import prepare
from orchestrator.engine.journal import Journal
from orchestrator.engine.transaction import Engine
from orchestrator.loading import load_spec_file
from orchestrator.model.errors import MkupgradeError
from orchestrator.model.host import Cap
from orchestrator.model.outcomes import Outcome

EXAMPLE = Path("plans/simulated.yaml")


@pytest.fixture
def example(tmp_path) -> Path:
    """The example, with its state below a directory of this test."""
    text = (Path(__file__).parents[3] / EXAMPLE).read_text(encoding="utf-8")
    path = tmp_path / "plan.yaml"
    path.write_text(text.replace("/var/tmp/mkupgrade-simulated", str(tmp_path / "state")))
    return path


def test_observing_changes_nothing(place):
    walk = place.walk()
    before = walk.driver.store.path.read_bytes()
    first, second = (walk.driver.observe(walk.graph.spec) for _ in range(2))
    assert first == second
    assert walk.driver.store.path.read_bytes() == before


def test_every_capability_has_a_reason(place):
    walk = place.walk()
    host = walk.driver.observe(walk.graph.spec)
    assert host.capabilities.keys() == set(Cap)
    assert all(c.reason for c in host.capabilities.values())
    assert not host.can(Cap.SIDE_BY_SIDE).available


@pytest.mark.parametrize(
    ("change", "cap"),
    [
        ({"kernel__kho": False}, Cap.KHO),
        ({"kernel__cmdline": "quiet"}, Cap.LUO),
        ({"loader": "none"}, Cap.BOOT_DEFAULT),
        ({"kernel__image": None}, Cap.OLD_KERNEL),
        ({"kernel__image": "/nonexistent"}, Cap.OLD_KERNEL),
    ],
)
def test_what_the_host_lacks_is_a_capability_that_it_lacks(place, change, cap):
    walk = place.walk()
    ((key, value),) = change.items()
    with walk.driver.store.change() as world:
        *way, last = key.split("__")
        setattr(world.kernel if way else world, last, value)
    assert not walk.driver.observe(walk.graph.spec).can(cap).available


def test_a_capability_can_be_taken_away(place):
    walk = place.walk()
    no = {"available": False, "reason": "nftables is not there"}
    with walk.driver.store.change() as world:
        world.capabilities = {Cap.CRIU_TCP: no}
    assert walk.driver.observe(walk.graph.spec).can(Cap.CRIU_TCP).reason == no["reason"]


def test_a_damaged_image_is_an_artifact_with_an_error(place):
    walk = place.walk()
    place.new_image.write_text("MZ")
    artifact = walk.driver.observe(walk.graph.spec).artifacts[str(place.new_image)]
    assert "no pretend kernel image" in (artifact.error or "")


def test_a_workload_that_the_host_does_not_know_is_an_error_of_that_workload(place):
    walk = place.walk()
    spec = place.spec([{"name": "stranger"}])
    state = walk.driver.observe(spec).workloads["stranger"]
    assert state.pids == []
    assert "no such workload" in (state.error or "")


def test_the_example_is_carried_out_from_nothing(example):
    spec = load_spec_file(example)
    driver = SimulatedDriver.for_spec(spec, sync=False)
    graph = planning.plan(spec, driver.observe(spec))
    state_dir = Path(spec.host.state_dir)
    with Journal.open(state_dir, volatile=lambda _: None) as journal, Engine(driver, journal) as e:
        assert e.run(e.begin(graph)).outcome is Outcome.COMMITTED
    assert planning.plan(spec, driver.observe(spec)).is_empty


def test_preparing_again_keeps_the_host_as_it_is(example):
    spec = load_spec_file(example)
    host_file = prepare(spec)
    before = host_file.read_bytes()
    assert prepare(spec) == host_file
    assert host_file.read_bytes() == before


def test_nothing_is_written_outside_the_state_directory(place, tmp_path):
    image = tmp_path / "elsewhere" / "vmlinuz"
    kernel = {"image": str(image), "release": "7.3.4"}
    prepare(place.spec(instances=[{"name": "host", "kernel": kernel}]))
    assert not image.exists()


def test_a_state_directory_that_others_may_write_to_is_refused(place):
    place.directory.chmod(0o777)
    with pytest.raises(MkupgradeError, match="nobody else may write to"):
        prepare(place.spec())


@pytest.mark.slow
def test_the_helper_prepares_a_host_from_the_command_line(example, tmp_path):
    command = [sys.executable, "-m", "orchestrator.drivers.simulated.demo", str(example)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[3]
    )
    assert done.stdout.strip() == str(tmp_path / "state" / "simulated-host.json")
    assert done.returncode == 0, done.stderr
