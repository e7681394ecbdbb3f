"""Real processes on a real file: killed, locked out, and on a disk without room."""

from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.engine.journal import FILE, Journal
from orchestrator.engine.lock import HostLock, current_holder, read_holder
from orchestrator.engine.queries import unfinished
from orchestrator.engine.transaction import Engine
from orchestrator.model.errors import JournalError, LockedError
from orchestrator.model.outcomes import ExitCode, Outcome
from orchestrator.model.seams import StepContext
from orchestrator.model.steps import Inspected, Inspection, Step

STEPS = [f"s{i}" for i in range(6)]


class FileDriver:
    """Effects are files; made twice, or removed when they are not there, it raises."""

    name = "files"

    def __init__(self, directory: Path, die_at: tuple[str, str, str] | None = None) -> None:
        self.directory, self.die_at = directory, die_at
        directory.mkdir(exist_ok=True)

    def _die(self, when: str, verb: str, step: Step) -> None:
        if self.die_at == (when, verb, step.id):
            os.kill(os.getpid(), signal.SIGKILL)

    def observe(self, spec: Any) -> Any:
        raise NotImplementedError

    def perform(self, step: Step, context: StepContext) -> dict[str, Any]:
        self._die("before", "perform", step)
        (self.directory / step.id).touch(exist_ok=False)
        with (self.directory / "performed").open("a") as log:
            log.write(f"{step.id}\n")
        self._die("after", "perform", step)
        return {}

    def inspect(self, step: Step, context: StepContext) -> Inspected:
        there = (self.directory / step.id).exists()
        return Inspected(
            verdict=Inspection.PRESENT if there else Inspection.ABSENT, reason="looked for it"
        )

    def revert(self, step: Step, context: StepContext) -> dict[str, Any]:
        self._die("before", "revert", step)
        (self.directory / step.id).unlink()
        self._die("after", "revert", step)
        return {}

    def close(self) -> None:
        pass

    def effects(self) -> list[str]:
        return sorted(p.name for p in self.directory.iterdir() if p.name != "performed")


