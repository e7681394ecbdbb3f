"""docs/dependencies.md gives the reason for each dependency, and for nothing else."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def listed(title: str) -> list[str]:
    page = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    section = page.split(f"## {title}", 1)[1].split("\n## ", 1)[0]
    return [
        row for row in re.findall(r"^\| ([\w.-]+) \| ", section, re.MULTILINE) if row != "package"
    ]


def names(requirements: list[str]) -> list[str]:
    return [re.split(r"[<>=~! \[]", requirement, maxsplit=1)[0] for requirement in requirements]


def test_every_dependency_has_its_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    assert listed("Runtime (Python)") == sorted(names(project["dependencies"]), key=str.lower)
    extras = project["optional-dependencies"]
    assert listed("Development (Python, extra `dev`)") == sorted(
        names(extras["dev"]), key=str.lower
    )
    assert listed("Fuzzing (Python, extra `fuzz`)") == sorted(names(extras["fuzz"]))
