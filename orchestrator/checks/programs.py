"""command and systemd: what other programs say."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from orchestrator.checks.results import NotHeldError, shown
from orchestrator.checks.searching import contains
from orchestrator.model.spec.checks import CommandCheck, SystemdCheck
from orchestrator.system import subprocesses, systemd

_TAIL = 200


def check_command(
    check: CommandCheck,
    timeout: float,
    stopped: Callable[[], bool],
    env: Mapping[str, str] | None = None,
) -> str:
    """Run it; the exit status and, if asked for, the text in its output must fit.

    Raises:
        NotHeldError: what was seen instead.
        MkupgradeError: it could not be run, or not to its end; its process group is dead.
    """
    done = subprocesses.run(check.run, timeout=timeout, env=env, check=False, stopped=stopped)
    if done.returncode != check.exit_code:
        raise NotHeldError(f"{_ended(done.returncode)}, wanted {check.exit_code}{_said(done)}")
    if check.stdout_contains is not None and not contains([done.stdout], check.stdout_contains):
        raise NotHeldError(f"no {shown(check.stdout_contains)} in its output{_said(done)}")
    return _ended(done.returncode)


def _ended(status: int) -> str:
    return f"killed by signal {-status}" if status < 0 else f"exit status {status}"


def _said(done: subprocesses.Completed) -> str:
    tail = (done.error_text or done.text)[-_TAIL:]
    return f": {shown(tail)}" if tail else ""


def check_systemd(check: SystemdCheck) -> str:
    """The unit must be there and in the wanted state.

    Raises:
        NotHeldError: what was seen instead.
        MkupgradeError: systemd does not run here, or does not answer.
    """
    unit = systemd.show(check.unit)
    if unit.load != "loaded":
        raise NotHeldError(f"{check.unit} is {unit.load or 'unknown to systemd'}")
    seen = f"{unit.active} ({unit.sub})"
    if unit.active != check.state:
        raise NotHeldError(f"{seen}, wanted {check.state}")
    return seen
