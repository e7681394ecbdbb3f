"""The example plans, with files that are there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[3]


def document(name: str, directory: Path, **rest: Any) -> dict[str, Any]:
    """`plans/NAME.yaml` as a document: kernels and state in `directory`, hooks that do nothing,
    workloads that write into `log` what they are told, and no checks of them and of instances.

    Args:
        rest: keys that replace those of the plan.
    """
    text = (ROOT / "plans" / f"{name}.yaml").read_text(encoding="utf-8")
    for there, here in {
        "/boot/vmlinux-7.1.0-mk3": str(directory / "vmlinux"),
        "/boot/vmlinux-7.0.0-mk2": str(directory / "old"),
        "/etc/mkupgrade/traffic": "/bin/true",
    }.items():
        text = text.replace(there, here)
    found: dict[str, Any] = yaml.safe_load(text)
    for instance in found["instances"]:
        instance.pop("ready", None)
    for workload in found.get("workloads", []):
        workload.pop("checks", None)
        for verb in ("stop", "start"):
            told = f'echo "{verb} {workload["name"]} $MKUPGRADE_INSTANCE" >> "$0"'
            workload["migrate"][verb] = ["sh", "-c", told, str(directory / "log")]
    found["host"] |= {"state_dir": str(directory / "state"), "allow_volatile_state": True}
    found["soak"] = {"duration": "10ms"}
    return found | rest


def written(plan: dict[str, Any], directory: Path) -> Path:
    """As a file. JSON is YAML."""
    path = directory / "plan.yaml"
    path.write_text(json.dumps(plan))
    return path
