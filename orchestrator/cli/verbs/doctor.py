"""`doctor`: what this host can do, with the reason for everything."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestrator.cli.command import Call, state_dir_named, verb
from orchestrator.cli.terminal import clean
from orchestrator.model.errors import PlanError
from orchestrator.model.outcomes import ExitCode

if TYPE_CHECKING:
    from orchestrator.model.host import HostState
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
@state_dir_named("Without a plan: the state directory to look at.")
def doctor(call: Call, spec: Path | None, state_dir: Path) -> ExitCode:
    """Show every capability of this host and the reason why it is there, or is not.

    With a plan also its files and workloads, and exit code 1 with every cause if this host
    cannot carry it out. Changes nothing; as root it sees more.
    """
    from orchestrator.cli.standing import guard_objections, policy_objections, policy_problem
    from orchestrator.cli.wiring import for_this_host, open_driver, read_target
    from orchestrator.policy import in_force

    objections = policy_problem()
    policy = in_force() if not objections else None
    if spec is not None:
        target = read_target(spec)
        document, saved = target.load()
        document = for_this_host(document)
        objections = policy_objections(target, document, saved)
    else:
        document = host_only(state_dir)
    with closing(open_driver(document)) as driver:
        host = driver.observe(document)
        guarded = guard_objections() if driver.name != "simulated" else []
    problem = _plan_problem(document, host) if spec is not None else None
    if spec is None:
        host = host.model_copy(update={"artifacts": {}})
    if call.json:
        found = {
            "permitted": not guarded,
            "objections": [*objections, *guarded],
            "policy": policy.policy.model_dump(mode="json") if policy is not None else None,
            "plan_error": problem.as_dict() if problem else None,
        }
        call.out_json(host.model_dump(mode="json") | found)
    else:
        from orchestrator.cli.render.doctor import show_host

        lines = policy.lines() if policy is not None else []
        show_host(call.console(), host, [*objections, *guarded], lines)
        if problem is None and spec is not None:
            call.out(f"This host can carry out {clean(document.metadata.name)}.")
    if problem is not None and not call.json:
        raise problem
    return ExitCode.ERROR if problem is not None else ExitCode.DONE


def _plan_problem(spec: UpgradeSpec, host: HostState) -> PlanError | None:
    """Why this spec cannot be planned here, if it cannot."""
    from orchestrator.planning import plan

    try:
        plan(spec, host)
    except PlanError as error:
        error.next_command = None  # it would be this very look
        return error
    return None


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
