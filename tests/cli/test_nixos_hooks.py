"""`nixos stage --preload`, and `nixos confirm` behind a restart: what they do, and leave alone."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli import staged
from orchestrator.drivers.simulated import booting
from orchestrator.drivers.simulated.store import Store
from orchestrator.engine.lock import HostLock
from orchestrator.system import proc, resume_unit, systemd
from orchestrator.system.guard import HostGuard
from tests.support.kexec import PretendKexec
from tests.support.nixos import PretendNixos


def cut(mkupgrade: Any) -> str:
    """An apply that is killed in the new kernel, and a reset that ends in the old one."""
    mkupgrade.change_host(faults={"restore/counter": {"kind": "die-before"}})
    mkupgrade.process("apply", mkupgrade.spec, "--yes", code=-signal.SIGKILL)
    with Store(mkupgrade.host_file).change() as world:
        world.faults.clear()
        booting.reset(world, "the watchdog")
    return str(mkupgrade.json("status")["unfinished"]["transaction"])


def confirm(mkupgrade: Any, code: int = 0) -> Any:
    return mkupgrade("nixos", "confirm", "--state-dir", mkupgrade.state, code=code)


def test_what_a_fallback_left_is_put_right_once(nixos: PretendNixos, mkupgrade: Any) -> None:
    left = cut(mkupgrade)
    told = confirm(mkupgrade)
    assert f"Transaction {left} is not finished." in told.stderr
    assert "Rolled back: Linux 7.2.13 -> 7.3.4 -> 7.2.13" in told.stdout
    assert mkupgrade.host()["workloads"]["counter"]["status"] == "running"
    assert mkupgrade.json("status")["last"]["outcome"] == "rolled-back"
    events = mkupgrade.json("history", left)
    again = confirm(mkupgrade)
    assert "Transaction" not in again.stdout + again.stderr
    assert mkupgrade.json("history", left) == events


@pytest.mark.slow
def test_what_is_done_is_told_as_json_lines(nixos: PretendNixos, mkupgrade: Any) -> None:
    left = cut(mkupgrade)
    shown = mkupgrade("nixos", "confirm", "--state-dir", mkupgrade.state, "--json")
    first, *rest = [json.loads(line) for line in shown.stdout.splitlines()]
    assert (first["unfinished"], first["unsettled"]) == (left, None)
    assert rest[-1]["report"]["outcome"] == "rolled-back"
    assert any("event" in line for line in rest)


def test_a_transaction_that_waits_for_the_operator_is_left_alone(
    nixos: PretendNixos, mkupgrade: Any
) -> None:
    text = mkupgrade.spec.read_text(encoding="utf-8") + "rollback: {automatic: false}\n"
    mkupgrade.spec.write_text(text, encoding="utf-8")
    mkupgrade.change_host(failing_checks={"answers": "7.3.4"})
    mkupgrade("apply", mkupgrade.spec, "--yes", code=7)
    left = mkupgrade.json("status")["unfinished"]["transaction"]
    told = confirm(mkupgrade, code=6)
    assert f"transaction {left} waits for you" in told.stderr
    assert f"mkupgrade rollback {left}" in told.stderr
    assert mkupgrade.json("status")["unfinished"]["transaction"] == left


@pytest.mark.slow
def test_whoever_is_at_work_is_not_disturbed(nixos: PretendNixos, mkupgrade: Any) -> None:
    mkupgrade.change_host(faults={"restore/counter": {"kind": "slow", "seconds": 30.0}})
    with mkupgrade.start("apply", mkupgrade.spec, "--yes") as apply:
        mkupgrade.wait_for("restore/counter")
        told = confirm(mkupgrade, code=6)
        assert f"process {apply.pid} (mkupgrade apply for transaction" in told.stderr
        apply.kill()


@pytest.mark.slow
def test_an_end_that_is_unknown_is_told_again_and_not_touched(
    nixos: PretendNixos, mkupgrade: Any
) -> None:
    mkupgrade.change_host(faults={"preserve/host": {"kind": "unknown"}})
    mkupgrade("apply", mkupgrade.spec, "--yes", code=8)
    for _ in range(2):
        told = confirm(mkupgrade, code=8)
        assert "ended unknown: look first" in told.stderr
        assert "  mkupgrade status" in told.stderr


class ResumeUnit:
    """systemd with the unit, which does what its ExecStart says as soon as it is started."""

    def __init__(self, mkupgrade: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.command = mkupgrade
        self.mounts = f"{mkupgrade.state} /run"
        self.started: list[str] = []
        self.works = True
        monkeypatch.setattr(systemd, "is_running", lambda: True)
        for name in ("properties", "show", "begin"):
            monkeypatch.setattr(systemd, name, getattr(self, name))

    def properties(self, unit: str, *names: str) -> dict[str, str]:
        return {"LoadState": "loaded", "RequiresMountsFor": self.mounts}

    def show(self, unit: str) -> systemd.Unit:
        return systemd.Unit(unit, "loaded", "inactive", "dead", 0, "", "")

    def begin(self, unit: str) -> None:
        self.started.append(unit)
        if self.works:
            self.command("resume", "--boot", code=3)


@pytest.mark.slow
def test_the_unit_goes_on_where_it_looks_after_the_directory(
    nixos: PretendNixos, mkupgrade: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = cut(mkupgrade)
    unit = ResumeUnit(mkupgrade, monkeypatch)
    told = confirm(mkupgrade)
    assert unit.started == [resume_unit.NAME]
    assert f"{resume_unit.NAME} goes on with transaction {left}" in told.stderr
    assert "Rolled back: Linux 7.2.13 -> 7.3.4 -> 7.2.13" in told.stdout
    assert "began" not in told.stderr, "what was told before is not told again"


@pytest.mark.slow
def test_a_unit_of_another_directory_is_not_started(
    nixos: PretendNixos, mkupgrade: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut(mkupgrade)
    unit = ResumeUnit(mkupgrade, monkeypatch)
    unit.mounts = "/var/lib/mkupgrade /run"
    assert "Rolled back" in confirm(mkupgrade).stdout
    assert unit.started == []


@pytest.mark.slow
def test_a_unit_that_fails_is_named(
    nixos: PretendNixos, mkupgrade: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = cut(mkupgrade)
    unit = ResumeUnit(mkupgrade, monkeypatch)
    unit.works = False
    told = confirm(mkupgrade, code=7)
    assert f"{resume_unit.NAME} did not finish transaction {left}" in told.stderr
    assert f"journalctl --boot --unit={resume_unit.NAME}" in told.stderr


def test_a_staged_system_that_did_not_start_is_named_with_what_to_do(
    run: Any, nixos: PretendNixos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new, state = nixos.store / "new-nixos-system", ("--state-dir", tmp_path / "state")
    monkeypatch.setattr(proc, "boot_id", lambda: "one")
    assert run("nixos", "stage", new, *state).exit_code == 0
    monkeypatch.setattr(proc, "boot_id", lambda: "two")
    for _ in range(2):
        told = run("nixos", "confirm", *state)
        assert told.exit_code == 0
        assert f"Staged   {new}: has not started" in told.stdout
        assert "another one has started" in told.stderr
        assert f"mkupgrade nixos upgrade --store-path {new}" in told.stderr


def test_what_a_live_update_started_in_this_boot_waits_for_nothing(
    run: Any, nixos: PretendNixos, tmp_path: Path
) -> None:
    state = ("--state-dir", tmp_path / "state")
    assert run("nixos", "stage", nixos.store / "old-nixos-system", *state).exit_code == 0
    assert json.loads(run("nixos", "confirm", *state, "--json").stdout)["staged_started"] is True


# -- preloading


@pytest.fixture
def kexec(monkeypatch: pytest.MonkeyPatch) -> PretendKexec:
    """The only kernel that `nixos stage` sees."""
    found = PretendKexec()
    monkeypatch.setattr(staged, "machine", lambda: found)
    return found


def stage(run: Any, state: Path, *arguments: object) -> Any:
    shown = run("nixos", "stage", *arguments, "--state-dir", state, "--json")
    assert shown.exit_code == 0, shown.stderr
    return json.loads(shown.stdout)


def test_preloading_has_to_be_asked_for(
    run: Any, nixos: PretendNixos, kexec: PretendKexec, tmp_path: Path
) -> None:
    new = nixos.store / "new-nixos-system"
    assert stage(run, tmp_path / "state", new)["preloaded"] is None
    assert kexec.loaded is None
    told = run("nixos", "stage", "--preload", new, "--state-dir", tmp_path / "state")
    assert told.exit_code == 0
    assert "its kernel is loaded: `systemctl kexec`" in told.stderr
    assert "SYSTEMCTL_SKIP_AUTO_KEXEC=1" in told.stderr
    assert kexec.loaded is not None
    assert kexec.loaded[1] == f"init={new}/init quiet"


@pytest.mark.parametrize("options", [(), ("--preload",)])
def test_a_system_with_the_running_kernel_ends_with_nothing_loaded(
    run: Any, nixos: PretendNixos, kexec: PretendKexec, tmp_path: Path, options: tuple[str, ...]
) -> None:
    new, old = nixos.store / "new-nixos-system", nixos.store / "old-nixos-system"
    assert stage(run, tmp_path / "s", "--preload", new)["preloaded"] == str(new)
    assert stage(run, tmp_path / "s", *options, old)["preloaded"] is None
    assert kexec.loaded is None
    told = run("nixos", "stage", "--preload", old, "--state-dir", tmp_path / "s")
    assert told.stderr == ""


def test_another_system_takes_the_place_of_the_one_before(
    run: Any, nixos: PretendNixos, kexec: PretendKexec, tmp_path: Path
) -> None:
    new, newer = nixos.store / "new-nixos-system", nixos.system("newer", release="6.19.0")
    stage(run, tmp_path / "s", "--preload", new)
    assert stage(run, tmp_path / "s", "--preload", newer)["preloaded"] == str(newer)
    assert kexec.loaded is not None
    assert f"init={newer}/init" in kexec.loaded[1]
    assert stage(run, tmp_path / "s", new)["preloaded"] is None
    assert kexec.loaded is None, "it was not asked for again, and the one before is stale"


def test_a_system_that_cannot_be_read_leaves_no_stale_kernel(
    run: Any, nixos: PretendNixos, kexec: PretendKexec, tmp_path: Path
) -> None:
    stage(run, tmp_path / "s", "--preload", nixos.store / "new-nixos-system")
    found = stage(run, tmp_path / "s", "--preload", "/no/such")
    assert "was not remembered" in found["problem"]
    assert kexec.loaded is None


def test_what_somebody_else_has_loaded_is_left_alone_and_told(
    run: Any, nixos: PretendNixos, kexec: PretendKexec, tmp_path: Path
) -> None:
    theirs = kexec.loaded = (Path("/somebody/else"), "")
    new, old = nixos.store / "new-nixos-system", nixos.store / "old-nixos-system"
    found = stage(run, tmp_path / "s", "--preload", new)
    assert (found["staged"], found["preloaded"]) == (str(new), None)
    assert "somebody else has loaded a kernel" in found["problem"]
    assert stage(run, tmp_path / "s", old)["problem"] is None
    assert kexec.loaded == theirs


def test_what_an_earlier_boot_preloaded_is_not_ours(
    run: Any, nixos: PretendNixos, kexec: PretendKexec, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(proc, "boot_id", lambda: "one")
    stage(run, tmp_path / "s", "--preload", nixos.store / "new-nixos-system")
    monkeypatch.setattr(proc, "boot_id", lambda: "two")
    theirs = kexec.loaded = (Path("/somebody/else"), "")
    stage(run, tmp_path / "s", nixos.store / "old-nixos-system")
    assert kexec.loaded == theirs


def test_while_a_transaction_is_unfinished_nothing_is_loaded_or_unloaded(
    run: Any, nixos: PretendNixos, kexec: PretendKexec, mkupgrade: Any
) -> None:
    new, old = nixos.store / "new-nixos-system", nixos.store / "old-nixos-system"
    stage(run, mkupgrade.state, "--preload", new)
    text = mkupgrade.spec.read_text(encoding="utf-8") + "rollback: {automatic: false}\n"
    mkupgrade.spec.write_text(text, encoding="utf-8")
    mkupgrade.change_host(failing_checks={"answers": "7.3.4"})
    mkupgrade("apply", mkupgrade.spec, "--yes", code=7)
    before = kexec.loaded
    found = stage(run, mkupgrade.state, old)
    assert (found["staged"], found["preloaded"]) == (str(old), str(new))
    assert "is not finished" in found["problem"]
    found = stage(run, mkupgrade.state, "--preload", nixos.system("newer", release="6.19.0"))
    assert "is not finished" in found["problem"]
    assert kexec.loaded == before


def test_while_somebody_is_at_work_nothing_is_loaded(
    run: Any, nixos: PretendNixos, kexec: PretendKexec, tmp_path: Path
) -> None:
    new, state = nixos.store / "new-nixos-system", tmp_path / "s"
    stage(run, state, new)
    lock = HostLock(state)
    lock.acquire("apply")
    found = stage(run, state, "--preload", new)
    lock.release()
    assert found["staged"] == str(new)
    assert "is at work on this host" in found["problem"]
    assert kexec.loaded is None


def test_without_a_permit_the_real_kernel_is_not_touched(
    run: Any, nixos: PretendNixos, tmp_path: Path
) -> None:
    if not HostGuard.open().objections():
        pytest.skip("this machine is permitted, and the call would be made")
    found = stage(run, tmp_path / "s", "--preload", nixos.store / "new-nixos-system")
    assert found["preloaded"] is None
    assert "nothing was preloaded" in found["problem"]
    assert "mkupgrade host permit" in found["problem"]
