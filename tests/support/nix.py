"""Nix with a store of its own: nothing outside of a test's directory changes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
TESTS = ROOT / "tests/nix"

needs_nix = pytest.mark.skipif(
    shutil.which("nix") is None and os.environ.get("CI") != "true",
    reason="nix is not installed (Debian: apt-get install nix-bin)",
)
"""Without nix: skipped for a user, failed in CI."""


def run(store: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    """Run a nix program, whatever comes of it.

    Args:
        store: directory of the store, its database and the home; made when it is not there.
    """
    store.mkdir(parents=True, exist_ok=True)
    env = dict(os.environ)
    env |= {
        "NIX_STORE_DIR": str(store / "store"),
        "NIX_STATE_DIR": str(store / "state"),
        "NIX_LOG_DIR": str(store / "log"),
        "NIX_CONFIG": "sandbox = false\nbuild-users-group =\nsubstitute = false\n"
        "experimental-features = nix-command flakes\nflake-registry =\n",
        "HOME": str(store),
    }
    return subprocess.run(argv, env=env, capture_output=True, text=True, timeout=100, check=False)


def output(store: Path, *argv: str) -> str:
    """What a nix program says on stdout; a test fails where it fails."""
    done = run(store, *argv)
    assert done.returncode == 0, done.stderr
    return done.stdout


def evaluate(store: Path, expression: str) -> Any:
    """The value of an expression, whose paths begin at `TESTS`."""
    return json.loads(output(store, *evaluation(expression)))


def unit_file(unit: Any, mkupgrade: str | None = None) -> str:
    """A unit that the module makes, as systemd reads it.

    Args:
        mkupgrade: the program that stands for the package's; None: one that exists, for whatever
            the unit runs.
    """
    lines = ["[Unit]", f"Description={unit['description']}"]
    sections = {"[Unit]": unit["unitConfig"], "[Service]": unit["serviceConfig"]}
    for section, settings in sections.items():
        lines.append(section)
        for key, value in settings.items():
            for each in value if isinstance(value, list) else [value]:
                text = str(each).lower() if isinstance(each, bool) else str(each)
                if key in {"ExecStart", "ExecCondition"}:
                    program, _, rest = text.partition("/bin/mkupgrade ")
                    text = f"{mkupgrade} {rest}" if mkupgrade and program else "/bin/true"
                lines.append(f"{key}={text}")
    return "\n".join(lines) + "\n"


def evaluation(expression: str) -> list[str]:
    """How to evaluate an expression, for `run`."""
    # Files of the store that an expression mentions are written only in this mode.
    return [
        "nix-instantiate", "--read-write-mode", "--eval", "--strict", "--json",
        "--expr", f"let at = {TESTS}; in {expression}",
    ]  # fmt: skip
