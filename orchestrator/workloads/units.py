"""A systemd unit around a workload that CRIU carries.

systemd must neither start the service again when its processes vanish in a dump, nor run its stop
commands, nor remove its runtime directory; and after the restore the processes must be the
service's again. Both by drop-ins in /run, which do not outlive the kernel:

- `hold`, before the dump: Restart=no, no ExecStop*, RuntimeDirectoryPreserve=yes.
- `adopt`, after the restore: the processes are put into the unit's cgroup; a drop-in makes the
  unit a forking one whose start command does nothing and whose PID file names the restored root
  (a PID file of root's may name any process: systemd, service_is_suitable_main_pid); it is
  started, and the drop-in removed again. systemd keeps the main process over the reload.
"""

from __future__ import annotations

from pathlib import Path

from orchestrator.model.errors import MkupgradeError
from orchestrator.system import files, subprocesses, systemd
from orchestrator.workloads import cgroups

_RUN = Path("/run")
_DROP_IN = "zz-mkupgrade.conf"
_HOLD = """\
[Service]
Restart=no
ExecStop=
ExecStopPost=
RuntimeDirectoryPreserve=yes
"""
_ADOPT = """\
[Unit]
ConditionPathExists=
[Service]
Type=forking
PIDFile={pid_file}
ExecStart=
ExecStart=/bin/true
ExecCondition=
ExecStartPre=
ExecStartPost=
ExecStop=
ExecStopPost=
RuntimeDirectoryPreserve=yes
"""


def applies(unit: str | None) -> bool:
    """Is there a service to look after?"""
    return unit is not None and unit.endswith(".service") and systemd.is_running()


def hold(unit: str, timeout: float, run: Path = _RUN) -> None:
    """Let the service's processes vanish without consequences.

    Raises:
        ToolError, SystemCallError
    """
    _write(unit, _HOLD, run)
    _systemctl("daemon-reload", timeout=timeout)


def release(unit: str, timeout: float, run: Path = _RUN) -> None:
    """End `hold`; none there is fine."""
    if _remove(unit, run):
        _systemctl("daemon-reload", timeout=timeout)


def adopt(unit: str, cgroup: str | None, pids: list[int], timeout: float, run: Path = _RUN) -> str:
    """Make restored processes those of the service, root first.

    Returns:
        What was done, or why it could not be: the workload runs either way.
    """
    pid_file = run / "mkupgrade" / f"{unit}.pid"
    try:
        problem = cgroups.join(cgroup or f"/system.slice/{unit}", pids)
        if problem is not None:
            return f"unit {unit} does not know its processes: {problem}"
        files.make_private_directory(pid_file.parent)
        files.write_durably(pid_file, f"{pids[0]}\n".encode(), 0o644)
        _write(unit, _ADOPT.format(pid_file=pid_file), run)
        try:
            _systemctl("daemon-reload", timeout=timeout)
            _systemctl("reset-failed", "--", unit, timeout=timeout, check=False)
            # Boot may still be under way: what the unit is ordered after need not be there yet.
            _systemctl("start", "--job-mode=ignore-dependencies", "--", unit, timeout=timeout)
        finally:
            release(unit, timeout, run)
    except MkupgradeError as error:
        return f"unit {unit} does not know its processes: {error}"
    return f"processes adopted by unit {unit}"


def _drop_in(unit: str, run: Path) -> Path:
    return run / "systemd" / "system" / f"{unit}.d" / _DROP_IN


def _write(unit: str, text: str, run: Path) -> None:
    path = _drop_in(unit, run)
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_durably(path, text.encode(), 0o644)


def _remove(unit: str, run: Path) -> bool:
    path = _drop_in(unit, run)
    if not path.exists():
        return False
    path.unlink()
    return True


def _systemctl(*words: str, timeout: float, check: bool = True) -> None:
    subprocesses.run(["systemctl", "--no-pager", *words], timeout=timeout, check=check)
