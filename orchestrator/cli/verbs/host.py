"""`host permit` and `host forbid`: may mkupgrade change this machine's kernel at all?"""

from __future__ import annotations

import sys

import click

from orchestrator.cli.command import Call, verb
from orchestrator.cli.terminal import clean, styled


@click.group("host")
def host() -> None:
    """Permit or forbid changing this machine's kernel.

    Without a permit for this very machine every such call is refused, so that a copied disk, a
    container or a test can never change the kernel of the wrong host.
    """


@verb(
    "permit",
    examples="""
    sudo mkupgrade host permit
    """,
)
def permit(call: Call) -> None:
    """Allow mkupgrade to change the kernel of this machine.

    Writes /etc/mkupgrade/host.permit with the id of the machine, owned by root.
    """
    from orchestrator.system.guard import permit_host

    path = permit_host()
    if call.json:
        call.out_json({"permitted": True, "permit": str(path)})
    else:
        done = styled("permitted", sys.stdout, fg="green", bold=True)
        call.out(f"{done}: mkupgrade may change the kernel of this machine ({clean(path)})")


@verb(
    "forbid",
    examples="""
    sudo mkupgrade host forbid
    """,
)
def forbid(call: Call) -> None:
    """Take the permission back. A transaction that is under way cannot jump any more."""
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
