"""`clean-up`: harmless at any time; nothing but what is kept past its time goes."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli import wiring
from orchestrator.cli.tidying import give_back_expired
from orchestrator.engine.lock import HostLock
from orchestrator.model.errors import MkupgradeError
from orchestrator.model.outcomes import ExitCode


class Keeping:
    """A driver that keeps one thing past its time."""

    name = "keeping"

    def __init__(self, error: MkupgradeError | None = None) -> None:
        self.error = error
        self.asked = 0

    def prune(self, over: list[Any]) -> list[str]:
        self.asked += 1
        if self.error is not None:
            raise self.error
        return ["web"]

    def expired(self, over: list[Any]) -> bool:
        return True

    def close(self) -> None: ...


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    path = tmp_path / "state"
    path.mkdir(mode=0o700)
    return path


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Keeping:
    found = Keeping()
    monkeypatch.setattr(wiring, "driver_named", lambda name, state_dir: found)
    return found


def test_a_host_without_a_state_directory_keeps_nothing(run: Any, tmp_path: Path) -> None:
    done = run("clean-up", "--state-dir", tmp_path / "none")
    assert (done.exit_code, done.output) == (0, "Nothing is kept past its time.\n")
    assert not (tmp_path / "none").exists()


def test_what_went_is_told(run: Any, driver: Keeping, state_dir: Path) -> None:
    assert run("clean-up", "--state-dir", state_dir).output == "Removed: web.\n"
    told = run("clean-up", "--state-dir", state_dir, "--json")
    assert json.loads(told.output) == {"removed": ["web"]}


def test_a_pretend_host_is_left_alone(run: Any, driver: Keeping, state_dir: Path) -> None:
    (state_dir / wiring.SIMULATED_HOST).write_text("{}")
    assert run("clean-up", "--state-dir", state_dir).exit_code == 0
    assert driver.asked == 0


def test_nothing_goes_while_somebody_is_at_work(run: Any, driver: Keeping, state_dir: Path) -> None:
    lock = HostLock(state_dir)
    lock.acquire("apply")
    try:
        done = run("clean-up", "--state-dir", state_dir)
        give_back_expired(driver, state_dir)  # type: ignore[arg-type]
    finally:
        lock.release()
    assert done.exit_code == ExitCode.WAITING
    assert driver.asked == 0


def test_before_a_plan_what_cannot_go_stays_and_the_lock_is_free(
    driver: Keeping, state_dir: Path
) -> None:
    driver.error = MkupgradeError("the kernel refuses")
    with closing(driver):
        give_back_expired(driver, state_dir)  # type: ignore[arg-type]
    assert driver.asked == 1
    lock = HostLock(state_dir)
    lock.acquire("apply")
    lock.release()
