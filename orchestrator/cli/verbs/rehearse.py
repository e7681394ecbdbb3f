"""`rehearse`: the same plan with the same kernels in a throw-away VM."""

from __future__ import annotations

from pathlib import Path

import click

from orchestrator.cli.command import Call, spec_argument, verb
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
@click.option("--from", "from_image", metavar="IMAGE", type=click.Path(path_type=Path),
              help="The kernel to start from; default: the running one.")  # fmt: skip
@click.option("--to", "to_image", metavar="IMAGE", type=click.Path(path_type=Path),
              help="The kernel to change to; default: the one in the plan.")  # fmt: skip
@click.option("--channel", type=click.Choice(["auto", "kho", "disk"]), default="auto",
              show_default=True, help="What carries the state.")  # fmt: skip
def rehearse(
    call: Call, spec: Path, from_image: Path | None, to_image: Path | None, channel: str
) -> ExitCode:
    """Run the plan in a throw-away VM: step times, blackout per workload, checks.

    Needs QEMU; touches nothing of this machine but a cache directory.
    """
    raise NotImplementedError
