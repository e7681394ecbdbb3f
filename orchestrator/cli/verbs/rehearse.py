"""`rehearse`: the same plan with the same kernels in a throw-away VM."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from orchestrator.cli.command import Call, spec_argument, verb
from orchestrator.model.errors import PlanError
from orchestrator.model.outcomes import ExitCode


@verb(
    "rehearse",
    examples="""
    mkupgrade rehearse plan.yaml
    mkupgrade rehearse plan.yaml --from /boot/vmlinuz-7.2.13 --to /boot/vmlinuz-7.3.4
    mkupgrade rehearse plan.yaml --channel disk
    """,
)
@spec_argument
@click.option(
    "--from",
    "source",
    metavar="IMAGE",
    type=click.Path(path_type=Path),
    help="The kernel image to start from.",
)
@click.option(
    "--to",
    "target",
    metavar="IMAGE",
    type=click.Path(path_type=Path),
    help="The kernel image to change to.",
)
@click.option(
    "--channel",
    type=click.Choice(["auto", "kho", "disk"]),
    default="auto",
    show_default=True,
    help="What carries the state.",
)
@click.option("--stock", is_flag=True, help="With Debian's own kernels.")
@click.option("--keep", is_flag=True, help="Leave the guest running at the end, until Ctrl-C.")
def rehearse(
    call: Call,
    spec: Path,
    *,
    source: Path | None,
    target: Path | None,
    channel: Any,
    stock: bool,
    keep: bool,
) -> ExitCode:
    """Run the plan in a throw-away VM: step times, blackout per workload, checks.

    Needs QEMU; touches nothing of this machine but a cache directory. Without --from and --to
    it takes kernels that are at hand; it says which.
    """
    from orchestrator.cli.journals import last_report
    from orchestrator.cli.wiring import read_target
    from orchestrator.rehearsal.command import rehearse as run

    if read_target(spec).is_saved_plan:
        raise PlanError(
            "a saved plan is for this host: the guest plans for itself, from the spec",
            where=str(spec),
            state="nothing was changed",
            next_command="mkupgrade rehearse PLAN.yaml",
        )
    return run(
        spec,
        last_report,
        source=source,
        target=target,
        channel=channel,
        stock=stock,
        keep=keep,
        as_json=call.json,
    )
