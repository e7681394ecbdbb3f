"""`doctor`: what this host can do, with the reason for everything."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestrator.cli.command import DEFAULT_STATE_DIR, Call, verb

if TYPE_CHECKING:
    from orchestrator.model.spec import UpgradeSpec


@verb(
    "doctor",
    examples="""
    mkupgrade doctor
    mkupgrade doctor plan.yaml
    mkupgrade doctor --json | jq '.capabilities.kho'
    """,
)
@click.argument("spec", metavar="[PLAN.yaml]", required=False, type=click.Path(path_type=Path))
@click.option(
    "--state-dir",
    envvar="MKUPGRADE_STATE_DIR",
    default=DEFAULT_STATE_DIR,
    show_default=True,
    type=click.Path(path_type=Path),
    help="Without a plan: the state directory to look at.",
)
def doctor(call: Call, spec: Path | None, state_dir: Path) -> None:
    """Show every capability of this host and the reason why it is there, or is not.

    With a plan also its files and workloads. Changes nothing; as root it sees more.
    """
    from orchestrator.cli.wiring import load_spec, open_driver

    document = load_spec(spec) if spec is not None else host_only(state_dir)
    with closing(open_driver(document)) as driver:
        host = driver.observe(document)
    if spec is None:
        host = host.model_copy(update={"artifacts": {}})
    if call.json:
        call.out_json(host.model_dump(mode="json"))
    else:
        from orchestrator.cli.render.doctor import show_host

        show_host(call.console(), host)


def host_only(state_dir: Path) -> UpgradeSpec:
    """A spec that wants what is there, for looking at a host without a plan."""
    import os

    from orchestrator.model.spec import UpgradeSpec

    release = os.uname().release
    kernel = {"image": f"/boot/vmlinuz-{release}", "release": release}
    return UpgradeSpec.model_validate(
        {
            "api_version": "mkupgrade/v1",
            "metadata": {"name": "doctor"},
            "host": {"state_dir": str(state_dir.absolute())},
            "instances": [{"name": "host", "kernel": kernel}],
        }
    )