def in_child(work: Callable[[], object]) -> int:
    """Run `work` in a forked process; its exit status, or minus the signal that ended it."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def run_or_resume(state_dir: Path, driver: FileDriver, graph: Any = None) -> Any:
    with (
        Journal.open(state_dir, volatile=None) as journal,
        Engine(driver, journal) as engine,
    ):
        if graph is not None:
            return engine.run(engine.begin(graph))
        transaction = unfinished(journal)
        assert transaction is not None
        return engine.resume(transaction)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", STEPS)
def test_killed_at_every_step_resume_finishes_and_does_nothing_twice(
    state_dir: Path, tmp_path: Path, tools: Any, when: str, step: str
) -> None:
    files = tmp_path / "files"
    graph = tools.graph(STEPS, "chain")
    mortal = FileDriver(files, die_at=(when, "perform", step))
    assert in_child(lambda: run_or_resume(state_dir, mortal, graph)) == -signal.SIGKILL
    report = run_or_resume(state_dir, FileDriver(files))
    assert report.outcome is Outcome.COMMITTED
    assert (files / "performed").read_text().split() == STEPS


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_while_reverting_resume_reverts_the_rest(
    state_dir: Path, tmp_path: Path, tools: Any, when: str
) -> None:
    files = tmp_path / "files"
    mortal = FileDriver(files, die_at=(when, "revert", "s2"))
    (files / "s5").touch()  # so that s5 cannot be performed
    graph = tools.graph(STEPS, "chain")

    class Refusing(FileDriver):
        def inspect(self, step: Step, context: StepContext) -> Inspected:
            if step.id == "s5":
                return Inspected(verdict=Inspection.ABSENT, reason="not ours")
            return super().inspect(step, context)

    refusing = Refusing(files, die_at=mortal.die_at)
    assert in_child(lambda: run_or_resume(state_dir, refusing, graph)) == -signal.SIGKILL
    report = run_or_resume(state_dir, Refusing(files))
    assert report.outcome is Outcome.ROLLED_BACK
    assert refusing.effects() == ["s5"]


def test_a_process_that_keeps_dying_at_a_step_is_not_resumed_for_ever(
    state_dir: Path, tmp_path: Path, tools: Any
) -> None:
    files = tmp_path / "files"
    mortal = FileDriver(files, die_at=("before", "perform", "s3"))
    graph = tools.graph(STEPS, "chain")
    assert in_child(lambda: run_or_resume(state_dir, mortal, graph)) == -signal.SIGKILL
    lives = 1
    while in_child(lambda: run_or_resume(state_dir, mortal)) == -signal.SIGKILL:
        lives += 1
        assert lives < 10
    with Journal.open_readonly(state_dir) as journal:  # type: ignore[union-attr]
        assert unfinished(journal) is None
    assert lives == 3
    assert mortal.effects() == []


@pytest.mark.slow
def test_killed_at_random_moments_a_long_chain_still_ends_right(
    state_dir: Path, tmp_path: Path, tools: Any
) -> None:
    steps = [f"s{i:03}" for i in range(150)]
    files = tmp_path / "files"
    graph = tools.graph(steps, "chain")
    for life in range(6):
        child = os.fork()
        if child == 0:
            try:
                run_or_resume(state_dir, FileDriver(files), None if life else graph)
            finally:
                os._exit(0)
        began = time.monotonic()
        goal = 15 * (life + 1)
        while len(FileDriver(files).effects()) < goal and time.monotonic() - began < 10:
            time.sleep(0.002)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    report = run_or_resume(state_dir, FileDriver(files))
    assert report.outcome is Outcome.COMMITTED
    assert FileDriver(files).effects() == steps
    performed = (files / "performed").read_text().split()  # may lack the one it was killed in
    assert performed == sorted(set(performed))
    with Journal.open_readonly(state_dir) as journal:  # type: ignore[union-attr]
        assert journal.verify().problem is None


def test_a_second_process_is_told_who_is_at_work_and_takes_over_when_it_dies(
    state_dir: Path, tmp_path: Path, tools: Any
) -> None:
    class Slow(FileDriver):
        def perform(self, step: Step, context: StepContext) -> dict[str, Any]:
            super().perform(step, context)
            time.sleep(60 if step.id == "s1" else 0)
            return {}

    files = tmp_path / "files"
    child = os.fork()
    if child == 0:
        try:
            run_or_resume(state_dir, Slow(files), tools.graph(STEPS, "chain"))
        finally:
            os._exit(0)
    try:
        while not (files / "s1").exists():
            time.sleep(0.01)
        with pytest.raises(LockedError) as locked:
            run_or_resume(state_dir, FileDriver(files), tools.graph(["x"]))
        assert locked.value.exit_code is ExitCode.WAITING
        assert str(child) in locked.value.what
        holder = current_holder(state_dir)
        assert holder is not None
        assert (holder.pid, holder.verb) == (child, "apply")
        with Journal.open_readonly(state_dir) as journal:  # type: ignore[union-attr]
            assert unfinished(journal) == holder.transaction
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert read_holder(state_dir) is not None
    assert current_holder(state_dir) is None
    assert run_or_resume(state_dir, FileDriver(files)).outcome is Outcome.COMMITTED


@pytest.mark.slow
def test_another_process_can_have_the_transaction_rolled_back(
    state_dir: Path, tmp_path: Path, tools: Any
) -> None:
    class Waiting(FileDriver):
        def perform(self, step: Step, context: StepContext) -> dict[str, Any]:
            super().perform(step, context)
            while step.id == "s1" and not context.control.stopped():
                time.sleep(0.01)
            return {}

    files = tmp_path / "files"
    child = os.fork()
    if child == 0:
        try:
            report = run_or_resume(state_dir, Waiting(files), tools.graph(STEPS, "chain"))
            os._exit(int(report.exit_code))
        finally:
            os._exit(99)
    while not (files / "s1").exists():
        time.sleep(0.01)
    with Journal.open(state_dir, volatile=None) as journal:
        transaction = unfinished(journal)
        assert transaction is not None
        with Engine(FileDriver(files), journal) as engine:
            assert engine.abort(transaction, "andon cord") is None
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status == ExitCode.ROLLED_BACK
    assert FileDriver(files).effects() == []
    assert not (state_dir / "abort").exists()


def test_abort_without_a_running_process_rolls_back_itself(
    state_dir: Path, tmp_path: Path, tools: Any
) -> None:
    files = tmp_path / "files"
    mortal = FileDriver(files, die_at=("after", "perform", "s3"))
    graph = tools.graph(STEPS, "chain")
    assert in_child(lambda: run_or_resume(state_dir, mortal, graph)) == -signal.SIGKILL
    with (
        Journal.open(state_dir, volatile=None) as journal,
        Engine(FileDriver(files), journal) as engine,
    ):
        report = engine.abort(unfinished(journal) or "", "enough")
    assert report is not None
    assert report.outcome is Outcome.ROLLED_BACK
    assert FileDriver(files).effects() == []


def test_children_of_the_holder_do_not_keep_the_lock(state_dir: Path) -> None:
    state_dir.mkdir(mode=0o700)
    lock = HostLock(state_dir)
    lock.acquire("apply")
    assert in_child(lambda: None if not lock.held else os._exit(1)) == 0
    child = os.fork()
    if child == 0:
        time.sleep(30)
        os._exit(0)
    try:
        lock.release()
        HostLock(state_dir).acquire("resume")
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def limit_files_to(size: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def test_a_lock_is_a_lock_even_if_there_is_no_room_for_its_holders_name(state_dir: Path) -> None:
    state_dir.mkdir(mode=0o700, exist_ok=True)

    def work() -> None:
        limit_files_to(0)
        lock = HostLock(state_dir)
        lock.acquire("resume")
        assert read_holder(state_dir) is None
        with pytest.raises(LockedError, match="another process"):
            HostLock(state_dir).acquire("apply")
        lock.release()

    assert in_child(work) == 0


@pytest.mark.usefixtures("room")
def test_no_room_at_the_start_is_an_error_before_anything_happens(
    state_dir: Path, tmp_path: Path, tools: Any
) -> None:
    driver = FileDriver(tmp_path / "files")
    Journal.open(state_dir, volatile=None).close()

    def work() -> None:
        limit_files_to(2**20)
        with pytest.raises(JournalError, match="cannot be written") as caught:
            run_or_resume(state_dir, driver, tools.graph(STEPS, "chain"))
        assert caught.value.state == "nothing was changed"

    assert in_child(work) == 0
    assert driver.effects() == []
    assert run_or_resume(state_dir, driver, tools.graph(STEPS, "chain")).exit_code == 0


@pytest.mark.slow
@pytest.mark.usefixtures("room")
def test_a_disk_that_fills_up_later_does_not_stop_the_transaction(
    state_dir: Path, tmp_path: Path, tools: Any
) -> None:
    """Room was reserved: with every file frozen at its size, 400 steps go there and back.
    Also for a second transaction, after the files were closed in order."""
    run_or_resume(state_dir, FileDriver(tmp_path / "first"), tools.graph(["x"]))
    steps = [f"s{i:03}" for i in range(400)]
    driver = FileDriver(tmp_path / "files")
    (tmp_path / "files" / steps[-1]).mkdir()  # so that the last step fails

    def work() -> None:
        with (
            Journal.open(state_dir, volatile=None) as journal,
            Engine(driver, journal) as engine,
        ):
            transaction = engine.begin(tools.graph(steps, "chain"))
            limit_files_to(max(p.stat().st_size for p in state_dir.iterdir()))
            driver.inspect = lambda *_: Inspected(  # type: ignore[method-assign]
                verdict=Inspection.ABSENT, reason="not ours"
            )
            os._exit(int(engine.run(transaction).exit_code))

    assert in_child(work) == ExitCode.ROLLED_BACK
    assert driver.effects() == [steps[-1]]


def test_a_disk_that_is_full_stops_and_resume_goes_on_when_there_is_room(
    state_dir: Path, tmp_path: Path, tools: Any
) -> None:
    steps = [f"s{i:03}" for i in range(100)]
    driver = FileDriver(tmp_path / "files")

    def work() -> None:
        with (
            Journal.open(state_dir, volatile=None) as journal,
            Engine(driver, journal) as engine,
        ):
            transaction = engine.begin(tools.graph(steps, "chain"))
            limit_files_to((state_dir / f"{FILE}-wal").stat().st_size + 60_000)
            with pytest.raises(JournalError, match="cannot be written"):
                engine.run(transaction)

    assert in_child(work) == 0
    assert 0 < len(driver.effects()) < 100
    assert run_or_resume(state_dir, driver).outcome is Outcome.COMMITTED
    assert (tmp_path / "files" / "performed").read_text().split() == steps
