"""What `nixos upgrade` carries out: a plan like any other, in a file like any other.

It is written into the state directory, so that whatever is to be done next (apply it again, sign
it, rehearse its workloads) can be done by the other verbs.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from orchestrator.cli.files import write_text
from orchestrator.model.errors import SpecError
from orchestrator.nixos.errors import UNCHANGED

FILE = "nixos-upgrade.yaml"


def write_plan(toplevel: str, plan: Path | None, state_dir: Path) -> Path:
    """A spec for this system, in the state directory; where it is.

    Args:
        plan: a spec that has all but the kernel, which is replaced; None: no workloads, no checks.
        state_dir: of a plan of our own; another one has its own.

    Raises:
        SpecError: the plan cannot be used, or has several instances.
        MkupgradeError: it cannot be written, or the directory is not a private one.
    """
    from orchestrator.system.files import make_private_directory

    document, kept_in = (
        (_document(state_dir), state_dir.absolute()) if plan is None else _of_plan(plan)
    )
    instance = document["instances"][0]
    kept = {key: value for key, value in instance["kernel"].items() if key == "signature"}
    instance["kernel"] = {"nixos": {"system": toplevel}, **kept}
    path = make_private_directory(kept_in) / FILE
    write_text(path, json.dumps(document, indent=2) + "\n", mode=0o600)
    return path


def _document(state_dir: Path) -> dict[str, Any]:
    return {
        "api_version": "mkupgrade/v1",
        "metadata": {"name": "nixos-upgrade"},
        "host": {"state_dir": str(state_dir.absolute())},
        "instances": [{"name": "host", "kernel": {}}],
    }


def _of_plan(plan: Path) -> tuple[dict[str, Any], Path]:
    """As it was written, and its state directory."""
    from orchestrator.loading import as_written, load_spec
    from orchestrator.loading.source import read_source

    text = read_source(plan)
    spec = load_spec(text, str(plan))
    if len(spec.instances) != 1:
        raise SpecError(
            f"a NixOS host is one instance, and the plan has {len(spec.instances)}",
            where=str(plan),
            state=UNCHANGED,
        )
    return as_written(text), Path(spec.host.state_dir)
