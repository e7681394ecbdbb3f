"""`validate` and `schema`: specs without a host."""

from __future__ import annotations

from pathlib import Path

import click

from orchestrator.cli.command import Call, spec_argument, verb
from orchestrator.cli.render.spans import count
from orchestrator.cli.terminal import clean, styled


@verb(
    "validate",
    examples="""
    mkupgrade validate plan.yaml
    mkupgrade validate plan.yaml --json | jq -r .spec_digest
    """,
)
@spec_argument
def validate(call: Call, spec: Path) -> None:
    """Check a spec, or a saved plan: needs neither root nor the host.

    Every problem is shown at once, each with file, line and column. Exit code 1 if there is one.
    """
    import sys

    from orchestrator.cli.wiring import load_target

    document, _ = load_target(spec)
    checks = len(document.checks) + sum(len(w.checks) for w in document.workloads)
    if call.json:
        call.out_json(
            {
                "valid": True,
                "path": str(spec),
                "name": document.metadata.name,
                "spec_digest": document.digest(),
                "instances": [i.name for i in document.instances],
                "workloads": [w.name for w in document.workloads],
                "checks": checks,
            }
        )
        return
    parts = (
        count(len(document.instances), "instance"),
        count(len(document.workloads), "workload"),
        count(checks, "check"),
    )
    valid = styled("valid", sys.stdout, fg="green", bold=True)
    call.out(f"{clean(spec)}: {valid}: {clean(document.metadata.name)}, {', '.join(parts)}")


@verb(
    "schema",
    examples="""
    mkupgrade schema > plan.schema.json
    mkupgrade schema --policy > policy.schema.json
    """,
    json_help="The schema is JSON in any case.",
)
@click.option("--policy", is_flag=True, help="Of /etc/mkupgrade/policy.yaml instead.")
def schema(call: Call, *, policy: bool) -> None:
    """Print the JSON Schema of plan.yaml, for editors."""

    from orchestrator.loading.schema import schema_text
    from orchestrator.model.policy import Policy
    from orchestrator.model.spec import UpgradeSpec

    call.out(schema_text(Policy if policy else UpgradeSpec).rstrip("\n"))
