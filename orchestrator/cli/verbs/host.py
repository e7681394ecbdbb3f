"""`host permit` and `host forbid`: may mkupgrade change this machine's kernel at all?"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from orchestrator.cli.command import Call, verb
from orchestrator.cli.terminal import clean, styled
from orchestrator.model.errors import MkupgradeError


@click.group("host")
def host() -> None:
    """Permit or forbid changing this machine's kernel.

    Without a permit for this very machine every such call is refused, so that a copied disk, a
    container or a test can never change the kernel of the wrong host.
    """


@verb(
    "permit",
    state=True,
    examples="""
    sudo mkupgrade host permit
    sudo mkupgrade host permit --state-dir /srv/mkupgrade
    """,
)
def permit(call: Call, state_dir: Path) -> None:
    """Allow mkupgrade to change the kernel of this machine.

    Writes /etc/mkupgrade/host.permit with the id of the machine, owned by root, and has systemd
    start mkupgrade-resume.service at every boot, which goes on with what a restart interrupted.
    If the units cannot be set up, nothing is permitted.
    Where the kernel can have instances beside it, mkupgrade-clean-up.timer is started, too: it
    gives back what is kept past its time.
    """
    from orchestrator.system import clean_up_unit, guard, resume_unit, systemd

    before = not guard.objections(guard.REAL)
    path = guard.permit_host()
    try:
        written = resume_unit.set_up(state_dir.absolute(), _program())
        at_boot, timed = systemd.is_running(), clean_up_unit.wanted()
        if timed:
            clean_up_unit.set_up(state_dir.absolute(), _program())
    except MkupgradeError:
        if not before:  # nobody would go on after a restart
            guard.forbid_host()
        raise
    if call.json:
        unit = str(written) if written else None
        call.out_json(
            {
                "permitted": True,
                "permit": str(path),
                "resumes_at_boot": at_boot,
                "unit": unit,
                "cleans_up": timed,
            }
        )
        return
    done = styled("permitted", sys.stdout, fg="green", bold=True)
    call.out(f"{done}: mkupgrade may change the kernel of this machine ({clean(path)})")
    if at_boot:
        where = f" ({clean(written)})" if written else ""
        call.out(f"{resume_unit.NAME} goes on after a restart{where}")
        if timed:
            call.out(f"{clean_up_unit.TIMER} gives back what is kept past its time")
    else:
        call.out("systemd does not run here: let your init run `mkupgrade resume --boot` at boot")


def _program() -> list[str]:
    """How to call this very mkupgrade by absolute paths."""
    script = Path(sys.argv[0]).absolute()
    if script.name == "mkupgrade" and os.access(script, os.X_OK):
        return [str(script)]
    return [sys.executable, "-m", "orchestrator.cli"]


@verb(
    "forbid",
    examples="""
    sudo mkupgrade host forbid
    """,
)
def forbid(call: Call) -> None:
    """Take the permission back. A transaction that is under way cannot jump any more.

    The units stay: workloads must come back whatever this machine restarts into.
    """
    from orchestrator.system.guard import REAL, forbid_host

    removed = forbid_host()
    if call.json:
        call.out_json({"permitted": False, "permit": str(REAL.permit), "removed": removed})
    else:
        done = styled("forbidden", sys.stdout, fg="yellow", bold=True)
        before = "the permit was removed" if removed else "there was no permit"
        call.out(f"{done}: {before}")


host.add_command(permit)
host.add_command(forbid)
