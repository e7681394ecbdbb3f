"""The driver as a whole: every kind has a handler, and no test can reach a real host."""

from __future__ import annotations

import configparser
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from orchestrator.drivers.dispatch import Handlers
from orchestrator.drivers.live_update import LiveUpdateDriver, driver
from orchestrator.drivers.live_update.driver import HANDLERS
from orchestrator.drivers.live_update.job import Handler
from orchestrator.drivers.live_update.real import RealMachine, RealWatchdog
from orchestrator.drivers.multikernel.driver import HANDLERS as BESIDE
from orchestrator.model.errors import GuardError, MkupgradeError, NotSupportedError
from orchestrator.model.kinds import Kind
from orchestrator.model.params import params_of
from orchestrator.model.seams import Driver
from orchestrator.model.spec import UpgradeSpec
from orchestrator.model.steps import Inspection
from orchestrator.nixos import staging
from orchestrator.nixos.staging import Preloaded, Staged
from orchestrator.system import proc, running
from tests.support.hosts import spec_data


def test_what_we_preloaded_does_not_count_as_somebodys_kernel(
    host: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is a plan stale that was made before: it was not there then."""
    loaded = replace(running.kexec_state(), loaded=True)
    monkeypatch.setattr(running, "kexec_state", lambda *_: loaded)
    spec = UpgradeSpec.model_validate(spec_data(workloads=[]))
    assert host.driver.observe(spec).kexec_loaded
    boot_id = proc.boot_id()
    preloaded = Preloaded(toplevel="/store/new", boot_id=boot_id)
    staged = Staged(toplevel="/store/new", boot_id=boot_id, preloaded=preloaded)
    staging.remember(host.state_dir, staged)
    assert not host.driver.observe(spec).kexec_loaded


def test_it_is_a_driver(tmp_path: Path) -> None:
    made: Driver = LiveUpdateDriver(tmp_path)
    assert made.name == "live-update"
    made.close()


def test_every_kind_of_step_has_a_handler() -> None:
    assert all(params_of(kind) for kind in Kind)
    assert set(HANDLERS) | set(BESIDE) == set(Kind)
    asked_of_both = {Kind.CHECK_ARTIFACTS, Kind.RUN_HOOK, Kind.CHECK, Kind.SOAK}
    assert set(HANDLERS) & set(BESIDE) == asked_of_both
    for handler in HANDLERS.values():
        assert type(handler).perform is not Handler.perform


def test_no_code_is_looked_for_between_a_stopped_workload_and_the_jump(
    host: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A resume imports a handler when it needs it; a preflight has all of them imported."""
    fresh = Handlers("orchestrator.drivers", {Kind.CLEAN_UP: "live_update.closing.CleanUpHandler"})
    imported: list[str] = []
    monkeypatch.setattr(driver, "HANDLERS", fresh)
    monkeypatch.setattr(fresh, "import_all", lambda: imported.append("all"))
    with pytest.raises(MkupgradeError, match="parameters"):
        host.perform(host.step(Kind.CLEAN_UP, none="such"))
    assert not imported
    with pytest.raises(NotSupportedError):
        host.perform(host.step(Kind.PREFLIGHT))
    assert imported == ["all"]


def test_a_kind_from_another_version_is_refused(host: Any) -> None:
    step = replace(host.step(Kind.CLEAN_UP), kind="levitate")
    for call in (host.perform, host.inspect, host.revert):
        with pytest.raises(NotSupportedError, match="levitate"):
            call(step)


def test_parameters_that_do_not_fit_are_refused_before_anything_happens(host: Any) -> None:
    with pytest.raises(MkupgradeError, match="parameters"):
        host.perform(host.step(Kind.LOAD_KERNEL, image=3))


def test_the_real_parts_refuse_without_the_guards_leave(tmp_path: Path) -> None:
    """With a stand-in for the guard, so that the refusal does not hang on this machine."""
    no_guard: Any = object()
    image = tmp_path / "vmlinuz"
    image.write_bytes(b"")
    machine = RealMachine(no_guard)
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    calls = [
        lambda: machine.load_kernel(image, empty, None, ""),
        lambda: RealWatchdog(no_guard).arm(tmp_path / "watchdog", 1.0),
        lambda: RealWatchdog(no_guard).disarm(tmp_path / "watchdog"),
    ]
    for call in calls:
        with pytest.raises(GuardError):
            call()


def test_an_image_with_another_digest_is_not_loaded(tmp_path: Path) -> None:
    image = tmp_path / "vmlinuz"
    image.write_bytes(b"something else")
    no_guard: Any = object()
    with pytest.raises(MkupgradeError, match="sha256"):
        RealMachine(no_guard).load_kernel(image, "00" * 32, None, "")


def test_closing_the_driver_lets_go_of_sessions_and_watchdog(host: Any, workload: Any) -> None:
    host.workloads.running = {"counter": 1}
    host.perform(host.step(Kind.CHECKPOINT, workload=workload(), channel="kho", spill=False))
    preserve = host.step(
        Kind.PRESERVE,
        workloads=["counter"],
        channels={"counter": "kho"},
        from_release="a",
        to_release="b",
    )
    host.perform(preserve)
    assert host.verdict(preserve) is Inspection.PRESENT
    host.watchdog.arm(Path("/dev/watchdog0"), 1.0)
    host.driver.close()
    assert not host.watchdog.running
    assert not host.luo.outgoing
    assert host.verdict(preserve) is Inspection.ABSENT


def test_the_resume_unit_comes_before_the_network_and_bears_a_clean_rollback() -> None:
    unit = configparser.RawConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    text = files("orchestrator.drivers.live_update").joinpath("mkupgrade-resume.service")
    unit.read_string(text.read_text())
    assert "network-pre.target" in unit["Unit"]["Before"].split()
    assert "local-fs.target" in unit["Unit"]["After"].split()
    assert unit["Service"]["SuccessExitStatus"].split() == ["0", "3"]
    assert unit["Service"]["KillMode"] == "process"
    assert unit["Service"]["Restart"] == "on-abnormal"
    assert unit["Service"]["RestartMode"] == "direct"
    assert unit["Service"]["ExecStart"].endswith("mkupgrade resume --boot")
