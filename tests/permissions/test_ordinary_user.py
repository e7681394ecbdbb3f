"""What an ordinary user can do to a state directory of root's, and is told: nothing, and what to
do instead. Tried as one; an ordinary user's own runs skip this."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from orchestrator.cli.main import cli
from orchestrator.engine.interrupts import ABORT_FILE, read_abort, write_abort
from orchestrator.engine.journal import FILE, Journal
from orchestrator.engine.lock import FILE as LOCK
from orchestrator.engine.lock import HostLock, current_holder
from orchestrator.model.errors import JournalError, MkupgradeError
from tests.cli.conftest import Command
from tests.support.users import ORDINARY, as_user, needs_root

pytestmark = needs_root


@pytest.fixture(scope="module")
def host() -> Iterator[Command]:
    """A pretend host of root's with a transaction behind it, where everybody can get to."""
    directory = Path(tempfile.mkdtemp(prefix="mkupgrade-test-"))
    directory.chmod(0o755)
    before = os.umask(0o022)
    try:
        command = Command(directory)
        command("apply", command.spec, "--yes")
        command("plan", command.spec, "-o", directory / "plan.json")
        (directory / "plan.json").chmod(0o644)
        yield command
    finally:
        os.umask(before)
        shutil.rmtree(directory)


@pytest.fixture
def theirs(host: Command) -> Iterator[Path]:
    """A directory of the ordinary user's."""
    path = host.directory / "theirs"
    path.mkdir()
    os.chown(path, ORDINARY, ORDINARY)
    yield path
    shutil.rmtree(path)


def tried(call: Callable[[], Any]) -> str:
    """What an ordinary user gets: the kind of error, or "allowed"."""

    def attempt() -> str:
        try:
            call()
        except (OSError, MkupgradeError) as error:
            return type(error).__name__
        return "allowed"

    return str(as_user(attempt))


def test_what_is_in_the_state_directory_is_closed(host: Command) -> None:
    names = (FILE, LOCK, "simulated-host.json")
    for path in (host.state, *(host.state / name for name in names)):
        status = path.lstat()
        assert status.st_uid == 0
        assert not stat.S_IMODE(status.st_mode) & 0o077, path
    for name in names:
        assert tried((host.state / name).read_bytes) == "PermissionError"
        assert tried((host.state / name).unlink) == "PermissionError"
    assert tried(lambda: list(host.state.iterdir())) == "PermissionError"


def test_the_journal_cannot_be_read_the_lock_not_held_and_no_abort_asked_for(
    host: Command,
) -> None:
    assert tried(lambda: Journal.open_readonly(host.state)) == "JournalError"
    assert tried(lambda: Journal.open(host.state, volatile=None)) == "JournalError"
    assert tried(lambda: HostLock(host.state).acquire("apply")) == "JournalError"
    assert tried(lambda: write_abort(host.state, "t", "x")) == "PermissionError"
    assert not (host.state / ABORT_FILE).exists()


VERBS = {
    "status": "status",
    "status of a plan": "status {plan}",
    "history": "history",
    "report": "report",
    "plan": "plan {plan}",
    "apply": "apply {plan} --yes",
    "apply of a saved plan": "apply {saved}",
    "resume": "resume",
    "rollback": "rollback --yes",
    "abort": "abort",
}


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_says_what_to_do(host: Command, verb: str) -> None:
    saved = host.directory / "plan.json"
    arguments = VERBS[verb].format(plan=host.spec, saved=saved).split()
    CliRunner(env=host.environment).invoke(cli, ["history"])  # imports what rendering needs

    def call() -> list[Any]:
        shown = CliRunner(env=host.environment).invoke(cli, arguments)
        return [shown.exit_code, shown.stdout, shown.stderr]

    code, out, said = as_user(call)
    assert (code, out) == (1, "")
    assert "error: the state directory is closed to all but root" in said
    elsewhere = f" --state-dir {host.state}" if arguments[0] in {
        "status", "history", "report", "resume", "rollback", "abort"} else ""  # fmt: skip
    assert f"next:  sudo mkupgrade {' '.join(arguments)}{elsewhere}\n" in said
    assert "nothing was changed" in said


def test_root_does_not_use_a_state_directory_that_somebody_else_made(theirs: Path) -> None:
    """One that was there before root came, with a journal, a lock or an abort file in it."""
    state = theirs / "state"

    def plant() -> None:
        state.mkdir(mode=0o700)
        (state / LOCK).write_text('{"pid":1,"boot_id":"b","started":0,"verb":"apply"}')
        (state / ABORT_FILE).write_text('{"transaction":"t","reason":"x"}')
        (state / FILE).write_bytes(b"SQLite format 3\0" + bytes(100))

    as_user(plant)
    for opening in (
        lambda: Journal.open(state, volatile=None),
        lambda: Journal.open_readonly(state),
    ):
        with pytest.raises(JournalError, match=f"belongs to user {ORDINARY}"):
            opening()
    with pytest.raises(JournalError, match="belongs to user"):
        HostLock(state).acquire("apply")
    assert current_holder(state) is None
    assert read_abort(state, "t") is None


@pytest.mark.parametrize("name", [FILE, LOCK, ABORT_FILE])
def test_root_follows_no_link_and_waits_for_no_pipe_in_it(theirs: Path, name: str) -> None:
    secret = theirs.parent / "secret"
    secret.write_text("x")
    secret.chmod(0o600)
    for make in (lambda path: path.symlink_to(secret), os.mkfifo):
        state = theirs / f"state-{make is os.mkfifo}"

        def plant(state: Path = state, make: Callable[[Path], Any] = make) -> None:
            state.mkdir(mode=0o700)
            make(state / name)

        as_user(plant)
        if name == FILE:
            with pytest.raises(JournalError):
                Journal.open_readonly(state)
        elif name == LOCK:
            with pytest.raises(JournalError):
                HostLock(state).acquire("apply")
            assert current_holder(state) is None
        else:
            assert read_abort(state, "t") is None
    assert secret.read_text() == "x"
    secret.unlink()


def test_a_state_directory_that_is_a_link_of_theirs_is_not_followed(theirs: Path) -> None:
    mine = theirs.parent / "mine"
    Journal.open(mine, volatile=None).close()
    link = theirs / "state"
    as_user(lambda: link.symlink_to(mine))
    with pytest.raises(JournalError, match="cannot be used"):
        Journal.open(link, volatile=None)
    with pytest.raises(JournalError):
        Journal.open_readonly(link)
    shutil.rmtree(mine)


def test_an_ordinary_user_neither_reads_nor_writes_the_permit_and_the_policy(
    host: Command,
) -> None:
    from orchestrator.policy import enforce
    from orchestrator.system import guard

    assert tried(guard.permit_host) == "GuardError"
    policy = host.directory / "policy.yaml"
    policy.write_text("api_version: mkupgrade-policy/v1\n")
    policy.chmod(0o600)
    place = enforce.Place(policy, enforce.Trust(0, host.directory))
    assert tried(lambda: enforce.in_force(place)) == "PolicyError"
    policy.unlink()
